"""SIGINT and SIGTERM as a polite request: finish the step, save, then stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and saved itself unless it was asked twice.

    Like any KeyboardInterrupt it passes by those who handle an `Exception`.

    Attributes:
      signum: the signal that asked.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """Whether a stop was asked for.

    Attributes:
      signum: the signal that asked, or 0.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._at_once = False

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Notes the signal; a second one stops at once."""
        del frame
        if self.signum:
            raise Stopped(
                "stopped at once; the run goes on from its last checkpoint",
                signum,
            )
        self.signum = signum
        if self._at_once:
            raise Stopped("", signum)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises `Stopped` at once: nothing there needs saving."""
        if self.signum:
            raise Stopped("", self.signum)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM inside the block, where Python lets us."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.signal(signum, request.receive) for signum in caught}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            # None stands for a handler that is not Python's, which we cannot set.
            signal.signal(signum, handler or signal.SIG_DFL)
