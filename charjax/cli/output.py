"""What commands print: safe on any terminal, encoding and state of the streams."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable

from charjax.units import printable


def open_streams() -> None:
    """Makes the standard streams usable.

    A stream that was closed when the process started becomes /dev/null. Otherwise the
    next file to be opened would get its number, and with it what libraries print.
    Characters that an encoding lacks are escaped.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            _open_null(number)
            stream = os.fdopen(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_null(number: int) -> None:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)  # which child processes inherit, unlike `null`
    if null != number:
        os.close(null)


def say(line: str = "") -> None:
    """Prints lines for people; control characters in them are replaced."""
    print(printable(line, None), flush=True)


def text_writer() -> Callable[[str | bytes], None]:
    """Returns a function that writes pieces of a model's text at once.

    A pipe or a file gets them as they are. On a terminal control characters are
    replaced and tabs are spaces, as in the training display.
    """
    is_terminal = sys.stdout.isatty()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(piece: str | bytes) -> None:
        if isinstance(piece, bytes) and not is_terminal:
            sys.stdout.buffer.write(piece)
        else:
            text = decoder.decode(piece) if isinstance(piece, bytes) else piece
            if is_terminal:
                text = printable(text.replace("\t", "    "), None)
            sys.stdout.write(text)
        sys.stdout.flush()

    return write


def warn(line: str) -> None:
    """Prints a line for people on standard error."""
    with contextlib.suppress(OSError):
        print(f"charjax: {printable(line, None)}", file=sys.stderr, flush=True)


def error(prog: str, message: object) -> None:
    """Prints one line on standard error."""
    line = " ".join(printable(str(message), None).split("\n"))
    with contextlib.suppress(OSError):
        print(f"{prog}: error: {line}", file=sys.stderr, flush=True)


def finish() -> None:
    """Flushes standard output; what it does not accept is dropped."""
    try:
        sys.stdout.flush()
    except OSError:
        # Otherwise the interpreter flushes again when it exits, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
