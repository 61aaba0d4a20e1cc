"""Sinks that print lines to standard output."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from charjax.training.folder import Record
from charjax.training.sinks.lines import as_lines

# Nobody can read what is printed: a pipe's reader has ended, a terminal was closed.
_CLOSED = (errno.EPIPE, errno.EIO)


class OutputClosedError(Exception):
    """Nobody reads standard output any more.

    It is not treated as the failure of a sink, since the user caused it: the run is
    saved and stops without a message, as programs in a pipe do.
    """


def console(record: Record) -> None:
    """Prints a record as lines for people, at once.

    Does nothing where the process was started without standard output (`>&-`).

    Raises:
      OutputClosedError: nobody reads standard output any more.
    """
    if sys.stdout is None:
        return
    if text := as_lines(record, sys.stdout.encoding):
        with output_closes():
            print(text, flush=True)


def ending(record: Record) -> None:
    """Prints the end of a run on standard output, and warnings on standard error."""
    if record["kind"] == "end":
        console(record)
    elif record["kind"] == "warning" and sys.stderr is not None:
        print(as_lines(record, sys.stderr.encoding), file=sys.stderr, flush=True)


@contextlib.contextmanager
def output_closes() -> Iterator[None]:
    """Turns the error of a write to a closed standard output into OutputClosedError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CLOSED:
            raise
        _discard_output()
        raise OutputClosedError(str(error)) from None


def _discard_output() -> None:
    """Points standard output to the null device, so that no later flush fails."""
    with contextlib.suppress(OSError, ValueError):  # captured output has no number
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
