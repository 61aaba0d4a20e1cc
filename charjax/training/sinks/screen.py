"""The choice of the sink that suits standard output."""

import contextlib
import os
import sys
from collections.abc import Iterator

from charjax.training.sinks.console import console, ending
from charjax.training.sinks.records import Sink


@contextlib.contextmanager
def screen(quiet: bool = False) -> Iterator[Sink]:
    """Yields the sink that suits standard output, and restores the terminal after.

    It is the live display on a terminal, and `console` in a pipe or a file, on a dumb
    terminal, or where NO_COLOR is set.

    Args:
      quiet: show only warnings, on standard error, and the end of the run.

    Example:
      >>> with screen() as sink:  # doctest: +SKIP
      ...     charjax.train(config, sinks=[sink])
    """
    if quiet:
        yield ending
    elif _is_plain() or sys.stdout is None or not sys.stdout.isatty():
        yield console
    else:
        from charjax.training.sinks.display import live  # rich takes 0.1 s to import

        with live() as sink:
            yield sink


def _is_plain() -> bool:
    """Returns whether the user asked for output without control sequences."""
    return bool(
        os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    )
