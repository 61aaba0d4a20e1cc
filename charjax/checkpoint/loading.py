"""Loading a checkpoint: a model, or the whole state, after every check there is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from charjax.checkpoint import arrays, choosing, trees
from charjax.checkpoint.files import GROUPS, StrPath, check_digests, naming
from charjax.checkpoint.manifest import Manifest, read
from charjax.errors import CheckpointError
from charjax.model import Params

_T = TypeVar("_T")


class Verified(NamedTuple):
    """A checkpoint every file of which was compared with its sha256.

    Attributes:
      path: its folder.
      manifest: what it says of itself.
    """

    path: Path
    manifest: Manifest


def load(
    path: StrPath | Verified, which: str = "best", *, fallback: bool = False
) -> Params:
    """Returns a saved model, on the default device whatever device wrote it.

    If a run that is still training prunes the chosen checkpoint, another is chosen.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs. What `verify` returned is
        not hashed again.
      which: `'best'` loss or `'latest'`, if there are several.
      fallback: whether the next one is taken if that is damaged; standard error then
        says which, and why.

    Raises:
      CheckpointError: there is none, or it is damaged.
      ConfigError: its cell is not registered.

    Example:
      >>> params = charjax.load("cv")  # doctest: +SKIP
    """
    if isinstance(path, Verified):
        return _load(*path, hashed=True)
    groups = ("params",) if fallback else None
    while True:
        chosen, manifest = choosing.choose(path, which, groups, choosing.to_stderr)
        try:
            return _load(chosen, manifest or read(chosen), hashed=manifest is not None)
        except CheckpointError:
            if chosen == Path(path) or not choosing.is_gone(chosen):
                raise


def _load(checkpoint: Path, manifest: Manifest, *, hashed: bool) -> Params:
    with naming(checkpoint):
        template = trees.template(manifest)
        wanted = trees.flatten("params", template)
        read_arrays = _read(checkpoint, manifest, wanted, ("params",), hashed=hashed)
        return trees.rebuild("params", template, read_arrays)


def restore(
    checkpoint: StrPath | Verified, params: Params, training: _T
) -> tuple[Params, _T]:
    """Returns a checkpoint's whole state, bit for bit, in the form of two templates.

    Args:
      checkpoint: its folder, or what `verify` or `examine` returned, which is not
        hashed again.
      params: a model of the same cell, shapes and vocabulary.
      training: a pytree of the same structure as the one saved. Its leaves, like those
        of `params`, are arrays or `jax.ShapeDtypeStruct`s; NumPy arrays come back as
        NumPy arrays, all others on the default device.

    Raises:
      CheckpointError: it is damaged, or differs from the templates; the message names
        the first leaf that does.

    Example:
      >>> path = "cv/run/lm_lstm_epoch0.95_2.0681"
      >>> params, state = restore(path, params, state)  # doctest: +SKIP
    """
    hashed = isinstance(checkpoint, Verified)
    path, manifest = checkpoint if hashed else (Path(checkpoint), read(checkpoint))
    with naming(path):
        trees.require_same_model(manifest, params)
        wanted = trees.flatten("params", params) | trees.flatten("training", training)
        read_arrays = _read(path, manifest, wanted, GROUPS, hashed=hashed)
        return (
            trees.rebuild("params", params, read_arrays),
            trees.rebuild("training", training, read_arrays),
        )


def verify(checkpoint: StrPath) -> Verified:
    """Reads a checkpoint through and compares every file with its sha256.

    Returns:
      The checkpoint, for `load` and `restore`.

    Raises:
      DamagedError: a file is missing or damaged; the message names it.
      CheckpointError: a file cannot be read at present, or is of a newer format.

    Example:
      >>> checkpoint = verify("cv/run/lm_lstm_epoch0.95_2.0681")  # doctest: +SKIP
      >>> checkpoint.manifest.step, load(checkpoint)  # doctest: +SKIP
    """
    path = Path(checkpoint)
    return Verified(path, choosing.read_through(path, GROUPS))


def _read(
    checkpoint: Path,
    manifest: Manifest,
    wanted: Mapping[str, Any],
    groups: tuple[str, ...],
    *,
    hashed: bool,
) -> dict[str, np.ndarray]:
    """Returns all arrays of some groups by name, after every check there is."""
    trees.require_same_leaves(manifest, wanted, groups)
    expected = {name: trees.stored(leaf) for name, leaf in wanted.items()}
    arrays.require_plausible_size(checkpoint, expected)
    if not hashed:
        check_digests(checkpoint, manifest.files, groups)
    return arrays.read(checkpoint, expected, groups)
