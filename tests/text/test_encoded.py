"""A cached encoding is used only while it is that of the text, to the last byte."""

import hashlib
import json
import os
import random
import time
import tracemalloc

import pytest

from charjax.errors import TextError
from charjax.text import open_corpus, reading
from tests.text.corpora import (
    CACHED,
    STORY,
    inodes,
    names_in,
    write_text,
)


def age(path, seconds=100):
    """Makes the times of a file old enough that they are relied on."""
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - seconds * 10**9))


@pytest.fixture
def settled(monkeypatch):
    """Makes every file old enough that its stamp is relied on."""
    monkeypatch.setattr(reading, "_SETTLED_NS", -(10**12))


def test_an_unchanged_text_is_encoded_once(folder, said):
    open_corpus(folder, say=said.append)
    before = inodes(folder)
    assert len(said) == 1
    open_corpus(folder, say=said.append)
    assert len(said) == 1
    assert inodes(folder) == before


def test_an_unchanged_old_text_is_not_read_again(folder, settled, monkeypatch):
    open_corpus(folder)
    monkeypatch.setattr(reading.Text, "pieces", lambda self: pytest.fail("read"))
    assert open_corpus(folder).vocab.decode(open_corpus(folder).ids) == STORY


def test_a_touched_text_is_compared_not_encoded(folder, settled, said, monkeypatch):
    open_corpus(folder)
    age(folder / "input.txt")
    before = inodes(folder)
    open_corpus(folder, say=said.append)
    assert said == []
    assert inodes(folder)["input.utf-8.ids"] == before["input.utf-8.ids"]
    monkeypatch.setattr(reading.Text, "pieces", lambda self: pytest.fail("read"))
    open_corpus(folder)


def test_a_text_that_changed_at_once_in_the_same_size_is_encoded_again(tmp_path, said):
    for k in range(20):
        content = bytes([97 + k, 98 + k]) * 50
        write_text(tmp_path, content)
        corpus = open_corpus(tmp_path, say=said.append)
        assert corpus.vocab.decode(corpus.ids) == content.decode()


def test_a_change_within_one_tick_of_a_coarse_clock_is_seen(folder, monkeypatch):
    tick = time.time_ns()
    monkeypatch.setattr(reading, "_stamp", lambda stat: [stat.st_size, tick, tick])
    open_corpus(folder)
    changed = STORY.encode().replace(b"ok", b"no")
    write_text(folder, changed)
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == changed.decode()


def test_a_change_that_keeps_size_and_time_is_seen(folder, settled):
    open_corpus(folder)
    stat = os.stat(folder / "input.txt")
    changed = STORY.encode().replace(b"ok", b"no")
    write_text(folder, changed)
    os.utime(folder / "input.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == changed.decode()


def test_a_new_text_is_encoded_and_this_is_said(folder, said):
    open_corpus(folder)
    write_text(folder, b"abcabc")
    assert open_corpus(folder, say=said.append).vocab.symbols == "abc"
    assert said[0].endswith("input.txt has changed since it was encoded")
    assert said[1].endswith("input.txt (6 bytes)")


@pytest.mark.parametrize("name", CACHED[1:])
def test_either_file_missing_is_made_again(folder, name):
    open_corpus(folder)
    (folder / name).unlink()
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert names_in(folder) == CACHED


def test_any_flipped_byte_of_the_header_is_found_and_encoded_again(tmp_path):
    text = bytes(range(128))
    write_text(tmp_path, text)
    open_corpus(tmp_path)
    path = tmp_path / CACHED[2]
    sound = path.read_bytes()
    chance = random.Random(0)
    for offset in range(0, len(sound), 1 + len(sound) // 100):
        damaged = bytearray(sound)
        damaged[offset] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        said = []
        corpus = open_corpus(tmp_path, say=said.append)
        assert corpus.vocab.decode(corpus.ids) == text.decode()
        assert said[0].startswith(f"{path} is damaged (")
        assert "\n" not in said[0]


@pytest.mark.parametrize("name", CACHED[1:])
@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_or_longer_file_is_found_and_encoded_again(folder, name, keep):
    open_corpus(folder)
    path = folder / name
    sound = path.read_bytes()
    for damaged in (sound[:keep], sound + b" "):
        path.write_bytes(damaged)
        corpus = open_corpus(folder)
        assert corpus.vocab.decode(corpus.ids) == STORY


def forged(note, **changes):
    """A note whose own checksum holds, as only ill will could make it."""
    body = {key: value for key, value in note.items() if key != "check"} | changes
    check = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps({**body, "check": check}).encode()


def hostile_notes(sound):
    note = json.loads(sound)
    yield b"[" * 100_000
    yield b'{"vocab":' * 100_000
    yield b"null"
    yield b"[]"
    yield b"9" * 100_000
    yield sound.replace(b'"format": 2', b'"format": 3')
    yield sound[:-1] + b', "__proto__": {"path": "../../x"}}'
    yield forged(note, ids={"count": 10**18, "crc32": []})
    yield forged(note, ids={"count": 10**400, "crc32": []})
    yield forged(note, ids={"count": -5, "crc32": []})
    yield forged(note, ids={"count": 0, "crc32": []})
    yield forged(note, ids={"count": len(STORY), "crc32": []})
    yield forged(note, ids={"count": len(STORY), "crc32": [0, 0]})
    yield forged(note, ids={"count": len(STORY), "crc32": 0})
    yield forged(note, ids={"count": 5.0, "crc32": [float("nan")]})
    yield forged(note, vocab={"encoding": "bytes", "symbols": [*range(256)]})
    yield forged(note, vocab={"encoding": "utf-8", "symbols": "ab"})
    yield forged(note, vocab={"encoding": "utf-8", "symbols": "../../x\ud800"})
    yield forged(note, text={"sha256": "../../x", "stamp": [10**400] * 3})


def test_a_hostile_note_does_nothing_but_be_replaced(folder):
    open_corpus(folder)
    path = folder / "input.utf-8.json"
    for hostile in hostile_notes(path.read_bytes()):
        path.write_bytes(hostile)
        corpus = open_corpus(folder)
        try:
            corpus.ids[:]
        except TextError:  # only now it is seen that the vocabulary is another
            (folder / "input.utf-8.ids").unlink()
            corpus = open_corpus(folder)
        assert corpus.vocab.decode(corpus.ids) == STORY
        assert names_in(folder) == CACHED


def test_a_cache_of_the_first_format_is_made_again_and_the_text_is_not_touched(
    folder, said
):
    open_corpus(folder)
    path, before = folder / "input.utf-8.json", inodes(folder)
    note = json.loads(path.read_bytes())
    path.write_bytes(forged(note, format=1, ids={"count": len(STORY), "crc32": 7}))
    corpus = open_corpus(folder, say=said.append)
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert said[0] == f"{path} is of an older charjax"
    assert json.loads(path.read_bytes()) == note
    assert inodes(folder)["input.txt"] == before["input.txt"]


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
@pytest.mark.parametrize("name", CACHED[1:])
def test_a_pipe_in_place_of_a_cache_file_is_an_error_that_does_not_wait(folder, name):
    open_corpus(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(
        TextError, match=r"must be a regular file .*got a pipe"
    ) as caught:
        open_corpus(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    assert open_corpus(folder).vocab.decode(open_corpus(folder).ids) == STORY


def test_a_note_of_absurd_size_is_not_read_whole(folder):
    open_corpus(folder)
    with open(folder / "input.utf-8.json", "wb") as file:
        file.truncate(200_000_000)  # sparse
    tracemalloc.start()
    try:
        corpus = open_corpus(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
    assert corpus.vocab.decode(corpus.ids) == STORY
