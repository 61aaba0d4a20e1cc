"""Python files of the user, run as they are: config files and those of `--import`."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from charjax.errors import CharjaxError, ConfigError, MissingTextError


def load(file: Path | str, option: str) -> ModuleType:
    """Runs a Python file and returns its module.

    Args:
      file: its path.
      option: the option that names it, for errors.

    Raises:
      MissingTextError: it is not a Python file.
      ConfigError: it raised an error, which the message shows with its line.
    """
    path = Path(file)
    # The name must not hide a module that another one imports.
    name = f"_charjax_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise MissingTextError(
            f"{option} must be an existing Python file; got {str(file)!r}."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    call(path, spec.loader.exec_module, module)
    return module


def call(path: Path, function: Any, *args: Any) -> Any:
    """Returns what a function of the user's file returns.

    Raises:
      ConfigError: it raised an error, which the message shows with its line.
    """
    try:
        return function(*args)
    except CharjaxError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{path}{_line(path, error)}: {reason}") from error


def _line(path: Path, error: BaseException) -> str:
    """Returns `, line 7` for the last line of the file that an error went through."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the line
    frames = traceback.extract_tb(error.__traceback__)
    file = str(path.absolute())
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""
