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
    elif not is_live():
        yield console
    else:
        from charjax.training.sinks.display import live  # rich takes 0.1 s to import

        with live() as sink:
            yield sink


def is_live() -> bool:
    """Returns whether standard output is a terminal that may be redrawn."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (
        "dumb",
        "unknown",
    )
    return not is_plain and sys.stdout is not None and sys.stdout.isatty()
