"""Slices of an encoded text are those of an array, and damage stops who reads it."""

import json
import random
import tempfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import blocks, open_corpus, reading, split_corpus
from charjax.text.blocks import Ids
from tests.text.corpora import STORY, write_text

BLOCK = 16  # bytes


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK)


def numbers_of(text):
    number = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    return np.array([number[symbol] for symbol in text])


@given(
    st.integers(2, 600).map(lambda n: "".join(map(chr, range(0xE000, 0xE000 + n)))),
    st.lists(st.tuples(st.integers(-700, 700), st.integers(-700, 700)), max_size=9),
)
def test_slices_are_those_of_an_array(text, bounds):
    with tempfile.TemporaryDirectory() as folder:
        write_text(folder, text.encode())
        for ids in (open_corpus(folder).ids, open_corpus(folder).ids):
            for start, stop in bounds:
                expected = numbers_of(text)[start:stop]
                np.testing.assert_array_equal(ids[start:stop], expected)
            np.testing.assert_array_equal(ids, numbers_of(text))
            assert len(ids) == len(text)


@pytest.mark.parametrize("part", [0, slice(None, None, 2), slice(None, None, -1)])
def test_what_is_not_a_plain_slice_is_refused(folder, part):
    with pytest.raises(TypeError, match="must be sliced as"):
        open_corpus(folder).ids[part]


def test_an_array_of_all_ids_is_a_copy(folder):
    ids = open_corpus(folder).ids
    assert np.array(ids).flags.writeable
    with pytest.raises(ValueError, match="copy must be"):
        np.array(ids, copy=False)


def test_the_header_has_the_checksum_of_each_block(folder, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 7)
    open_corpus(folder)
    raw = (folder / "input.utf-8.ids").read_bytes()
    assert len(raw) % BLOCK
    expected = [zlib.crc32(raw[i : i + BLOCK]) for i in range(0, len(raw), BLOCK)]
    header = json.loads((folder / "input.utf-8.json").read_bytes())
    assert header["ids"] == {"count": len(STORY), "crc32": expected}


def test_any_flipped_bit_stops_whoever_reads_its_block_and_no_one_else(folder):
    open_corpus(folder)
    path, sound = folder / "input.utf-8.ids", numbers_of(STORY)
    raw, chance = path.read_bytes(), random.Random(0)
    for offset in range(len(raw)):
        damaged = bytearray(raw)
        damaged[offset] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        ids, first = open_corpus(folder).ids, offset - offset % BLOCK
        last = min(first + BLOCK, len(raw))
        np.testing.assert_array_equal(ids[:first], sound[:first])
        if last < len(raw):
            np.testing.assert_array_equal(ids[last:], sound[last:])
        for part in (slice(first, first + 1), slice(last - 1, last), slice(None)):
            with pytest.raises(TextError, match="Try deleting that file") as caught:
                ids[part]
            assert str(caught.value).startswith(f"{path} must be as it was encoded")
            assert f"bytes {first} to {last}." in str(caught.value)
            assert "\n" not in str(caught.value)
    path.unlink()
    corpus = open_corpus(folder)
    assert corpus.vocab.decode(corpus.ids) == STORY
    assert (folder / "input.txt").read_bytes() == STORY.encode()


def test_an_id_beyond_the_vocabulary_is_damage_whatever_its_checksum(tmp_path):
    raw = bytes([0, 1, 2, 1])
    (tmp_path / "ids").write_bytes(raw)
    for size in (3, 2):
        checksums = (zlib.crc32(raw),)
        ids = Ids(tmp_path / "ids", np.dtype("u1"), 4, size, checksums)
        if size == 3:
            assert ids[:].tolist() == [0, 1, 2, 1]
            continue
        with pytest.raises(TextError, match="must be as it was encoded"):
            ids[:1]


def test_a_file_cut_short_while_it_is_read_is_damage(folder):
    ids = open_corpus(folder).ids
    ids[:]
    with open(folder / "input.utf-8.ids", "r+b") as file:
        file.truncate(20)
    assert ids[:20].tolist() == numbers_of(STORY)[:20].tolist()
    with pytest.raises(TextError, match="must be as it was encoded"):
        ids[10:30]


def test_a_window_of_some_lanes_reads_no_block_of_the_others(folder, monkeypatch):
    ids, read = open_corpus(folder).ids, []
    plain = Ids._read

    def note(self, first, last):
        read.append((first, last))
        return plain(self, first, last)

    monkeypatch.setattr(Ids, "_read", note)
    sizes = {"batch_size": 4, "seq_length": 8, "train_frac": 0.5, "val_frac": 0.25}
    lanes = split_corpus(ids, **sizes).train.part(slice(2, 4))
    assert read == []
    window_BxL = lanes.window(0, 8)
    expected = [numbers_of(STORY)[start : start + 8] for start in lanes.starts]
    np.testing.assert_array_equal(window_BxL, expected)
    for first, last in read:
        assert any(first < s + 8 + BLOCK and last > s - BLOCK for s in lanes.starts)
    before = len(read)
    lanes.window(0, 8)
    assert len(read) - before == 2  # what was checked is not checked again
