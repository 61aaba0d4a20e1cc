"""Drawn text: against a slow loop over the training graph, and by its frequencies."""

import dataclasses
import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import ConfigError, TextError, Vocab
from charjax.predict import draw, predictor
from charjax.predict.cut import Cut, without_cut
from tests.compilations import compilations
from tests.models import KINDS, VOCAB, make

V = len(VOCAB)

# The training graph, and what it says of the next character.
apply = jax.jit(charjax.apply)


def draw_slowly(params, prime, temperature, length, seed=0, num_texts=1, text=0):
    """Draws one of several texts by running the whole graph anew for each character."""
    ids = list(params.vocab.encode(prime))
    key, shape = jax.random.key(seed), (num_texts, len(params.vocab))
    for position in range(length):
        noise_V = jax.random.gumbel(jax.random.fold_in(key, position), shape)[text]
        if not ids:
            ids.append(int(np.argmax(noise_V)))
            continue
        # To one length for all; what comes after has no say in what comes before.
        padded = np.pad(ids, (0, -len(ids) % 50))
        logits_V = apply(params, padded[None])[0][0, len(ids) - 1]
        ids.append(int(np.argmax(logits_V + temperature * noise_V)))
    return params.vocab.decode(ids)


def assert_drawn_from(probabilities, drawn):
    """Pearson's test, at a level that a fixed seed passes or a wrong sampler fails.

    Of k expected frequencies the sum of (observed - expected)^2 / expected exceeds
    k + 5 sqrt(2 k) about once in 20,000 times.
    """
    counts, total = Counter(drawn), len(drawn)
    assert set(counts) <= {x for x, p in probabilities.items() if p > 0}
    expected = {x: p * total for x, p in probabilities.items() if p * total >= 5}
    misfit = sum((counts[x] - e) ** 2 / e for x, e in expected.items())
    assert misfit < len(expected) + 5 * math.sqrt(2 * len(expected))


def test_texts_shared_among_cores_equal_those_drawn_together(monkeypatch):
    params = make(cell="gru")
    together = charjax.sample(params, "cab", length=20, num_samples=7)
    monkeypatch.setattr(draw, "num_shares", lambda texts: 3)
    assert charjax.sample(params, "cab", length=20, num_samples=7) == together


def drawn_after(params, prime, count=4000, length=1, **options):
    texts = charjax.sample(params, prime, num_samples=count, length=length, **options)
    return [text[len(prime) :] for text in texts]


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2], KINDS[4]])
@pytest.mark.parametrize("prime", ["", "badge"])
def test_text_equals_a_slow_loop_over_the_training_graph(kind, prime):
    params = make(**kind)
    expected = draw_slowly(params, prime, 0.8, length=12, seed=3)
    assert charjax.sample(params, prime, 0.8, length=12, seed=3) == expected


def test_each_text_of_a_batch_equals_the_slow_loop():
    params = make()
    texts = charjax.sample(params, "cab", 1.3, length=8, seed=1, num_samples=3)
    for text, got in enumerate(texts):
        assert got == draw_slowly(params, "cab", 1.3, 8, 1, num_texts=3, text=text)


def test_first_texts_do_not_depend_on_how_many_follow():
    params = make()
    one = charjax.sample(params, "cab", length=60)
    three = charjax.sample(params, "cab", length=60, num_samples=3)
    assert three[:1] == [one] == charjax.sample(params, "cab", length=60, num_samples=1)
    assert len(set(three)) == 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_characters_come_as_often_as_they_are_probable(temperature):
    params = make(1)
    expected = charjax.next_chars(params, "deaf", temperature=temperature)
    drawn = drawn_after(params, "deaf", temperature=temperature)
    assert_drawn_from(expected, drawn)


def test_pairs_come_as_often_as_they_score():
    params = make(1)
    pairs = map("".join, itertools.product(VOCAB.symbols, repeat=2))
    expected = {
        pair: math.exp(charjax.score(params, "deaf" + pair).log_probs[4:].sum())
        for pair in pairs
    }
    assert_drawn_from(expected, drawn_after(params, "deaf", length=2, seed=5))


@pytest.mark.parametrize(
    "options", [{}, {"greedy": True}, {"temperature": 0.1, "top_k": 1}, {"top_p": 0.1}]
)
def test_first_character_after_no_prime_is_uniform_whatever_the_options(options):
    drawn = drawn_after(make(), "", **options)
    assert_drawn_from(dict.fromkeys(VOCAB.symbols, 1 / V), drawn)


def keep_naively(probabilities, top_k, top_p):
    """The likeliest k, of these the likeliest that reach p, scaled to add up to 1."""
    kept = sorted(probabilities.items(), key=lambda item: -item[1])[: top_k or None]
    among, held = sum(p for _, p in kept), 0.0
    for place, (_, probability) in enumerate(kept, start=1):
        held += probability / among
        if held >= top_p:
            kept = kept[:place]
            break
    total = sum(p for _, p in kept)
    return {x: p / total for x, p in kept}


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"),
    [(3, 1, 1), (0, 0.7, 1), (0, 0.7, 2), (4, 0.8, 1.5), (1, 1, 1), (100, 1e-300, 1)],
)
def test_cut_characters_never_come_and_the_others_in_proportion(
    top_k, top_p, temperature
):
    params = make(1)
    table = charjax.next_chars(params, "deaf", temperature=temperature)
    expected = keep_naively(table, top_k, top_p)
    drawn = drawn_after(
        params, "deaf", temperature=temperature, top_k=top_k, top_p=top_p
    )
    assert_drawn_from(expected, drawn)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 3.0])
def test_the_cut_keeps_what_a_naive_filter_keeps(temperature):
    logits_BxV = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32) * 2
    compiled = jax.jit(without_cut)
    for top_k, top_p in itertools.product((1, 7, 30), (1e-6, 0.3, 0.9, 1)):
        cut = Cut(top_k, top_p if top_p < 1 else None)
        got_BxV = compiled(logits_BxV, temperature, cut)
        for logits_V, got_V in zip(logits_BxV, np.asarray(got_BxV), strict=True):
            scaled_V = (logits_V - logits_V.max()).astype(float) / (temperature or 1)
            probabilities = dict(enumerate(np.exp(scaled_V)))
            kept = sorted(keep_naively(probabilities, top_k, top_p))
            np.testing.assert_array_equal(np.flatnonzero(got_V > -np.inf), kept)
            np.testing.assert_array_equal(got_V[kept], logits_V[kept])


def test_equally_likely_characters_are_kept_together():
    logits_1xV = jnp.array([[0.0, 1.0, 1.0, 1.0]])
    got = without_cut(logits_1xV, 1.0, Cut(2, 0.5))
    assert got.tolist() == [[-math.inf, 1, 1, 1]]


def test_top_p_and_top_k_that_keep_all_change_nothing():
    params = make()
    expected = charjax.sample(params, "a", length=200)
    assert charjax.sample(params, "a", length=200, top_k=V) == expected
    assert charjax.sample(params, "a", length=200, top_p=1 - 1e-12) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"greedy": True},
        {"temperature": 0},
        {"temperature": 1e-30, "top_p": 0.9},
        {"top_k": 1},
        {"top_p": 1e-9},
    ],
)
def test_greedy_takes_the_likeliest_character_whatever_the_seed(options):
    params, text = make(), "ab"
    for _ in range(20):
        text += next(iter(charjax.next_chars(params, text)))
    for seed in range(2):
        got = charjax.sample(params, "ab", length=20, seed=seed, **options)
        assert got == text


@pytest.mark.parametrize("temperature", [1e30, 1e300])
def test_any_huge_temperature_draws_uniformly(temperature):
    drawn = drawn_after(make(), "deaf", temperature=temperature)
    assert_drawn_from(dict.fromkeys(VOCAB.symbols, 1 / V), drawn)


@pytest.mark.parametrize("prime", ["", "abc"])
def test_a_shorter_text_is_the_beginning_of_a_longer_one(prime):
    params, piece = make(), draw._DRAWN_CHARACTERS
    longest = charjax.sample(params, prime, length=2 * piece + 10)
    assert len(longest) == len(prime) + 2 * piece + 10
    for length in (0, 1, 2, piece - 1, piece, piece + 1, 2 * piece):
        got = charjax.sample(params, prime, length=length)
        assert got == longest[: len(prime) + length]


@pytest.mark.parametrize("prime", ["", "abc"])
def test_streamed_pieces_join_to_the_sample(prime):
    params = make()
    options = {"length": 1100, "seed": 4, "top_k": 5}
    pieces = list(charjax.stream(params, prime, 0.7, **options))
    assert len(pieces) > 3
    assert pieces[0] == prime
    assert "".join(pieces) == charjax.sample(params, prime, 0.7, **options)


def test_text_does_not_depend_on_the_size_of_pieces(monkeypatch):
    params = make()
    prime, options = "gab" * 7, {"length": 50, "num_samples": 3}
    expected = charjax.sample(params, prime, **options)
    monkeypatch.setattr(draw, "_DRAWN_CHARACTERS", 9)
    monkeypatch.setattr(predictor, "_PIECE", 4)
    assert charjax.sample(params, prime, **options) == expected
    monkeypatch.setattr(draw, "_NOISE", 1)  # too little for even one character
    assert charjax.sample(params, prime, **options) == expected


def test_text_after_a_prime_of_many_pieces_equals_the_slow_loops():
    params = make()
    prime = "".join(np.random.default_rng(1).choice(list(VOCAB.symbols), 3000))
    assert len(prime) > 2 * predictor._PIECE
    expected = draw_slowly(params, prime, 1.0, length=5)
    assert charjax.sample(params, prime, length=5) == expected


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_no_value_compiles_anew(cell):
    fields = {"cell": cell, "hidden_size": 5}
    params, others = make(**fields), make(1, **fields)
    with compilations() as compiled:
        charjax.sample(params, "abc", length=3)
    assert sum("_draw_" in name for name in compiled) == 1
    charjax.sample(params, "a", length=3)  # one character is read by a smaller program
    with compilations() as compiled:
        for prime, length, temperature in [
            ("a", 700, 0.3),
            ("g" * 2000, 1, 0),
            ("", 9, 2),
        ]:
            charjax.sample(others, prime, temperature, length=length, seed=length)
            "".join(charjax.stream(params, prime, temperature, length=length))
        charjax.sample(params, "abc", greedy=True)
    assert compiled == []


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ({"top_k": 2}, [{"top_k": 1}, {"top_p": 0.2}, {"top_k": 10**20, "min_p": 0.5}]),
        (
            {"top_k": 2, "min_p": 0.1, "stop": "ab"},
            [{"top_k": 1, "min_p": 0.3, "stop": ("cd", "d")}],
        ),
    ],
)
def test_a_set_of_rules_compiles_once_for_all_its_values(first, others):
    params = make(hidden_size=4)
    with compilations() as compiled:
        charjax.sample(params, "abc", length=3, **first)
    loops = ("_draw_piece", "_draw_by_kernel")  # JAX's, and the compiled kernel
    assert sum(loop in name for name in compiled for loop in loops) == 1
    with compilations() as compiled:
        for options in others:
            charjax.sample(params, "abc", length=5, **options)
    assert compiled == []


def test_a_seed_gives_the_text_of_its_key_and_is_0_by_default():
    params = make()
    by_key = charjax.sample(params, "a", length=50, key=jax.random.key(0))
    assert charjax.sample(params, "a", length=50, seed=0) == by_key
    assert charjax.sample(params, "a", length=50) == by_key
    assert charjax.sample(params, "a", length=50, seed=1) != by_key


def test_a_vocabulary_of_bytes_gives_bytes():
    params = make(vocab=Vocab.of(b"\x00\xff\xc3\xa4"))
    text = charjax.sample(params, "ä", length=40)
    assert isinstance(text, bytes)
    assert text[:2] == b"\xc3\xa4"
    assert len(text) == 42
    assert b"".join(charjax.stream(params, b"\xc3\xa4", length=40)) == text
    assert charjax.sample(params, length=0) == b""


def test_unknown_characters_of_the_prime_are_an_error_or_are_left_out():
    params = make()
    for function in (charjax.sample, charjax.stream):
        with pytest.raises(TextError, match=r"'!'.* position 2 "):
            function(params, "ab!c")
    got = charjax.sample(params, "ab!c", length=20, on_unknown="skip")
    assert got == charjax.sample(params, "abc", length=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be a finite number of 0 or more"),
        ({"temperature": math.nan}, "got nan"),
        ({"temperature": math.inf}, "got inf"),
        ({"temperature": "hot"}, "got 'hot'"),
        ({"temperature": "1"}, "got '1'"),
        ({"temperature": 10**400}, "temperature must be"),
        ({"temperature": [1.0]}, "temperature must be"),
        ({"length": -1}, "length must be an integer of 0 or more"),
        ({"length": 1.5}, r"got 1\.5"),
        ({"top_k": -1}, "top_k must be an integer of 0 or more; got -1"),
        ({"top_p": 0}, "top_p must be more than 0 and at most 1; got 0"),
        ({"top_p": 1.01}, r"got 1\.01"),
        ({"top_p": math.nan}, "got nan"),
        ({"seed": -1}, "seed must be an integer of 0 or more"),
        ({"seed": 2**32}, "less than 4,294,967,296"),
        ({"seed": 1, "key": jax.random.key(0)}, "key and seed must not both be given"),
        ({"key": 5}, r"key must be one jax\.random\.key"),
        ({"key": jax.random.split(jax.random.key(0))}, "key must be one"),
        ({"key": np.zeros(2, np.uint32)}, "key must be one"),
        ({"on_unknown": "drop"}, "on_unknown must be 'error' or 'skip'"),
    ],
)
@pytest.mark.parametrize("function", [charjax.sample, charjax.stream])
def test_impossible_arguments_are_refused_in_one_line(function, options, message):
    with pytest.raises((ConfigError, TextError), match=message) as error:
        function(make(), "abc", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_samples", [0, -1, 2.0, True])
def test_impossible_numbers_of_samples_are_refused(num_samples):
    with pytest.raises(ConfigError, match="num_samples must be an integer of 1"):
        charjax.sample(make(), "abc", num_samples=num_samples)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("prime", ["", "cab"])
def test_a_model_whose_logits_are_nan_is_refused(cell, prime):
    params = make(cell=cell)
    bias_V = params.readout_bias_V.at[2].set(jnp.nan)
    with pytest.raises(ConfigError, match="got NaN"):
        charjax.sample(
            dataclasses.replace(params, readout_bias_V=bias_V), prime, length=5
        )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_model_in_single_precision_is_drawn_from_where_double_is_the_default(cell):
    params = make(cell=cell)
    expected = charjax.sample(params, "cab", length=9)
    with jax.enable_x64(True):
        assert charjax.sample(params, "cab", length=9) == expected
