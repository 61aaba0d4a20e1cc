"""Lanes, chunks and splits against char-rnn's layout written with plain lists."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import Vocab, small_text_warning, split_corpus, streams

TINYSHAKESPEARE = 1_115_394


def lanes_by_hand(ids, batch_size, seq_length):
    """char-rnn: trim, view as B rows, cut columns; targets are the text shifted by one.

    Returns:
      The chunks in order, each a pair of B rows of T ids: inputs and targets.
    """
    size = batch_size * seq_length
    usable = (len(ids) - 1) // size * size
    inputs, targets = ids[:usable], ids[1 : usable + 1]
    row = usable // batch_size
    chunks = []
    for start in range(0, row, seq_length):
        cut = [
            [part[b * row + start :][:seq_length] for b in range(batch_size)]
            for part in (inputs, targets)
        ]
        chunks.append(tuple(cut))
    return chunks


def chunks_of(lanes):
    """All chunks of a split as pairs of inputs and targets, read through window."""
    seq_length = lanes.seq_length
    for k in range(lanes.num_chunks):
        window_BxT1 = lanes.window(k * seq_length, seq_length + 1)
        yield window_BxT1[:, :-1].tolist(), window_BxT1[:, 1:].tolist()


def counts(streams):
    return [lanes.num_chunks for lanes in streams]


def split_numbers(length, batch_size=50, seq_length=50, train=0.95, val=0.05, **more):
    return split_corpus(
        np.arange(length, dtype=np.uint32),
        batch_size=batch_size,
        seq_length=seq_length,
        train_frac=train,
        val_frac=val,
        **more,
    )


sizes = st.integers(1, 7)


@given(st.integers(2, 400), sizes, sizes, st.integers(1, 100), st.integers(0, 100))
def test_lanes_hold_the_chunks_of_char_rnn_in_its_order(length, b, t, train, val):
    train, val = train / 100, min(val, 100 - train) / 100
    try:
        streams = split_numbers(length, b, t, train, val)
    except TextError:
        return
    expected = lanes_by_hand(list(range(length)), b, t)
    got = [chunk for lanes in streams for chunk in chunks_of(lanes)]
    assert [tuple(chunk) for chunk in got] == expected


@given(st.integers(2, 400), sizes, sizes, st.integers(1, 100), st.integers(0, 100))
def test_contiguous_parts_hold_the_lanes_of_each_part(length, b, t, train, val):
    train, val = train / 100, min(val, 100 - train) / 100
    try:
        streams = split_numbers(length, b, t, train, val, split="contiguous")
    except TextError:
        return
    # In whole numbers: a hundredth of the length is exact where the length is scaled.
    first = int(length * round(train * 100) // 100)
    second = int(length * round(val * 100) // 100)
    if round((train + val) * 100) == 100:
        second = length - first
    text = list(range(length))
    parts = [text[:first], text[first : first + second], text[first + second :]]
    for lanes, part in zip(streams, parts, strict=True):
        expected = lanes_by_hand(part, b, t) if part else []
        assert [tuple(chunk) for chunk in chunks_of(lanes)] == expected


@pytest.mark.parametrize("split", ["lanes", "contiguous"])
def test_each_chunk_goes_on_where_the_one_before_it_ended(split):
    streams = split_numbers(5_000, 3, 7, 0.8, 0.1, split=split)
    for lanes in streams:
        chunks = list(chunks_of(lanes))
        assert len(chunks) > 2
        for (_, targets), (inputs, _) in itertools.pairwise(chunks):
            assert [row[-1] for row in targets] == [row[0] for row in inputs]


def test_tinyshakespeare_has_423_train_and_23_validation_chunks():
    assert counts(split_numbers(TINYSHAKESPEARE)) == [423, 23, 0]


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (0.9, 0.1, [90, 10, 0]),
        (0.7, 0.3, [70, 30, 0]),
        (0.57, 0.43, [57, 43, 0]),
        (0.29, 0.07, [29, 7, 64]),
        (0.1 + 0.2, 0.1, [30, 10, 60]),
        (1 - 0.9, 0.9, [10, 90, 0]),
        (0.8, 0.1, [80, 10, 10]),
        (0.955, 0.045, [95, 5, 0]),
        (0.5, 0.0, [50, 0, 50]),
        (1.0, 0.0, [100, 0, 0]),
        (0.999, 0.0, [99, 0, 1]),
    ],
)
def test_fractions_count_chunks_as_written_not_as_floats_round(train, val, expected):
    assert counts(split_numbers(100 * 6 + 1, 2, 3, train, val)) == expected


def test_fractions_that_make_one_but_for_a_float_error_leave_no_test_split():
    train, val = 0.01 + 0.06, 1 - 0.01 - 0.06
    assert train + val < 1
    assert counts(split_numbers(50 * 6 + 1, 2, 3, train, val)) == [3, 47, 0]


def test_one_character_is_left_over_for_the_last_target():
    assert counts(split_numbers(12, 2, 3, 1.0, 0.0)) == [1, 0, 0]
    assert counts(split_numbers(13, 2, 3, 1.0, 0.0)) == [2, 0, 0]


def test_a_window_is_a_contiguous_copy_of_the_corpus_type():
    ids = np.arange(13, dtype=np.uint8)
    ids.flags.writeable = False
    train = split_corpus(
        ids, batch_size=2, seq_length=3, train_frac=1.0, val_frac=0.0
    ).train
    window_BxL = train.window(1, 6)
    assert window_BxL.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    assert window_BxL.dtype == np.uint8
    assert window_BxL.flags.c_contiguous
    window_BxL[:] = 0
    assert ids.tolist() == list(range(13))


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 8), (7, 1), (0, -1)])
def test_a_window_beyond_the_lane_is_an_error(start, length):
    train = split_numbers(13, 2, 3, 1.0, 0.0).train
    with pytest.raises(TextError, match="A window must be within 0 to 7"):
        train.window(start, length)


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(0.95, 0.05), (0.8, 0.1), (0.3, 0.0), (0.01, 0.5)]),
    st.sampled_from(["lanes", "contiguous"]),
)
def test_the_sizes_that_an_error_offers_fit_and_the_next_do_not(
    length, b, t, fractions, split
):
    def complaint(b, t):
        try:
            split_numbers(length, b, t, *fractions, split=split)
        except TextError as error:
            return str(error)
        return None

    said = complaint(b, t)
    if said is None:
        return
    assert f"{length:,} characters with batch_size {b}, seq_length {t}." in said
    offered = dict(re.findall(r"data\.(\w+) to at most (\d+)", said))
    largest_b = int(offered.get("batch_size", 0))
    largest_t = int(offered.get("seq_length", 0))
    assert largest_b < b
    assert largest_t < t
    assert complaint(largest_b + 1, t)
    assert complaint(b, largest_t + 1)
    assert largest_b == 0 or complaint(largest_b, t) is None
    assert largest_t == 0 or complaint(b, largest_t) is None


def test_a_split_without_a_chunk_says_which():
    with pytest.raises(
        TextError, match="The train split must have a chunk; got none in 10 characters"
    ):
        split_numbers(10, 50, 50)
    with pytest.raises(TextError, match=r"The val split must have a chunk.*val_frac=0"):
        split_numbers(2_000, 10, 10, 0.9, 0.01)
    with pytest.raises(TextError, match="Try a longer text"):
        split_numbers(1, 50, 50)


def test_absurd_sizes_are_an_error_at_once():
    with pytest.raises(TextError, match=r"lowering data.batch_size to at most 19\.$"):
        split_numbers(2_000, 10**12, 100, 1.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"batch_size": 0}, "data.batch_size must be at least 1; got 0"),
        ({"seq_length": -5}, "data.seq_length must be at least 1; got -5"),
        ({"train": -0.1}, r"data.train_frac must be from 0 to 1; got -0.1"),
        ({"train": 1.1}, r"data.train_frac must be from 0 to 1; got 1.1"),
        ({"val": float("nan")}, "data.val_frac must be from 0 to 1; got nan"),
        ({"train": 0.0}, "data.train_frac must be more than 0"),
        ({"train": 0.9, "val": 0.2}, r"at most 1; got 0.9 \+ 0.2"),
        ({"split": "random"}, "'lanes' or 'contiguous'; got 'random'"),
    ],
)
def test_an_argument_out_of_range_is_an_error(changed, word):
    with pytest.raises(TextError, match=word) as caught:
        split_numbers(**{"length": 1_000, "batch_size": 2, "seq_length": 3, **changed})
    assert "\n" not in str(caught.value)


def test_few_chunks_make_a_warning_with_the_numbers():
    few = split_numbers(49 * 6 + 1, 2, 3, 0.8, 0.1)
    assert "Only 49 chunks (39 train, 4 val, 6 test)" in str(small_text_warning(few))
    assert small_text_warning(split_numbers(50 * 6 + 1, 2, 3, 0.8, 0.1)) is None


@given(st.integers(20, 400), st.integers(1, 5), st.integers(1, 4), st.integers(4, 900))
def test_the_bytes_of_characters_are_counted_in_no_more_than_asked(length, b, t, most):
    text = "".join(chr(97 + i % 5 if i % 3 else 0x3B1 + i % 7) for i in range(length))
    vocab, read = Vocab.of(text), []

    class Noted(streams.Lanes):
        def window(self, start, length):
            read.append(super().window(start, length))
            return read[-1]

    width = (length // b - 1) // t * t
    assume(width)
    starts = tuple(range(0, b * (length // b), length // b))
    lanes = Noted(vocab.encode(text), starts, width // t, b, t)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_COUNTED", most)
        patch.setattr(streams, "_PLACES", 4)
        size = streams.bytes_per_character(lanes, vocab)
    ids = np.concatenate([part.ravel() for part in read])
    assert size == pytest.approx(len(str(vocab.decode(ids)).encode()) / len(ids))
    assert len(ids) <= max(most, 4 * b)
    if most >= b * width + 4 * b:  # all of them
        whole = "".join(text[start : start + width] for start in starts)
        assert size == pytest.approx(len(whole.encode()) / len(whole))
