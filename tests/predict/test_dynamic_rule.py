"""Wrong rules, statistics and texts for dynamic evaluation: one line each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import (
    ConfigError,
    Dynamic,
    DynamicRule,
    TextError,
    gather_statistics,
    tune_dynamic,
)
from tests.models import VOCAB, make

V = len(VOCAB)
PARAMS = make()
IDS = np.arange(40, dtype=np.int32) % V


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": -1.0}, "rate must be a number of 0 or more; got -1.0. Try 0.00015"),
        ({"rate": float("nan")}, "rate must be a number of 0 or more; got nan"),
        ({"rule": "sgd", "rate": "1"}, "rate must be a number .*; got '1'. Try 0.1"),
        ({"decay": 1.5}, "decay must be a number from 0 to 1; got 1.5. Try 0.001"),
        ({"epsilon": -0.1}, "epsilon must be a number of 0 or more; got -0.1"),
        ({"chunk_length": 0}, "chunk_length must be an integer of 1 or more; got 0"),
        ({"chunk_length": 2.5}, "chunk_length must be an integer of 1 or more; got 2"),
        ({"rule": "adam"}, "rule must be one of rms, sgd; got 'adam'"),
    ],
)
def test_a_wrong_rule_is_refused_in_a_line(fields, message):
    with pytest.raises(ConfigError, match=message) as error:
        DynamicRule(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        (None, "the rule 'rms' must have statistics; got none"),
        (make(hidden_size=7), r"must have the shape of the weights, .*; got"),
        (make(num_layers=3), "must be of the same model and vocabulary"),
        (make(vocab=charjax.Vocab.of("hijklmn")), "the same model and vocabulary"),
        (jax.tree.map(jnp.zeros_like, PARAMS), "must be finite and not all 0"),
    ],
)
def test_statistics_of_something_else_are_refused_in_a_line(stats, message):
    with pytest.raises(ConfigError, match=message) as error:
        Dynamic(PARAMS, stats)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            IDS[:3],
            "must have a chunk and a character more, 4 char",
        ),
        (IDS[:0], "must have a chunk and a character more"),
        (IDS[:9] + 1.0, "ids must be integers; got float64"),
        (np.full(9, V), f"ids must be 0 to {V - 1}; got {V}"),
    ],
)
def test_a_text_without_statistics_is_refused_in_a_line(ids, message):
    with pytest.raises(TextError, match=message):
        gather_statistics(PARAMS, ids, chunk_length=3)


def test_other_wrong_arguments_are_refused():
    params, stats = PARAMS, jax.tree.map(jnp.ones_like, PARAMS)
    with pytest.raises(ConfigError, match="params must be of type Params"):
        Dynamic("cv/run", stats)
    with pytest.raises(ConfigError, match="rule must be of type DynamicRule"):
        Dynamic(params, stats, "rms")
    with pytest.raises(ConfigError, match="execution must be of type Execution"):
        Dynamic(params, stats, execution="scan")
    with pytest.raises(ConfigError, match="chunk_length must be"):
        gather_statistics(params, IDS, chunk_length=0)
    with pytest.raises(TextError, match="two characters or more; got shape"):
        tune_dynamic(params, stats, IDS[:1])
