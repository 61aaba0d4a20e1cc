"""Arrays by name, written and read by Orbax: one thread at a time, and checked.

Where several processes train together, all of them write a checkpoint, with the same
arrays, and each reads one for itself. Everything that Orbax and TensorStore do to a
caller is dealt with here. They work in
several threads and an event loop, so only one save or load at a time is safe (and a
process that used them must not be forked; start others with 'spawn'). They expand `[`
in paths, and print pages when a disk is full. They allocate what a file asks for, so
`charjax.checkpoint.index` looks at it first.
"""

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charjax.checkpoint import index
from charjax.checkpoint.files import ARRAYS, GROUPS, reason
from charjax.errors import CheckpointError

_LOCK = threading.RLock()


def require_usable(path: Path) -> None:
    """Refuses a path that TensorStore would take for another one.

    Raises:
      CheckpointError: it has a backslash, which is a slash to TensorStore.
    """
    if os.sep == "/" and "\\" in str(path.absolute()):
        raise CheckpointError(
            f"{path} must not have a backslash in it. Try another "
            "train.checkpoint_dir or train.run_name."
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

    with _orbax(alone=True):
        try:
            index.check(path / group, expected)
            target = dict.fromkeys(expected, np.ndarray)
            return ocp.load(str(path.absolute()), target, checkpointable_name=group)
        except CheckpointError as error:
            raise type(error)(f"{ARRAYS}/{group}: {error}") from error
        except Exception as error:  # Orbax raises all kinds
            raise CheckpointError(f"{ARRAYS}/{group}: {reason(error)}") from error


@contextlib.contextmanager
def _orbax(*, alone: bool = False) -> Iterator[None]:
    """Lets one thread at a time use Orbax, with charjax's options, and quietly.

    Args:
      alone: whether this process does so without the others that train with it.
    """
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    if alone:
        context.multiprocessing.primary_host = jax.process_index()
        context.multiprocessing.active_processes = {jax.process_index()}
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

    After a failure some of that comes late: TensorStore's threads call back and find
    the event loop closed, and asyncio tells of tasks when they are freed. So it stays
    hidden from then on.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    quiet_before = _is_of_others in loggers[0].filters
    hook = sys.unraisablehook
    if getattr(hook, "func", None) is not _show_unless_late:
        sys.unraisablehook = functools.partial(_show_unless_late, hook)
    for logger in loggers:
        logger.addFilter(_is_of_others)
    yield
    if not quiet_before:
        sys.unraisablehook = hook
        for logger in loggers:
            logger.removeFilter(_is_of_others)


def _show_unless_late(show: Callable[[Any], Any], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        show(unraisable)


def _is_of_others(record: logging.LogRecord) -> bool:
    # TensorStore's own errors name its database, not TensorStore.
    source = f"{record.pathname} {record.getMessage()}".lower()
    return not any(word in source for word in ("orbax", "tensorstore", "ocdbt"))
