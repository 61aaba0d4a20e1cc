"""Small models whose predictions are far from uniform, made without compiling."""

import jax
import numpy as np

import charjax
from charjax import Execution, ModelSpec, Params, Vocab

VOCAB = Vocab.of("abcdefg")
KINDS = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "gru_reset_before", "embedding_size": 3},
    {"cell": "rnn", "num_layers": 1},
    {"cell": "lstm", "embedding_size": 6, "tied": True},
]
# How models run in tests that hold for every precision, and how near they come.
EXECUTIONS = [(Execution(), 1e-5), (Execution(precision="bfloat16"), 2e-2)]


def make(seed: int = 0, vocab: Vocab = VOCAB, **fields) -> Params:
    spec = ModelSpec(**{"hidden_size": 6, "num_layers": 2} | fields)
    shapes = jax.eval_shape(
        lambda key: charjax.init(key, spec, vocab), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype)),
        shapes,
    )
