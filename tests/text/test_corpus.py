"""Any text is encoded as slow, simple code does it; other files are refused."""

import hashlib
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charjax.errors import MissingTextError, TextError
from charjax.text import open_corpus, reading
from tests.text.corpora import (
    STORY,
    inodes,
    names_in,
    write_text,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def encode_slowly(text):
    number = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    return [number[symbol] for symbol in text]


@given(texts, st.integers(1, 9))
def test_any_unicode_text_is_encoded_as_a_dictionary_does(text, piece_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, text.encode())
        if len(set(text)) == 1:
            with pytest.raises(TextError, match="at least two distinct"):
                open_corpus(folder)
            return
        for corpus in (open_corpus(folder), open_corpus(folder)):
            assert corpus.ids[:].tolist() == encode_slowly(text)
            assert corpus.vocab.symbols == "".join(sorted(set(text)))
            assert corpus.vocab.decode(corpus.ids) == text
            assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()


@given(st.binary(min_size=1), st.integers(1, 9))
def test_any_bytes_are_encoded_as_a_dictionary_does(content, piece_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, content)
        if len(set(content)) == 1:
            with pytest.raises(TextError, match="at least two distinct"):
                open_corpus(folder, "bytes")
            return
        for corpus in (open_corpus(folder, "bytes"), open_corpus(folder, "bytes")):
            assert corpus.ids[:].tolist() == encode_slowly(content)
            assert corpus.vocab.symbols == bytes(sorted(set(content)))
            assert corpus.vocab.decode(corpus.ids) == content


@given(
    st.lists(st.binary(max_size=4) | texts.map(str.encode), min_size=1).map(b"".join),
    st.integers(1, 9),
)
def test_invalid_utf_8_is_refused_where_python_refuses_it(content, piece_bytes):
    try:
        content.decode()
        return
    except UnicodeDecodeError as error:
        offset = error.start
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece_bytes)
        write_text(folder, content)
        with pytest.raises(TextError) as caught:
            open_corpus(folder)
        assert f"0x{content[offset]:02X} at offset {offset} (" in str(caught.value)
        assert "data.encoding='bytes'" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert names_in(folder) == ["input.txt"]


@pytest.mark.parametrize(
    ("count", "dtype"), [(256, np.uint8), (257, np.uint16), (65_537, np.uint32)]
)
def test_many_code_points_take_the_narrowest_type(tmp_path, count, dtype):
    text = "".join(map(chr, range(0xE000, 0xE000 + count)))
    write_text(tmp_path, text.encode())
    corpus = open_corpus(tmp_path)
    assert len(corpus.vocab) == count
    assert corpus.ids.dtype == dtype
    assert corpus.ids[:].tolist() == list(range(count))
    assert (
        tmp_path / "input.utf-8.ids"
    ).stat().st_size == count * corpus.ids.dtype.itemsize


def test_256_distinct_bytes_take_one_byte_each(tmp_path):
    write_text(tmp_path, bytes(range(256)) * 3)
    corpus = open_corpus(tmp_path, "bytes")
    assert corpus.ids.dtype == np.uint8
    assert corpus.ids[:].tolist() == list(range(256)) * 3


def test_both_encodings_live_side_by_side(folder):
    as_text, as_bytes = open_corpus(folder), open_corpus(folder, "bytes")
    assert as_text.vocab.decode(as_text.ids) == STORY
    assert as_bytes.vocab.decode(as_bytes.ids) == STORY.encode()
    assert len(names_in(folder)) == 5


def test_memory_does_not_grow_with_the_text(tmp_path):
    write_text(tmp_path, STORY.encode() * (30_000_000 // len(STORY.encode())))
    tracemalloc.start()
    try:
        open_corpus(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_texts_side_by_side_have_caches_of_their_own(tmp_path):
    texts = ["input.txt", "input", "poem.txt", "poem.md", "poem", ".poem", "Gedicht ä"]
    for number, name in enumerate(texts):
        (tmp_path / name).write_bytes(bytes([97 + number, 98 + number]) * 9)
    for _ in range(2):
        for number, name in enumerate(texts):
            said = []
            corpus = open_corpus(tmp_path / name, say=said.append)
            assert corpus.vocab.symbols == chr(97 + number) + chr(98 + number)
            assert corpus.path == tmp_path / name
    assert said == []
    assert len(names_in(tmp_path)) == 3 * len(texts)
    assert open_corpus(tmp_path).vocab.symbols == "ab"


def test_a_file_and_its_folder_are_the_same_text(folder):
    open_corpus(folder)
    before = inodes(folder)
    corpus = open_corpus(folder / "input.txt")
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert inodes(folder) == before


@pytest.mark.parametrize("length", [150, 151, 255])
def test_a_name_as_long_as_the_file_system_allows_has_a_cache(tmp_path, length):
    for letter in "xy":
        text = tmp_path / (letter * length)
        text.write_text(f"{letter}z" * 9)
        assert open_corpus(text).vocab.symbols == f"{letter}z"
        said = []
        open_corpus(text, say=said.append)
        assert said == []
    assert len(names_in(tmp_path)) == 6


@pytest.mark.parametrize("encoding", ["utf-8", "bytes"])
def test_a_byte_order_mark_is_kept_and_said_once(tmp_path, encoding):
    write_text(tmp_path, "\ufeffabab".encode())
    said = []
    for _ in range(2):
        corpus = open_corpus(tmp_path, encoding, say=said.append)
    marks = [line for line in said if "byte order mark (U+FEFF)" in line]
    assert len(marks) == (encoding == "utf-8")
    assert corpus.vocab.decode(corpus.ids) in ("\ufeffabab", "\ufeffabab".encode())


def test_a_mark_that_is_not_at_the_start_is_a_character_like_others(tmp_path, said):
    write_text(tmp_path, "ab\ufeff".encode())
    open_corpus(tmp_path, say=said.append)
    assert len(said) == 1


def test_an_empty_text_is_an_error(folder):
    write_text(folder, b"")
    with pytest.raises(TextError, match=r"input.txt is empty"):
        open_corpus(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "bytes"])
def test_one_distinct_character_is_an_error(folder, encoding):
    write_text(folder, b"a" * 1_000)
    with pytest.raises(TextError, match=r"at least two distinct .* got only b?'a'"):
        open_corpus(folder, encoding)


def test_a_missing_text_is_an_error_that_lists_the_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "data" / "my_poems"
    own.mkdir(parents=True)
    (own / "input.txt").write_text("ab")
    for folder in (tmp_path / "nowhere", own / "input.txt" / "no"):
        with pytest.raises(MissingTextError) as caught:
            open_corpus(folder)
        message = str(caught.value)
        assert "my_poems, python, shakespeare, tinyshakespeare" in message
        assert str(folder) in message
        assert "\n" not in message


def test_a_folder_in_place_of_the_text_is_an_error(tmp_path):
    (tmp_path / "input.txt").mkdir()
    with pytest.raises(
        TextError, match=r"input\.txt must be a text file; got a folder"
    ):
        open_corpus(tmp_path)


def test_an_unknown_encoding_is_an_error(folder):
    with pytest.raises(TextError, match="'utf-8' or 'bytes'; got 'latin-1'"):
        open_corpus(folder, "latin-1")
