"""The rules of drawing: each against a slow version, and by what it lets be drawn."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import charjax
from charjax import ConfigError, Mixture, NGram, Vocab
from charjax.predict import pattern
from charjax.predict.automaton import stops_after
from charjax.predict.cut import Cut, min_p, typical, without_cut
from charjax.predict.pattern import automaton_of
from charjax.predict.repetition import Repetition, less_repeated, recent_of, with_next
from tests.models import VOCAB, make
from tests.oracles import drawing
from tests.predict.test_predictor import Plain, model_predictor
from tests.predict.test_sampling import assert_drawn_from, drawn_after

PARAMS = make(1)
TEXT = "badcabfaceebadge" * 6
NGRAM = NGram.fit(VOCAB.encode(TEXT), VOCAB, order=4)
PREDICTORS = {
    "model": PARAMS,
    "contract": Plain(model_predictor()),
    "ngram": NGRAM,
    "mixture": Mixture([make(), NGRAM], rate=0),
}
logits_1xV = st.lists(
    st.integers(-40, 40).map(lambda x: x / 8), min_size=6, max_size=6, unique=True
).map(lambda x: np.array([x], np.float32))

jitted_min_p, jitted_typical = jax.jit(min_p), jax.jit(typical)


@settings(max_examples=60, deadline=None)
@given(logits_1xV, st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.01, 0.99))
def test_min_p_and_typical_keep_what_slow_versions_keep(logits, temperature, p):
    probabilities = drawing.softmax(logits[0].tolist(), temperature)
    for rule, slow in (
        (jitted_min_p, drawing.kept_by_min_p),
        (jitted_typical, drawing.kept_by_typical),
    ):
        # A share that a sum reaches to a hair may be counted either way.
        slightly = [slow(probabilities, p * (1 + e)) for e in (-1e-4, 1e-4)]
        got = np.asarray(rule(logits, temperature, p))[0]
        kept = set(np.flatnonzero(got > -np.inf))
        assert kept in slightly or slightly[0] != slightly[1]
        assert all(got[i] == logits[0, i] for i in kept)


@pytest.mark.parametrize("rule", [min_p, typical])
@pytest.mark.parametrize("temperature", [0.0, 1e-30])
def test_without_temperature_the_likeliest_is_kept(rule, temperature):
    logits = jnp.array([[1.0, 3.0, 2.9, -5.0]])
    assert np.isfinite(rule(logits, temperature, 0.2)[0, 1])


def test_cuts_apply_one_after_the_other():
    logits = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    got = without_cut(logits, 0.7, Cut(15, 0.9, 0.1, 0.6))
    after = without_cut(logits, 0.7, Cut(top_k=15))
    for cut in (Cut(top_p=0.9), Cut(min_p=0.1), Cut(typical_p=0.6)):
        after = without_cut(after, 0.7, cut)
    np.testing.assert_array_equal(got, after)
    assert 0 < np.isfinite(got).sum() < np.isfinite(logits).sum()


@pytest.mark.parametrize(
    ("option", "slow", "temperature"),
    [
        ({"min_p": 0.3}, drawing.kept_by_min_p, 1.0),
        ({"min_p": 0.6}, drawing.kept_by_min_p, 1.8),
        ({"typical_p": 0.6}, drawing.kept_by_typical, 1.0),
        ({"typical_p": 0.6}, drawing.kept_by_typical, 1.8),
    ],
)
def test_cut_characters_never_come_and_the_others_in_proportion(
    option, slow, temperature
):
    table = charjax.next_chars(PARAMS, "deaf", temperature=temperature)
    kept = slow(list(table.values()), *option.values())
    assert 0 < len(kept) < len(table)
    left = [item for i, item in enumerate(table.items()) if i in kept]
    total = sum(p for _, p in left)
    drawn = drawn_after(PARAMS, "deaf", temperature=temperature, **option)
    assert_drawn_from({x: p / total for x, p in left}, drawn)


jitted_with_next = jax.jit(with_next)
texts = st.text("abc", max_size=20)


@settings(max_examples=40, deadline=None)
@given(texts, texts, st.sampled_from([1, 4, 13]))
@example("a" * 20, "aa", 13)
def test_a_repeat_is_as_long_as_a_search_finds_it(prime, drawn, window):
    vocab = Vocab("abc")
    recent = recent_of(vocab.encode(prime), window, 3)
    for char in vocab.encode(drawn):
        recent = jitted_with_next(recent, np.array([char], np.int32))
    repetition = Repetition(1.0, window)
    got = -np.asarray(less_repeated(np.zeros((1, 3)), recent, repetition))[0]
    expected = [
        drawing.repeated_length(prime + drawn, symbol, window) for symbol in "abc"
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize("name", PREDICTORS)
def test_greedy_text_with_a_penalty_equals_a_slow_loop(name):
    predictor, text = PREDICTORS[name], "abad"
    for _ in range(25):
        table = charjax.next_chars(predictor, text)
        text += max(
            table,
            key=lambda s: (
                math.log(table[s])
                - math.log(1.3) * drawing.repeated_length(text, s, 12)
            ),
        )
    options = {"repetition_penalty": 1.3, "repetition_window": 12}
    got = charjax.sample(predictor, "abad", greedy=True, length=25, **options)
    assert got == text
    assert got != charjax.sample(predictor, "abad", greedy=True, length=25)


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("stop", ["a", "ge", ["bad", "dab", "ad"], ["gg", "fffff"]])
def test_each_text_ends_after_its_first_stop_string(name, stop):
    options = {"length": 60, "num_samples": 5, "seed": 2}
    whole = charjax.sample(PREDICTORS[name], "ba", **options)
    got = charjax.sample(PREDICTORS[name], "ba", stop=stop, **options)
    strings = [stop] if isinstance(stop, str) else stop
    ends = [
        min((text.find(s, 2) + len(s) for s in strings if s in text[2:]), default=62)
        for text in whole
    ]
    assert got == [text[:end] for text, end in zip(whole, ends, strict=True)]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    st.text("abc", max_size=15),
)
def test_the_automaton_of_stops_ends_where_a_search_does(strings, text):
    vocab = Vocab("abc")
    automaton = stops_after([vocab.encode(s) for s in strings], 3)
    state, read = 0, 0
    for char in vocab.encode(text):
        after = automaton.next_SxC[state, automaton.class_V[char]]
        if automaton.steps_S[after] > 0:
            break
        state, read = after, read + 1
    ends = [text.find(s) + len(s) for s in strings if s in text]
    assert read == min(ends, default=len(text))


def test_streamed_pieces_of_a_text_that_stops_join_to_the_sample():
    options = {"length": 2000, "stop": "gagg", "seed": 1}
    pieces = list(charjax.stream(PARAMS, "a", **options))
    assert "".join(pieces) == charjax.sample(PARAMS, "a", **options)


@functools.cache
def next_table(text):
    return charjax.next_chars(PARAMS, text)


PATTERNS = ["[ab]c{2,3}", "(bad|face)+", "[^a]*a", "(ab|ba)*", "(?i)BAD?", "a.?b|.{5}"]


@pytest.mark.parametrize("name", PREDICTORS)
def test_all_texts_match_the_whole_pattern(name):
    for wanted, length in zip(PATTERNS, (3, 9, 5, 7, 40, 6), strict=True):
        texts = charjax.sample(
            *(PREDICTORS[name], "ba"), length=length, num_samples=9, match=wanted
        )
        for text in texts:
            assert re.fullmatch(wanted, text[2:])
            assert len(text) <= length + 2


@pytest.mark.parametrize(
    "wanted", ["[abc]+d?", "a?(b|cd)*", "[^g]{1,3}", "(a|b[cd]){2}"]
)
def test_texts_come_as_often_as_going_through_all_of_them_says(wanted):
    expected = drawing.ending_probabilities(next_table, "de", 3, wanted, VOCAB.symbols)
    assert sum(expected.values()) == pytest.approx(1)
    drawn = drawn_after(PARAMS, "de", length=3, match=wanted)
    assert_drawn_from(expected, drawn)


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\s", r"\n", r"\W"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}|{p[1]})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda p: f"(?:{p[0]}){p[1]}"),
        st.tuples(inner, st.sampled_from(["{2}", "{1,2}", "{,1}", "{2,}"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(patterns)
def test_an_automaton_matches_what_pythons_own_expressions_match(wanted):
    from charjax.predict.pattern_process import automaton

    found, regex = automaton(wanted, "abZ \n"), re.compile(wanted)
    for n in range(5):
        for text in map("".join, itertools.product("abZ \n", repeat=n)):
            state = 0
            for char in text:
                key = found["classes"]["abZ \n".index(char)]
                state = found["table"][state][key] if state >= 0 else -1
            matches = state >= 0 and found["steps"][state] == 0
            assert matches == bool(regex.fullmatch(text))


def test_a_pattern_of_bytes_matches_bytes():
    params = make(vocab=Vocab.of(b"\x00\xff\xc3\xa4"))
    text = charjax.sample(params, length=9, match="ä{2}")
    assert text == b"\xc3\xa4\xa4"
    assert charjax.sample(params, length=9, match=b"\xff{3}") == b"\xff\xff\xff"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_p": 1}, "min_p must be at least 0 and less than 1; got 1"),
        ({"min_p": math.nan}, "min_p must be"),
        ({"typical_p": 0}, "typical_p must be more than 0 and at most 1; got 0"),
        ({"typical_p": "x"}, "typical_p must be"),
        ({"repetition_penalty": 0.9}, "repetition_penalty must be from 1"),
        ({"repetition_penalty": math.inf}, "repetition_penalty must be"),
        ({"repetition_window": 0}, "repetition_window must be an integer of 1"),
        ({"stop": ["a", ""]}, "stop must be one or more strings that are not empty"),
        ({"stop": [3]}, "stop must be one or more strings"),
        ({"stop": "xyz"}, "stop must be of characters that the model can draw"),
        ({"stop": "a" * 5000}, "stop must have at most 4,096 characters; got 5,000"),
        ({"stop": "a", "match": "a"}, "stop and match must not both be given"),
        ({"match": 3}, "match must be a regular expression; got 3"),
        ({"match": b"a"}, "match must be a str for this model"),
        ({"match": "["}, "unterminated character set at position 0"),
        ({"match": r"(a)\1"}, "without back references"),
        ({"match": "(?=a)a"}, r"got \(\?= at position 0"),
        ({"match": "x+"}, "match must be matched by some text of the model's 7"),
        ({"match": "a{9}", "length": 8}, "length must be at least 9, the shortest"),
        ({"match": "(" * 3000 + ")" * 3000}, "too much time or memory"),
    ],
)
def test_impossible_arguments_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        charjax.sample(PARAMS, "abc", **options)
    assert "\n" not in str(error.value)


def test_a_pattern_of_exponential_size_is_refused(monkeypatch):
    monkeypatch.setattr(pattern, "_SECONDS", 1)
    with pytest.raises(ConfigError, match=r"which needs too much time or memory"):
        automaton_of("[ab]*a[ab]{60}", VOCAB)


def test_patterns_of_like_size_and_other_values_compile_once():
    from tests.compilations import compilations

    params, length = make(hidden_size=3), 4
    charjax.sample(params, "a", length=length, match="a+", repetition_penalty=2)
    with compilations() as compiled:
        charjax.sample(params, "b", length=9, match="(b|cd)*", repetition_penalty=3)
    assert compiled == []


def test_texts_shared_among_cores_end_as_those_drawn_together(monkeypatch):
    from charjax.predict import draw

    options = {"length": 20, "num_samples": 7, "stop": "a", "repetition_penalty": 1.5}
    together = charjax.sample(PARAMS, "cab", **options)
    monkeypatch.setattr(draw, "num_shares", lambda texts: 3)
    assert charjax.sample(PARAMS, "cab", **options) == together


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="topk"):
        charjax.sample(PARAMS, "a", topk=3)


def test_drawing_with_rules_runs_under_leak_and_key_checks():
    with jax.checking_leaks():
        text = charjax.sample(PARAMS, "ab", length=5, match="[ab]{5}", min_p=0.01)
    assert re.fullmatch("ab[ab]{5}", text)
