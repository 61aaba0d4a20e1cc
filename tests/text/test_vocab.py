"""The vocabulary against plain Python: dictionaries, sorted sets, str and bytes."""

import copy
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import Vocab

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
any_texts = texts | st.binary(min_size=1)

ODD = "\x00\r\n\u2028\ufeff\u0301e\U0001f600\U0010ffff"


def encode_slowly(text, symbols):
    number = {symbol: i for i, symbol in enumerate(symbols)}
    return [number[symbol] for symbol in text]


@given(any_texts)
def test_encode_equals_a_dictionary_look_up_and_decode_takes_it_back(text):
    vocab = Vocab.of(text)
    ids = vocab.encode(text)
    assert ids.tolist() == encode_slowly(text, vocab.symbols)
    assert ids.dtype == vocab.dtype
    assert vocab.decode(ids) == text


@given(any_texts)
def test_the_vocabulary_is_sorted_distinct_and_the_same_for_any_order(text):
    vocab = Vocab.of(text)
    assert list(vocab.symbols) == sorted(set(text))
    assert Vocab.of(text[::-1]) == vocab
    assert hash(Vocab.of(text[::-1])) == hash(vocab)


@given(any_texts)
def test_json_takes_any_vocabulary_there_and_back(text):
    vocab = Vocab.of(text)
    again = Vocab.from_json(json.loads(json.dumps(vocab.to_json())))
    assert again == vocab
    assert type(again.symbols) is type(vocab.symbols)


@given(texts, texts)
def test_unknown_symbols_are_named_or_skipped(known, text):
    vocab = Vocab.of(known)
    kept = [symbol for symbol in text if symbol in set(known)]
    assert vocab.decode(vocab.encode(text, on_unknown="skip")) == "".join(kept)
    unknown = [i for i, symbol in enumerate(text) if symbol not in set(known)]
    if unknown:
        with pytest.raises(TextError) as caught:
            vocab.encode(text)
        first = unknown[0]
        assert f"(U+{ord(text[first]):04X}) at position {first} " in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@given(texts, texts)
def test_difference_and_extended_equal_set_arithmetic(one, two):
    first, second = Vocab.of(one), Vocab.of(two)
    only_first, only_second = first.difference(second)
    assert set(only_first) == set(one) - set(two)
    assert set(only_second) == set(two) - set(one)
    extended = first.extended(second)
    assert extended.symbols[: len(first)] == first.symbols
    assert set(extended.symbols) == set(one) | set(two)
    assert extended.encode(one).tolist() == first.encode(one).tolist()


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65_536, "uint16"),
        (65_537, "uint32"),
    ],
)
def test_ids_have_the_narrowest_type_and_none_is_lost_at_its_edge(size, dtype):
    text = "".join(map(chr, range(0xE000, 0xE000 + size)))
    ids = Vocab.of(text).encode(text)
    assert ids.dtype == dtype
    assert ids.tolist() == list(range(size))


def test_256_distinct_bytes_fit_in_one_byte_each():
    text = bytes(range(256))
    vocab = Vocab.of(text)
    assert vocab.encode(text).dtype == np.uint8
    assert vocab.decode(vocab.encode(text)) == text


def test_odd_characters_stay_as_they_are():
    vocab = Vocab.of(ODD)
    assert vocab.decode(vocab.encode(ODD)) == ODD
    assert len(vocab) == len(ODD)


def test_text_of_the_other_kind_goes_through_utf_8():
    assert Vocab.of("é".encode()).encode("éé").tolist() == [1, 0, 1, 0]
    assert Vocab.of("aé").encode("éa".encode()).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("vocab", "text", "word"),
    [
        (Vocab.of("ab"), "abc", "'c' (U+0063) at position 2 "),
        (Vocab.of("ab"), "a\u2028", r"'\u2028' (U+2028) at position 1 "),
        (Vocab.of("ab"), "\ud800", r"'\ud800' (U+D800) at position 0 "),
        (Vocab.of("éb"), "bbé\U0001f600", "U+1F600) at position 3 "),
        (Vocab.of(b"ab"), "aé", "Byte 0xC3 at position 1 "),
        (Vocab.of("ab"), b"\xff", "valid UTF-8"),
        (Vocab.of(b"ab"), "\ud800", "valid UTF-8"),
        (Vocab.of("ab"), None, "must be str or bytes; got NoneType. Try ''."),
        (Vocab.of(b"ab"), 5, "must be str or bytes; got int"),
    ],
)
def test_a_text_that_cannot_be_encoded_is_an_error_of_one_line(vocab, text, word):
    with pytest.raises(TextError) as caught:
        vocab.encode(text)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_word_for_on_unknown_is_an_error():
    with pytest.raises(TextError, match="'error' or 'skip'; got 'ignore'"):
        Vocab.of("ab").encode("ab", on_unknown="ignore")


@pytest.mark.parametrize("ids", [[2], [-1], [0.5], [[0, 1]], [True]])
def test_ids_outside_the_vocabulary_are_an_error(ids):
    with pytest.raises(TextError, match=r"^Ids must be .*; got "):
        Vocab.of("ab").decode(ids)


def test_decode_takes_lists_scalars_and_jax_arrays():
    vocab = Vocab.of("ab")
    assert vocab.decode([]) == ""
    assert vocab.decode(1) == "b"
    assert vocab.decode(jax.numpy.array([1, 0])) == "ba"
    assert Vocab.of(b"ab").decode([]) == b""


@pytest.mark.parametrize("symbols", ["", b"", "aba", b"aa", "a\ud800", 5, ["a"], None])
def test_symbols_that_make_no_vocabulary_are_an_error(symbols):
    with pytest.raises(TextError, match=r"^(A|The symbols of a) vocabulary must "):
        Vocab(symbols)


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        {"encoding": "utf-8"},
        {"encoding": "utf-8", "symbols": "ab", "__proto__": {}},
        {"encoding": "utf-8", "symbols": [97]},
        {"encoding": "utf-8", "symbols": ""},
        {"encoding": "utf-8", "symbols": "aa"},
        {"encoding": "utf-8", "symbols": "\ud800"},
        {"encoding": "utf-16", "symbols": "ab"},
        {"encoding": ["utf-8"], "symbols": "ab"},
        {"encoding": "bytes", "symbols": "ab"},
        {"encoding": "bytes", "symbols": [256]},
        {"encoding": "bytes", "symbols": [-1]},
        {"encoding": "bytes", "symbols": [1.0]},
        {"encoding": "bytes", "symbols": [True]},
        {"encoding": "bytes", "symbols": [10**400]},
        {"encoding": "bytes", "symbols": [97, 97]},
        {"encoding": "bytes", "symbols": []},
    ],
)
def test_json_that_is_not_a_vocabulary_is_an_error(plain):
    with pytest.raises(TextError, match=r"^(A|The symbols of a) vocabulary must "):
        Vocab.from_json(plain)


def test_vocabularies_of_different_units_do_not_mix():
    with pytest.raises(TextError, match="encoding"):
        Vocab.of("ab").difference(Vocab.of(b"ab"))
    with pytest.raises(TextError, match="encoding"):
        Vocab.of("ab").extended(Vocab.of(b"ab"))
    assert Vocab.of("ab") != Vocab.of(b"ab")


def test_a_vocabulary_is_a_static_argument_that_compiles_once():
    traced = []

    def count(vocab, x):
        traced.append(vocab)
        return x * len(vocab)

    jitted = jax.jit(count, static_argnums=0)
    assert jitted(Vocab.of("abc"), 2) == 6
    assert jitted(Vocab.of("cba"), 3) == 9
    assert len(traced) == 1


def test_a_copy_is_equal_and_the_text_of_a_large_one_is_short():
    vocab = Vocab.of("".join(map(chr, range(0x4E00, 0x9000))))
    vocab.encode("中")
    assert copy.deepcopy(vocab) == vocab
    assert len(repr(vocab)) < 120
