"""Beam search: against going through all texts."""

import itertools
import math

import pytest

import charjax
from charjax import ConfigError, NGram
from tests.models import VOCAB, make
from tests.oracles import drawing
from tests.predict.test_predictor import PREDICTORS
from tests.predict.test_rules import next_table

PARAMS = make(1)


@pytest.mark.parametrize("name", ["lstm", "ngram", "mixture"])
def test_a_beam_of_all_finds_the_likeliest_text_of_all(name):
    predictor = PREDICTORS[name]
    scores = {
        text: float(charjax.score(predictor, "de" + text).log_probs[2:].sum())
        for text in map("".join, itertools.product(VOCAB.symbols, repeat=2))
    }
    got = charjax.complete(predictor, "de", length=2, beam=len(VOCAB))
    assert got.text == max(scores, key=scores.__getitem__)
    assert got.log_prob == pytest.approx(max(scores.values()), rel=1e-4)


@pytest.mark.parametrize("name", ["lstm", "ngram", "dynamic"])
def test_a_beam_of_one_is_greedy(name):
    predictor = PREDICTORS[name]
    greedy = charjax.complete(predictor, "de", length=3, beam=1)
    assert greedy.text == charjax.sample(predictor, "de", greedy=True, length=3)[2:]


@pytest.mark.parametrize("wanted", ["[abc]+d?", "[^g]{1,3}"])
def test_the_likeliest_match_is_that_of_going_through_all(wanted):
    every = drawing.ending_probabilities(
        next_table, "de", 3, wanted, VOCAB.symbols, is_drawn=False
    )
    got = charjax.complete(PARAMS, "de", length=3, beam=400, match=wanted)
    assert got.text == max(every, key=every.__getitem__)
    assert math.exp(got.log_prob) == pytest.approx(every[got.text], rel=1e-4)


def test_a_completion_ends_after_a_stop_with_the_probability_of_its_characters():
    got = charjax.complete(PARAMS, "de", length=4, beam=300, stop=["a", "b", "c"])
    assert got.text[-1] in "abc"
    scored = charjax.score(PARAMS, "de" + got.text).log_probs[2:]
    assert got.log_prob == pytest.approx(float(scored.sum()), rel=1e-4)


def test_a_wide_beam_finds_what_the_greedy_one_misses():
    ngram = NGram.fit(VOCAB.encode("abababacdcdcdacdcdcd" * 9), VOCAB, order=3)
    likelihoods = [
        charjax.complete(ngram, "b", length=6, beam=b).log_prob for b in (1, 4, 64)
    ]
    assert likelihoods == sorted(likelihoods)


@pytest.mark.parametrize("beam", [0, 1.5, True, 10**6])
def test_impossible_beams_are_refused(beam):
    with pytest.raises(ConfigError, match="beam must be an integer of 1 or more"):
        charjax.complete(PARAMS, "a", beam=beam)
