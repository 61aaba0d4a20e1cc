"""Arrays that were computed from a checkpoint, kept in its folder: one sealed file.

    {"sha256": ..., "checkpoint": ..., "arrays": ..., "leaves": ..., "about": ...}
    the arrays' bytes, one after the other

The first line is sealed JSON. It holds the sha256 of the checkpoint's manifest, and so
of every file of the checkpoint, and that of the bytes. The file is deleted with the
checkpoint, which is complete without it.
"""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from charjax.checkpoint import trees
from charjax.checkpoint.files import StrPath, digest, is_file, naming, reason
from charjax.checkpoint.manifest import MANIFEST
from charjax.errors import CheckpointError, DamagedError
from charjax.storage import sealed
from charjax.storage.files import replacing

_DELETE = "Try deleting it: it is made again where it is needed."
_T = TypeVar("_T")


def save_derived(
    checkpoint: StrPath, name: str, tree: Any, about: Mapping[str, Any]
) -> Path:
    """Writes a file of arrays into a checkpoint's folder, whole or not at all.

    Args:
      checkpoint: the checkpoint's folder.
      name: the file's name.
      tree: a pytree of arrays.
      about: how they were computed, as plain JSON.

    Raises:
      CheckpointError: it cannot be written.

    Example:
      >>> path = "cv/run/lm_lstm_epoch0.95_2.0681"
      >>> save_derived(path, "dynamic.stats", stats, {})  # doctest: +SKIP
    """
    file = Path(checkpoint) / name
    named = trees.flatten("", tree)
    raw = b"".join(trees.to_numpy(n, leaf).tobytes() for n, leaf in named.items())
    header = {
        "checkpoint": digest(Path(checkpoint) / MANIFEST),
        "arrays": hashlib.sha256(raw).hexdigest(),
        "leaves": {n: trees.describe(leaf) for n, leaf in named.items()},
        "about": dict(about),
    }
    try:
        with replacing(file) as opened:
            opened.write(sealed.seal(header) + b"\n" + raw)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise CheckpointError(f"{file} was not written: {reason(error)}.") from error
    return file


def load_derived(
    checkpoint: StrPath, name: str, template: _T, about: Mapping[str, Any]
) -> _T | None:
    """Returns what `save_derived` wrote, after every check there is.

    Args:
      checkpoint: the checkpoint's folder.
      name: the file's name.
      template: a pytree of arrays of the same shapes and types.
      about: how they must have been computed.

    Returns:
      The arrays in the form of the template; None without a file.

    Raises:
      DamagedError: the file has changed since it was written.
      CheckpointError: it is of another checkpoint, other arrays, or was computed in
        another way; or it cannot be read.

    Example:
      >>> path = "cv/run/lm_lstm_epoch0.95_2.0681"
      >>> load_derived(path, "dynamic.stats", params, {})  # doctest: +SKIP
    """
    file = Path(checkpoint) / name
    with naming(file):
        if not is_file(file):
            if file.exists():
                raise CheckpointError("must be a regular file. Try moving it away.")
            return None
        named = trees.flatten("", template)
        header, raw = _read(file, sum(_size(leaf) for leaf in named.values()))
        described = {n: trees.describe(leaf) for n, leaf in named.items()}
        for field, expected in (
            ("checkpoint", digest(Path(checkpoint) / MANIFEST)),
            ("leaves", described),
            ("about", dict(about)),
        ):
            if header.get(field) != expected:
                raise CheckpointError(
                    f"{field} must be {expected!r:.80}; got {header.get(field)!r:.80}. "
                    f"{_DELETE}"
                )
        return trees.rebuild("", template, _arrays(raw, named))


def _read(file: Path, size: int) -> tuple[dict[str, Any], bytes]:
    """Returns the header and the bytes of the arrays, after their seals are checked."""
    with open(file, "rb") as opened:
        line = opened.readline(sealed.MAX_BYTES)
        raw = opened.read(size + 1)
    try:
        header = sealed.unseal(line.rstrip(b"\n"))
    except ValueError as error:
        raise DamagedError(f"{error}. {_DELETE}") from None
    if len(raw) != size or hashlib.sha256(raw).hexdigest() != header.get("arrays"):
        raise DamagedError(f"is damaged, the sha256 of its arrays differs. {_DELETE}")
    return header, raw


def _arrays(raw: bytes, named: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays, start = {}, 0
    for name, leaf in named.items():
        end = start + _size(leaf)
        array = np.frombuffer(raw[start:end], leaf.dtype).reshape(leaf.shape)
        arrays[name], start = array, end
    return arrays


def _size(leaf: Any) -> int:
    return math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
