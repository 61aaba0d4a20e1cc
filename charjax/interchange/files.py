"""Files written anew and whole, and read only where they are regular and bounded."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from charjax.errors import CheckpointError, ConfigError
from charjax.storage.files import kind_of, replacing
from charjax.units import shown


def write_new(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file, whole or not at all.

    Args:
      file: its path.
      write: gets the open file.

    Raises:
      ConfigError: there is something of this name.
      CheckpointError: it cannot be written.
    """
    require_free(file)
    try:
        with replacing(file) as opened:
            write(opened)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise not_written(file, error) from None


def require_free(path: Path) -> None:
    """Raises a ConfigError where there is something of a name."""
    if os.path.lexists(path):
        raise ConfigError(
            f"{shown(path)} must be a new name; got one that exists. Try another."
        )


def not_written(path: Path, error: OSError) -> CheckpointError:
    """Returns the error of a file that could not be written."""
    reason = error.strerror or error
    return CheckpointError(f"{shown(path)} cannot be written: {reason}. Try another.")


def require_file(file: Path) -> None:
    """Raises a CheckpointError unless a path leads to a regular file."""
    if (kind := kind_of(file)) != "file":
        got = "nothing there" if kind == "missing" else f"a {kind}"
        raise refused(file, f"it must be a file; got {got}")


def require_suffix(file: Path, suffix: str, what: str) -> None:
    """Raises a ConfigError where a file's name has another ending."""
    if file.suffix != suffix:
        raise ConfigError(
            f"{shown(file)} must end in {suffix}: it is {what}. Try "
            f"{shown(file.with_suffix(suffix).name)}."
        )


def refused(file: Path, reason: str) -> CheckpointError:
    """Returns the error of a file that holds no model that charjax can take."""
    return CheckpointError(f"{shown(file)} was not imported: {reason}.")


def needed(module: str, extra: str) -> Any:
    """Returns a module of an optional package.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ConfigError(
            f"the package {package} must be installed; got none. Try {extra}."
        ) from None
