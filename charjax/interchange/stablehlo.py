"""A model as programs for JAX alone, on CPU, CUDA and TPU: a folder.

    sample.stablehlo   (weights, prime_ids_T, positions_L, temperature, seed) -> ids_L
    score.stablehlo    (weights, ids_T) -> log_probs_T, the first uniform, in nats
    weights.npz        the weights by name
    model.json         spec and vocabulary
    run.py             uses them, and needs jax and flatbuffers only

`jax.export` promises that a program runs with versions of JAX of the six months after
the one that wrote it: https://docs.jax.dev/en/latest/export/export.html
"""

import io
import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from charjax.cells.base import Carry
from charjax.checkpoint.formats import stored_spec
from charjax.interchange.files import needed, not_written, require_free
from charjax.interchange.named import EXTRA, arrays_of
from charjax.model import Params, initial_carry
from charjax.model.forward import input_table, step
from charjax.storage.files import scratch_folder
from charjax.unroll import Execution

PLATFORMS = ("cpu", "cuda", "tpu")

# The compiled kernels are for one machine.
_EXECUTION = Execution(unroll="scan")

_State = tuple[jax.Array, Carry]  # the logits of the next character, and the carry


def write_stablehlo(params: Params, folder: Path | str) -> None:
    """Writes a model as programs that need no charjax, with its vocabulary.

    Args:
      params: the model.
      folder: a new folder.

    Raises:
      ConfigError: there is something of its name, or the package flatbuffers is
        missing.
      CheckpointError: it cannot be written.

    Example:
      >>> import charjax
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> write_stablehlo(params, "programs")  # doctest: +SKIP
    """
    folder = Path(folder)
    require_free(folder)
    files = _files(params)
    try:
        with scratch_folder(folder.parent) as scratch:
            whole = scratch / folder.name
            whole.mkdir()
            for name, content in files.items():
                (whole / name).write_bytes(content)
            require_free(folder)  # renaming would replace an empty folder
            os.rename(whole, folder)
    except OSError as error:
        raise not_written(folder, error) from None


def _files(params: Params) -> dict[str, bytes]:
    needed("flatbuffers", EXTRA)
    weights: dict[str, Any] = dict(arrays_of(params))
    shapes = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in weights.items()}
    (T, L) = export.symbolic_shape("T, L")
    ids_T = jax.ShapeDtypeStruct((T,), jnp.int32)
    positions_L = jax.ShapeDtypeStruct((L,), jnp.uint32)
    temperature = jax.ShapeDtypeStruct((), jnp.float32)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    treedef, packed = jax.tree.structure(params), io.BytesIO()
    np.savez(packed, **weights)

    def model(weights: dict[str, Any]) -> Params:
        return jax.tree.unflatten(treedef, [weights[name] for name in shapes])

    def sample(weights: Any, *arguments: Any) -> jax.Array:
        return _sample(model(weights), *arguments)

    def score(weights: Any, ids_T: jax.Array) -> jax.Array:
        return _score(model(weights), ids_T)

    programs = {
        "sample": (sample, shapes, ids_T, positions_L, temperature, seed),
        "score": (score, shapes, ids_T),
    }
    about = {"spec": stored_spec(params.spec), "vocab": params.vocab.to_json()}
    return {
        f"{name}.stablehlo": bytes(
            export.export(jax.jit(function), platforms=PLATFORMS)(*inputs).serialize()
        )
        for name, (function, *inputs) in programs.items()
    } | {
        "weights.npz": packed.getvalue(),
        "model.json": json.dumps(about, indent=1).encode(),
        "run.py": (resources.files("charjax.interchange") / "run.py").read_bytes(),
    }


def _sample(
    params: Params,
    prime_ids_T: jax.Array,
    positions_L: jax.Array,
    temperature: jax.Array,
    seed: jax.Array,
) -> jax.Array:
    """Draws what `charjax.sample` draws, see `charjax.predict.draw`."""
    key, (start, read) = jax.random.key(seed), _reader(params)

    def draw_one(state: _State, position: jax.Array) -> tuple[_State, jax.Array]:
        logits_1xV, _ = state
        noise_1xV = jax.random.gumbel(
            jax.random.fold_in(key, position), logits_1xV.shape, logits_1xV.dtype
        )
        id_ = jnp.argmax(logits_1xV[0] + temperature * noise_1xV[0]).astype(jnp.int32)
        return read(state, id_), id_

    state, _ = jax.lax.scan(lambda *x: (read(*x), None), start, prime_ids_T)
    return jax.lax.scan(draw_one, state, positions_L)[1]


def _score(params: Params, ids_T: jax.Array) -> jax.Array:
    start, read = _reader(params)

    def score_one(state: _State, id_: jax.Array) -> tuple[_State, jax.Array]:
        return read(state, id_), jax.nn.log_softmax(state[0][0])[id_]

    return jax.lax.scan(score_one, start, ids_T)[1]


def _reader(params: Params) -> tuple[_State, Callable[[_State, jax.Array], _State]]:
    """Returns the logits and carry before a text, and those after one more id.

    A text of any length is read id by id, as nothing else can be exported for it.
    """
    table_VxGH = input_table(params, _EXECUTION)
    logits_1xV = jnp.zeros((1, len(params.vocab)), params.readout_bias_V.dtype)

    def read(state: _State, id_: jax.Array) -> _State:
        return step(params, id_[None], state[1], table_VxGH, _EXECUTION)

    return (logits_1xV, initial_carry(params, 1)), read
