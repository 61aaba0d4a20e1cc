"""The errors that charjax raises on purpose, each one line that says what to do."""

import difflib
from collections.abc import Iterable


class CharjaxError(Exception):
    """An error that the caller can correct; the command line prints it as one line."""


class ConfigError(CharjaxError, ValueError):
    """A field or argument is unknown, of the wrong type or out of range."""


class TextError(CharjaxError, ValueError):
    """A text cannot be read, encoded or cut into chunks."""


class MissingTextError(TextError, FileNotFoundError):
    """A text file or named data set does not exist."""


class CheckpointError(CharjaxError, ValueError):
    """A checkpoint is missing, damaged or does not fit."""


class DamagedError(CheckpointError):
    """A checkpoint's files differ from what was written."""


class BusyError(CharjaxError, RuntimeError):
    """Another process uses the run's folder."""


class TrainingError(CharjaxError, ArithmeticError):
    """Training cannot continue: the loss is not finite, or it exploded."""


class SinkError(CharjaxError):
    """A function that receives a run's records failed; `__cause__` is its error."""


class Pruned(CharjaxError):
    """A function that receives a run's records asked it to stop; it can go on later."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the closest known name, or an empty string.

    Example:
      >>> did_you_mean("lstmm", ["rnn", "lstm", "gru"])
      " Did you mean 'lstm'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_type(name: str, value: object, kind: type, example: str) -> None:
    """Raises a ConfigError if an argument is not of a type.

    Example:
      >>> check_type("size", 3, int, "size=3")
    """
    if not isinstance(value, kind):
        raise ConfigError(
            f"{name} must be of type {kind.__name__}; got {value!r:.100}. "
            f"Try {example}."
        )


def check_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raises a ConfigError that names the nearest choice if a value is not a choice."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(
            f"{field} must be one of {', '.join(choices)}; got {value!r}."
            f"{did_you_mean(str(value), choices)}"
        )
