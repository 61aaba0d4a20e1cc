"""Sealed JSON: any changed bit is found, and parsing it takes bounded memory."""

import hashlib
import tracemalloc

import pytest

from charjax.storage import sealed

PLAIN = {"step": 90, "loss": 2.5, "text": "ü\U0001f98a", "more": [None, {"a": True}]}


def by_hand(rest: str) -> bytes:
    digest = hashlib.sha256(rest.encode()).hexdigest()
    return f'{{"sha256": "{digest}", {rest}'.encode()


def test_what_was_sealed_comes_back():
    assert sealed.unseal(sealed.seal(PLAIN)) == PLAIN


def test_any_flipped_bit_is_found():
    raw = sealed.seal(PLAIN)
    for place in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match="damaged"):
            sealed.unseal(bytes(changed))


@pytest.mark.parametrize("length", [0, 10, 80, -1])
def test_a_cut_file_is_found(length):
    with pytest.raises(ValueError, match="damaged"):
        sealed.unseal(sealed.seal(PLAIN)[:length])


def test_a_field_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        sealed.unseal(by_hand('"step": 1, "step": 2}'))


@pytest.mark.parametrize(
    "piece", ["{},", "[],", '{"a":1},', "[[]],", "12,", '"a",', '{"a":{"b":{}}},']
)
def test_parsing_takes_little_more_memory_than_the_file_may(piece):
    """As 30 MB of the first, unbounded, took 1 GB."""
    rest = '"a": [' + piece * (sealed.MAX_BYTES // len(piece) - 100) + "0]}"
    raw = by_hand(rest)
    assert len(raw) < sealed.MAX_BYTES
    del rest
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"must have at most .* (values|objects)"):
            sealed.unseal(raw)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("piece", "count"),
    [("[0.5,1],", 690_000), ("{},", 65_000), ("1234567,", 2_000_000)],
)
def test_as_many_values_as_are_allowed_take_bounded_memory(piece, count):
    raw = by_hand('"a": [' + piece * count + "0]}")
    tracemalloc.start()
    try:
        assert len(sealed.unseal(raw)["a"]) == count + 1
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_there_is_room_for_every_code_point_and_a_long_history():
    symbols = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    history = [[1_000_000 + step, 1.2345678901234567 + step] for step in range(400_000)]
    plain = {"vocab": symbols, "progress": {"train": history}}
    assert sealed.unseal(sealed.seal(plain)) == plain


def test_what_could_not_be_unsealed_is_not_sealed():
    with pytest.raises(ValueError, match="must have at most 33,554,432 bytes"):
        sealed.seal({"a": "x" * sealed.MAX_BYTES})
