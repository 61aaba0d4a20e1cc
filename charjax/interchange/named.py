"""A model as arrays by name, and a safetensors file of them.

    embedding_VxE, layers.0.input_DxGH, ..., readout_HxV, readout_bias_V

The names are those of the fields of `charjax.Params` and of the cell's weights. The
file's metadata has one entry, `charjax`: JSON of the model's `spec`, its `vocab` and,
where it was measured, its validation `loss` in nats a character.

https://github.com/huggingface/safetensors describes the format.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charjax.checkpoint.formats import model_spec, stored_spec
from charjax.errors import ConfigError
from charjax.interchange.files import (
    needed,
    refused,
    require_file,
    require_suffix,
    write_new,
)
from charjax.model import ModelSpec, Params, init
from charjax.text.vocab import Vocab

Arrays = dict[str, np.ndarray]

SUFFIX = ".safetensors"
EXTRA = "pip install 'charjax[interchange]'"
_ABOUT = "charjax"  # the entry of the metadata
_MAX_LAYERS = 1000
_MAX_HEADER = 1 << 25  # bytes; the vocabulary is in it, and a name for each array


def write_safetensors(
    params: Params, file: Path | str, *, loss: float | None = None
) -> None:
    """Writes a model's weights by name, with its spec and vocabulary.

    Args:
      params: the model.
      file: a new file, whose name ends in `.safetensors`.
      loss: its validation loss in nats a character, if that is known.

    Raises:
      ConfigError: there is such a file, or the package safetensors is missing.
      CheckpointError: it cannot be written.

    Example:
      >>> import charjax
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> write_safetensors(params, "model.safetensors")  # doctest: +SKIP
    """
    write_arrays(Path(file), arrays_of(params), params, loss)


def write_arrays(
    file: Path, arrays: Arrays, params: Params, loss: float | None
) -> None:
    """Writes arrays to a safetensors file, and what the model is into its metadata."""
    require_suffix(file, SUFFIX, "written in the format of safetensors")
    save = needed("safetensors.numpy", EXTRA).save
    about = {"spec": stored_spec(params.spec), "vocab": params.vocab.to_json()}
    about |= {} if loss is None else {"loss": loss}
    raw = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {_ABOUT: json.dumps(about)},
    )
    write_new(file, lambda opened: opened.write(raw))


def read_arrays(file: Path) -> tuple[Arrays, dict[str, Any]]:
    """Returns the arrays of a safetensors file, and what its metadata says of a model.

    Raises:
      CheckpointError: it is not such a file.
      ConfigError: the package safetensors is missing.
    """
    require_file(file)
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
    if size > _MAX_HEADER:
        words = f"its header must have at most {_MAX_HEADER:,} bytes"
        raise refused(file, f"{words}; got {size:,}")
    open_file = needed("safetensors", EXTRA).safe_open
    try:
        with open_file(file, "numpy") as opened:
            about = json.loads((opened.metadata() or {}).get(_ABOUT, "{}"))
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # its own class, and others for types NumPy lacks
        raise refused(file, " ".join(str(error).split())[:200]) from None
    if not isinstance(about, dict):
        raise refused(file, "its metadata must describe a model")
    return arrays, about


def arrays_of(params: Params) -> Arrays:
    """Returns a model's weights by name.

    >>> import charjax, jax
    >>> spec = charjax.ModelSpec("rnn", num_layers=1)
    >>> list(arrays_of(charjax.init(jax.random.key(0), spec, charjax.Vocab("ab"))))[:2]
    ['layers.0.input_DxGH', 'layers.0.recurrent_HxGH']
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named(params)}
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ConfigError(
                f"{name} must be float32 to be written; got {array.dtype}."
            )
    return arrays


def spec_and_vocab(about: Mapping[str, Any]) -> tuple[ModelSpec, Vocab]:
    """Returns what a file says that a model is.

    Raises:
      CharjaxError: it is not described, or not so that charjax knows it.
    """
    spec, vocab = about.get("spec"), about.get("vocab")
    if not isinstance(spec, dict) or not isinstance(vocab, dict):
        raise ConfigError("a spec and a vocab must be given; got none")
    return model_spec(spec), Vocab.from_json(vocab)


def params_of(spec: ModelSpec, vocab: Vocab, arrays: Mapping[str, Any]) -> Params:
    """Returns a model of arrays by name, after a check of every one.

    Raises:
      ConfigError: one is missing, unknown, of another shape or type, or not finite.
    """
    if spec.num_layers > _MAX_LAYERS:  # each takes time before a number is read
        raise ConfigError(f"the model must have up to {_MAX_LAYERS:,} layers; got more")
    total = sum(array.size for array in arrays.values())
    if spec.num_layers > len(arrays) or spec.hidden_size + spec.embedding_size > total:
        raise ConfigError(
            "the arrays must be as many and large as the model's; got less"
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    template = jax.eval_shape(lambda k: init(k, spec, vocab, scheme="uniform"), key)
    shapes = {name: leaf.shape for name, leaf in _named(template)}
    if unknown := sorted(arrays.keys() - shapes.keys()):
        raise ConfigError(
            f"the arrays must be those of the model; got {unknown[0]!r:.60}"
        )
    for name, shape in shapes.items():
        if name not in arrays:
            raise ConfigError(f"the arrays must include {name}; got none")
        array = arrays[name]
        if (array.shape, array.dtype) != (shape, np.float32):
            got = f"{array.dtype}{list(array.shape)}"
            raise ConfigError(f"{name} must be float32{list(shape)}; got {got:.80}")
        if not np.isfinite(array).all():
            raise ConfigError(f"{name} must hold finite numbers; got NaN or infinity")
    leaves = [jax.numpy.asarray(arrays[name]) for name in shapes]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named(params: Params) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
