"""The command line: `charjax VERB ...`, and `launch.py`, which is `charjax train`.

Exit status: 0; 2 after an error, which is one line on standard error; 128 plus the
signal's number after a signal; 141 when the reader of standard output has left.
A closed standard output is treated as /dev/null.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence


def main(argv: Sequence[str] | None = None, prog: str = "charjax") -> int:
    """Runs one command and returns its exit status.

    Args:
      argv: the arguments; by default those of the process.
      prog: the program's name, as errors show it.
    """
    with _quiet_interrupt() as when_imported:
        from charjax.cli.program import run

        arguments = sys.argv[1:] if argv is None else argv
        return run(arguments, prog, when_imported)


@contextlib.contextmanager
def _quiet_interrupt() -> Iterator[Callable[[], None]]:
    """Lets Ctrl-C end the process at once, without a traceback, while it imports.

    A KeyboardInterrupt raised inside an import may be swallowed by a library. There is
    nothing to save yet.

    Yields:
      A function to call once all is imported; it restores Python's own handler.
    """

    def restore() -> None:
        if signal.getsignal(signal.SIGINT) is _exit_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    # Another handler, such as that of a process started with Ctrl-C ignored, stays.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, _exit_at_once)
    try:
        yield restore
    finally:
        restore()


def _exit_at_once(signum: int, frame: object) -> None:
    del frame
    os._exit(128 + signum)
