"""Signals as requests to the training loop: stop, stop at once, save and go on.

    SIGINT, SIGTERM, SIGHUP, SIGUSR2    finish the step, save, stop with `Stopped`
    SIGINT or SIGTERM after one of them stop at once, without saving
    SIGUSR1                             save and go on

A first signal only sets a flag, which the loop reads between dispatches. Where nothing
needs saving (`StopRequest.at_once`), and at a second signal, the handler raises. Python
drops an exception that is raised inside a callback (JAX has one for the garbage
collector) or a `__del__`; `stop_on_signals` notices that and raises it again.

SIGHUP never counts as the second signal: when a terminal closes, the kernel and the
shell often send one each.
"""

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Not every operating system has all of them.
_STOP = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
    if hasattr(signal, name)
]
_SAVE = getattr(signal, "SIGUSR1", None)
_SECOND = (signal.SIGINT, signal.SIGTERM)
_HANGUP = getattr(signal, "SIGHUP", None)

_RETRY_SECONDS = 0.01


class Stopped(KeyboardInterrupt):
    """A run stopped because a signal asked for it.

    As a KeyboardInterrupt it is not caught by `except Exception`.

    Attributes:
      signum: the signal; the exit status of a command is 128 plus this number.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """What signals have asked for so far.

    Attributes:
      signum: the first signal that asked to stop, or 0.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._second = 0
        self._save_asked = False
        self._message: str | None = None  # of the `at_once` block that is active

    def take_save(self) -> bool:
        """Returns whether a save was asked for since the last call."""
        asked, self._save_asked = self._save_asked, False
        return asked

    @contextlib.contextmanager
    def at_once(self, message: str = "stopped") -> Iterator[None]:
        """Inside the block a signal to stop raises `Stopped` at once.

        Args:
          message: of the exception.
        """
        self._message = message
        try:
            self.raise_if_due()
            yield
        finally:
            self._message = None

    def receive(self, signum: int) -> None:
        """Records a signal, and raises `Stopped` where the run must not go on."""
        if signum == _SAVE:
            self._save_asked = True
            return
        if not self.signum:
            self.signum = signum
        elif signum in _SECOND:
            self._second = signum
        self.raise_if_due()

    def raise_if_due(self) -> None:
        """Raises `Stopped` after a second signal, or after any one in `at_once`."""
        if self._second:
            raise Stopped(
                "stopped at once; the run continues from its last checkpoint",
                self._second,
            )
        if self.signum and self._message is not None:
            raise Stopped(self._message, self.signum)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns signals into requests inside the block.

    Only the main thread can set signal handlers; in another one, signals keep the
    meaning they have, and the request stays empty.

    Example:
      >>> with stop_on_signals() as stop, stop.at_once():
      ...     pass  # a signal raises Stopped here
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    with _raised_again(request) as is_retry, contextlib.ExitStack() as stack:

        def handle(signum: int, frame: FrameType | None) -> None:
            del frame
            if is_retry():
                request.raise_if_due()
            else:
                request.receive(signum)

        for signum in [*_STOP, *([_SAVE] if _SAVE else [])]:
            before = signal.getsignal(signum)
            if signum == _HANGUP and before == signal.SIG_IGN:
                continue  # started by nohup, to outlive its terminal
            signal.signal(signum, handle)
            # None is a handler that was not set from Python, and cannot be restored.
            stack.callback(signal.signal, signum, before or signal.SIG_DFL)
        yield request


@contextlib.contextmanager
def _raised_again(request: StopRequest) -> Iterator[Any]:
    """Raises a `Stopped` again that was dropped by a callback.

    Yields:
      A function that tells a signal handler whether it is called for that reason.
    """
    before, timers, retries = sys.unraisablehook, [], []

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            raise_later(unraisable.exc_value.signum)
            return
        try:
            before(unraisable)
        except Stopped as stopped:  # the signal came meanwhile
            raise_later(stopped.signum)

    def raise_later(signum: int) -> None:
        retries.append(None)
        timer = threading.Timer(_RETRY_SECONDS, _thread.interrupt_main, (signum,))
        timer.daemon = True
        timers.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield lambda: bool(retries and [retries.pop()])
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()
            timer.join()
