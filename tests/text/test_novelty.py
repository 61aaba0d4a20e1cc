"""Novel substrings: against Python's own `in`."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax import ConfigError, TextError, novel_share
from charjax.text import novelty


def novel_share_naively(sample, training, max_length):
    shares = []
    for n in range(1, max_length + 1):
        substrings = [sample[i : i + n] for i in range(len(sample) - n + 1)]
        novel = [substring not in training for substring in substrings]
        shares.append(sum(novel) / len(novel) if novel else math.nan)
    return shares


def assert_equal_naive(sample, training, max_length):
    np.testing.assert_allclose(
        novel_share(sample, training, max_length),
        novel_share_naively(sample, training, max_length),
        rtol=1e-12,
    )


@given(st.text("ab\n", max_size=30), st.text("ab\nc", max_size=80))
def test_shares_equal_naive_search_in_text_of_few_symbols(sample, training):
    assert_equal_naive(sample, training, 12)


@given(st.text(max_size=20), st.text(max_size=40))
def test_shares_equal_naive_search_in_any_text(sample, training):
    assert_equal_naive(sample + training[3:9], training + sample[2:7], 8)


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_shares_equal_naive_search_in_bytes(sample, training):
    assert_equal_naive(sample + training[3:9], training + sample[2:7], 8)


@settings(max_examples=30)
@given(st.text("ab", max_size=25), st.text("abc", max_size=60))
def test_shares_do_not_depend_on_the_size_of_pieces(sample, training):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(novelty, "_PIECE", 3)
        assert_equal_naive(sample, training, 10)


@settings(max_examples=30)
@given(st.text("abc", max_size=25), st.text("abc", max_size=60))
def test_shares_are_exact_where_all_hashes_are_equal(sample, training):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            novelty._Table, "_hash", lambda table, keys: np.zeros(len(keys), np.int64)
        )
        assert_equal_naive(sample, training, 6)


def test_long_texts_with_copied_passages_equal_naive_search():
    rng = np.random.default_rng(0)
    training = "".join(rng.choice(list("abcd"), 20_000))
    copied = "".join(training[i : i + 60] for i in rng.integers(0, 19_000, 4))
    sample = copied + "".join(rng.choice(list("abcd"), 200))
    assert_equal_naive(sample, training, 49)
    assert 0 < novel_share(sample, training)[48] < 1


def test_a_copy_has_nothing_new():
    training = "to be or not to be, that is the question: whether 'tis nobler in"
    assert novel_share(training[3:60], training).tolist() == [0.0] * 49


def test_a_text_of_other_symbols_is_all_new():
    assert novel_share("x" * 60, "abc").tolist() == [1.0] * 49


def test_lengths_beyond_the_sample_have_no_share():
    assert np.isnan(novel_share("abc", "abc", 5)).tolist() == [False] * 3 + [True] * 2


def test_impossible_arguments_are_refused():
    with pytest.raises(ConfigError, match="max_length must be at least 1; got 0"):
        novel_share("a", "a", 0)
    with pytest.raises(TextError, match="got str and bytes"):
        novel_share("a", b"a")
