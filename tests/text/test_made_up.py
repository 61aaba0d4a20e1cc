"""Texts that are made up as they are read: their windows, marks, splits and order."""

import re
from collections import Counter
from random import Random

import numpy as np
import pytest

from charjax.config import check_config
from charjax.errors import TextError
from charjax.text.made_up import (
    corpus_of,
    difficulty,
    held_out_examples,
    made_streams,
)

B, T, K = 3, 20, 40


def data_of(**fields):
    fields = {
        "name": "addition",
        "digits": 2,
        "batch_size": B,
        "seq_length": T,
    } | fields
    return check_config({"data": fields, "train": {"max_steps": K}}).data


def texts_of(lanes, vocab):
    window_BxL = lanes.window(0, lanes.num_chunks * T)
    return [vocab.decode(row) for row in window_BxL]


def questions_in(lanes):
    texts = texts_of(lanes, corpus_of("addition").vocab)
    return re.findall(r"(\d+\+\d+)=\d+\n", "".join(texts))


def test_a_chunk_has_whole_examples_and_newlines_up_to_its_end():
    train = made_streams(data_of(), K, 1).train
    for text in texts_of(train, corpus_of("addition").vocab):
        for chunk in re.findall(f"(?s).{{{T}}}", text):
            assert re.fullmatch(r"(\d+\+\d+=\d+\n)+\n*", chunk)


def test_answers_and_their_ends_are_all_that_counts():
    train, vocab = made_streams(data_of(), K, 1).train, corpus_of("addition").vocab
    window_BxL, counts_BxL = train.window(0, K * T + 1), train.counts(0, K * T)
    for ids, counts in zip(window_BxL, counts_BxL, strict=True):
        expected = np.zeros(K * T + 1, bool)
        for match in re.finditer(r"(?<==)\d+\n", vocab.decode(ids)):
            expected[match.start() : match.end()] = True
        np.testing.assert_array_equal(counts, expected[1:])


@pytest.mark.parametrize("name", ["addition", "programs"])
def test_a_window_is_the_same_wherever_reading_begins(name):
    data = data_of(name=name, digits=1, seq_length=60)
    whole = made_streams(data, K, 1).train
    ids, counts = whole.window(0, K * 60 + 1), whole.counts(0, K * 60)
    for start, length in [(0, 1), (59, 3), (60, 121), (700, 200), (K * 60 - 1, 2)]:
        anew = made_streams(data, K, 1).train
        end = start + length
        np.testing.assert_array_equal(anew.window(start, length), ids[:, start:end])
        np.testing.assert_array_equal(
            anew.counts(start, length - 1), counts[:, start : end - 1]
        )


def test_the_seed_changes_what_is_trained_on_and_not_what_is_held_out():
    (one, val, test), (two, other_val, _) = (
        made_streams(data_of(), K, seed) for seed in (1, 2)
    )
    assert questions_in(one) != questions_in(two)
    assert questions_in(val) == questions_in(other_val)
    assert test.num_chunks == 0


def test_nothing_that_is_validated_on_is_trained_on():
    data = data_of(digits=1)
    train, val, _ = made_streams(data, K, 1)
    trained = set(questions_in(train))
    assert len(trained) > 80
    assert trained.isdisjoint(questions_in(val))
    for examples in held_out_examples(data, 50):
        assert examples
        assert trained.isdisjoint(e.question.rstrip("=") for e in examples)


def test_held_out_examples_come_by_difficulty_easy_ones_first_and_once():
    levels = held_out_examples(data_of(name="programs", nesting=3, seq_length=150), 20)
    found = [{(e.digits, e.nesting) for e in examples} for examples in levels]
    assert found == [{(d, n)} for n in (1, 2, 3) for d in (1, 2)]
    assert all(len(set(examples)) == len(examples) for examples in levels)


def shares(curriculum, progress):
    data, random = data_of(name="programs", nesting=2, seq_length=100), Random(0)
    drawn = [difficulty(curriculum, progress, random, data) for _ in range(4000)]
    return {level: count / 4000 for level, count in Counter(drawn).items()}


def test_each_curriculum_has_its_difficulties_at_each_place_of_the_text():
    levels = [(1, 1), (2, 1), (1, 2), (2, 2)]
    any_level = pytest.approx(dict.fromkeys(levels, 0.25), abs=0.03)
    for quarter, level in enumerate(levels):
        for progress in (quarter / 4, quarter / 4 + 0.24):
            assert shares("none", progress) == {(2, 2): 1}
            assert shares("naive", progress) == {level: 1}
            assert shares("mixed", progress) == any_level
            half = dict.fromkeys(levels, 0.125) | {level: 0.625}
            assert shares("combined", progress) == pytest.approx(half, abs=0.03)
    assert shares("naive", 1.0) == {(2, 2): 1}


def test_a_curriculum_goes_through_the_text_and_ends_with_the_run():
    train = made_streams(data_of(curriculum="naive"), K, 1).train
    vocab = corpus_of("addition").vocab
    longest = [
        max(map(len, re.findall(r"\d+(?=[+=])", "".join(map(vocab.decode, window)))))
        for window in (
            train.window(0, K // 2 * T),
            train.window(K // 2 * T, K // 2 * T),
        )
    ]
    assert longest == [1, 2]


def test_a_chunk_too_short_for_the_longest_example_is_an_error():
    with pytest.raises(
        TextError, match=r"seq_length must be at least 10, .*got 9\. Try"
    ):
        made_streams(data_of(seq_length=9), K, 1)
    made_streams(data_of(seq_length=10), K, 1).train.window(0, 11)
