"""Trees of arrays: their leaves by name, described, compared and put back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from charjax.checkpoint.files import reason
from charjax.checkpoint.manifest import Manifest, spec_of
from charjax.errors import CheckpointError
from charjax.model import Params, init
from charjax.text.vocab import Vocab

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
)
# A typed key is stored as its data; the dtype in the manifest gives its algorithm.
_KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}

_T = TypeVar("_T")


def flatten(group: str, tree: Any) -> dict[str, Any]:
    """Returns the leaves by name, such as `params.layers[0].bias_GH`, in order."""
    leaves = {
        group + jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    for name, leaf in leaves.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            kind = type(leaf).__name__
            raise CheckpointError(f"{name} must be an array; got {kind}. Try np.array.")
    return leaves


def rebuild(group: str, template: _T, arrays: Mapping[str, np.ndarray]) -> _T:
    """Returns the template with the arrays of its group in place of its leaves."""
    leaves = [
        _as_leaf(name, arrays[name], leaf)
        for name, leaf in flatten(group, template).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _as_leaf(name: str, array: np.ndarray, leaf: Any) -> Any:
    """Returns a stored array as the kind of array that the template's leaf is."""
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_KEYS[str(leaf.dtype)])
    on_device = jnp.asarray(array)
    if on_device.dtype != array.dtype:
        raise CheckpointError(
            f"{name} must be an array that JAX takes; got {array.dtype}. Try "
            "jax.config.update('jax_enable_x64', True) first."
        )
    return on_device


def to_numpy(name: str, leaf: Any) -> np.ndarray:
    """Returns a leaf as it is stored."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if str(leaf.dtype) not in (*DTYPES, *_KEYS):
        known = ", ".join(DTYPES)
        raise CheckpointError(f"{name} must be one of {known}; got {leaf.dtype}.")
    return array


def stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype that a leaf has on disk."""
    if _is_key(leaf):
        return jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf: Any) -> dict[str, Any]:
    """Returns what the manifest says of a leaf."""
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def template(manifest: Manifest) -> Params:
    """Returns the shapes of a checkpoint's weights, for `restore`; no array is read.

    Args:
      manifest: what `read`, `verify` or `examine` returned.

    Raises:
      CheckpointError: it does not describe a model that this charjax knows.
      ConfigError: its cell is not registered.

    Example:
      >>> checkpoint = verify("cv/run/lm_lstm_epoch0.95_2.0681")  # doctest: +SKIP
      >>> shapes = template(checkpoint.manifest)  # doctest: +SKIP
      >>> params, _ = restore(checkpoint, shapes, ...)  # doctest: +SKIP
    """
    spec = spec_of(manifest)
    try:
        vocab = Vocab.from_json(manifest.vocab)
        key = jax.eval_shape(lambda: jax.random.key(0))
        params = jax.eval_shape(lambda k: init(k, spec, vocab, scheme="uniform"), key)
    except Exception as error:  # sizes beyond what JAX can count
        raise CheckpointError(
            f"the manifest must describe a model; got {reason(error)}."
        ) from error

    def as_saved(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        saved = manifest.leaves.get("params" + jax.tree_util.keystr(path), {})
        known = saved.get("dtype") in DTYPES
        return jax.ShapeDtypeStruct(leaf.shape, saved["dtype"] if known else leaf.dtype)

    return jax.tree.map_with_path(as_saved, params)


def require_same_model(manifest: Manifest, params: Params) -> None:
    """Refuses another cell or vocabulary, which may have the same shapes."""
    cell, vocab = manifest.spec.get("cell"), params.vocab
    if cell != params.spec.cell:
        raise CheckpointError(f"the cell must be {params.spec.cell!r}; got {cell!r}.")
    if manifest.vocab != vocab.to_json():
        raise CheckpointError(
            f"the vocabulary must be {vocab!r}; got another vocabulary. Try the text "
            "of its run."
        )


def require_same_leaves(
    manifest: Manifest, wanted: Mapping[str, Any], groups: tuple[str, ...]
) -> None:
    """Refuses other names, shapes or dtypes than a template's."""
    saved = {n: leaf for n, leaf in manifest.leaves.items() if n.startswith(groups)}
    described = {name: describe(leaf) for name, leaf in wanted.items()}
    for name in [*described, *saved]:
        expected, got = _show(described.get(name)), _show(saved.get(name))
        if expected != got:
            raise CheckpointError(
                f"{name} must be {expected}; got {got}. Try the config of its run."
            )


def _show(leaf: Mapping[str, Any] | None) -> str:
    return f"{leaf['dtype']}{leaf['shape']}" if leaf else "no such array"
