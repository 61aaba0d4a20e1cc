"""Arrays by name, written and read by Orbax: one thread at a time, and checked.

Everything that Orbax and TensorStore do to a caller is dealt with here. They work in
several threads and an event loop, so only one save or load at a time is safe (and a
process that used them must not be forked; start others with 'spawn'). They expand `[`
in paths, and print pages when a disk is full. They allocate what a file asks for, so
the index is compared with the manifest before a load.
"""

import contextlib
import functools
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charjax.checkpoint.files import ARRAYS, GROUPS, TRY_ANOTHER, array_files, reason
from charjax.errors import CheckpointError, DamagedError

_LOCK = threading.RLock()
# TensorStore keeps arrays up to this size inside its index, which it compresses.
_INLINE_BYTES = 1024
# Orbax's own metadata takes less than this for each array, and in all.
_METADATA_BYTES_AN_ARRAY = 1 << 12
_METADATA_BYTES = 1 << 20


def require_usable(path: Path) -> None:
    """Refuses a path that TensorStore would take for another one.

    Raises:
      CheckpointError: it has a backslash, which is a slash to TensorStore.
    """
    if os.sep == "/" and "\\" in str(path.absolute()):
        raise CheckpointError(
            f"{path} must not have a backslash in it. Try another "
            "train.checkpoint_dir or train.run_name"
        )


def write(checkpoint: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays below a checkpoint's `arrays/`, in a folder for each group.

    Args:
      checkpoint: a folder without arrays.
      arrays: each name begins with its group's.

    Raises:
      Exception: whatever Orbax raises.
    """
    from orbax.checkpoint import v1 as ocp

    # Orbax takes neither empty arrays nor empty groups; the manifest describes them.
    groups = {
        group: {n: a for n, a in arrays.items() if n.startswith(group) and a.size}
        for group in GROUPS
    }
    with _orbax():
        ocp.save_checkpointables(
            str((checkpoint / ARRAYS).absolute()),
            {group: tree for group, tree in groups.items() if tree},
        )


def read(
    checkpoint: Path,
    expected: Mapping[str, jax.ShapeDtypeStruct],
    groups: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Returns all arrays of some groups by name.

    Args:
      checkpoint: its folder, whose files were compared with their sha256.
      expected: the shape and dtype on disk of every array of these groups.
      groups: some of `GROUPS`.

    Raises:
      DamagedError: the files hold something else; no memory was taken for it.
      CheckpointError: they cannot be read.
    """
    arrays = {
        name: np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in expected.items()
        if not leaf.size
    }
    for group in groups:
        full = {n: a for n, a in expected.items() if n.startswith(group) and a.size}
        if full:
            arrays |= _read_group(checkpoint / ARRAYS, group, full)
    return arrays


def _read_group(
    path: Path, group: str, expected: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1 as ocp

    with _orbax():
        try:
            _check_index(path / group, expected)
            target = dict.fromkeys(expected, np.ndarray)
            return ocp.load(str(path.absolute()), target, checkpointable_name=group)
        except CheckpointError as error:
            raise type(error)(f"{ARRAYS}/{group}: {error}") from error
        except Exception as error:  # Orbax raises all kinds
            raise CheckpointError(f"{ARRAYS}/{group}: {reason(error)}") from error


def require_plausible_size(
    checkpoint: Path, expected: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuses, before memory is taken, arrays larger than the files they come from.

    The other files are Orbax's metadata, which it parses whole, so these are bounded.

    Raises:
      DamagedError: the arrays are larger than their files, or the metadata is.
    """
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in expected.values())
    sizes = {
        name: file.stat().st_size for name, file in array_files(checkpoint).items()
    }
    if needed > (size := sum(sizes.values())) + _INLINE_BYTES * len(expected):
        raise DamagedError(
            f"must hold {needed:,} bytes of arrays; got {size:,}. {TRY_ANOTHER}"
        )
    metadata = {n: s for n, s in sizes.items() if n.split("/")[-2] != "d"}
    limit = _METADATA_BYTES + _METADATA_BYTES_AN_ARRAY * len(expected)
    for name, size in metadata.items():
        if size > limit:
            raise DamagedError(
                f"{name} must have at most {limit:,} bytes; got {size:,}. {TRY_ANOTHER}"
            )


def _check_index(folder: Path, expected: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Compares the metadata of each array with what is expected, reading no array.

    TensorStore allocates a chunk as large as the metadata says, whatever the array is.
    """
    import tensorstore

    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    reads = {name: store.read(f"{name}/zarr.json") for name in expected}
    for name, future in reads.items():
        leaf, raw = expected[name], future.result().value
        if not _is_as_written(raw, leaf):
            raise DamagedError(
                f"{name} must be stored as {leaf.dtype}{list(leaf.shape)} in chunks "
                f"that are not larger; got {raw[:100]!r}. {TRY_ANOTHER}"
            )


def _is_as_written(raw: bytes, leaf: jax.ShapeDtypeStruct) -> bool:
    """Tells whether an array's metadata is as `write` has Orbax write it.

    Chunks may be smaller than the array, as several devices write them. The only codecs
    are those that keep an array's size: a chunk is its bytes, and an index of them.
    """
    if len(raw) > _METADATA_BYTES_AN_ARRAY:
        return False
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    match metadata:
        case {
            "shape": list(shape),
            "data_type": str(dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": inner_chunk,
                        "codecs": [{"name": "bytes"}],
                        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
                    },
                }
            ],
        } if "storage_transformers" not in metadata:
            described = shape, dtype
            same = described == (list(leaf.shape), str(leaf.dtype))
            return same and _fits(chunk, shape) and _fits(inner_chunk, chunk)
    return False


def _fits(chunk: Any, shape: list[int]) -> bool:
    return (
        isinstance(chunk, list)
        and len(chunk) == len(shape)
        and all(
            type(part) is int and 1 <= part <= max(1, size)
            for part, size in zip(chunk, shape, strict=True)
        )
    )


@contextlib.contextmanager
def _orbax() -> Iterator[None]:
    """Lets one thread at a time use Orbax, with charjax's options, and quietly."""
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    # Weights hardly compress, and files as large as their arrays bound the memory
    # that reading them takes.
    context.array.saving.use_compression = False
    context.file.path_class = _literal_path()
    with _LOCK, _quiet(), context:
        yield


@functools.cache
def _literal_path() -> Any:
    """Returns a class of paths whose `glob` takes the folder's own name literally.

    Orbax finds the files of its processes by a glob. `etils` expands `[` and `*` in the
    whole path, and then Orbax finds none and writes an empty index.
    """
    from etils import epath

    class LiteralPath(type(epath.Path())):
        def glob(self, pattern: str) -> Iterator[Any]:
            return map(type(self), Path(self).glob(pattern))

    return LiteralPath


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what Orbax prints when it fails, which the raised error says as well.

    After a failure, TensorStore's threads still call back, and find the event loop
    closed. So what they print stays hidden from then on.
    """
    logger = logging.getLogger("absl")
    shown = sys.unraisablehook
    if getattr(shown, "func", None) is not _show_unless_late:
        sys.unraisablehook = functools.partial(_show_unless_late, shown)
    logger.addFilter(_is_not_of_orbax)
    try:
        yield
        sys.unraisablehook = shown
    finally:
        logger.removeFilter(_is_not_of_orbax)


def _show_unless_late(shown: Callable[[Any], Any], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        shown(unraisable)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
