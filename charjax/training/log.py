"""Sends the records of a run to its sinks, and keeps what they ask for or fail with."""

import signal
from collections.abc import Sequence

from charjax.errors import Pruned, SinkError
from charjax.training.folder import Record
from charjax.training.signals import Stopped
from charjax.training.sinks.console import OutputClosedError
from charjax.training.sinks.records import Sink, broadcast

_SIGPIPE = getattr(signal, "SIGPIPE", 13)  # Windows has none


class Log:
    """Hands records to sinks; one that fails or prunes ends the run once it is saved.

    Args:
      sinks: the sinks.

    Attributes:
      failure: of the first sink that failed.
      pruned: what the first sink that asked for a stop raised.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._send = broadcast(sinks)
        self.failure: SinkError | None = None
        self.pruned: Pruned | None = None

    def send(self, record: Record) -> None:
        """Hands a record to every sink, and keeps the first failure and request."""
        try:
            self._send(record)
        except Pruned as pruned:
            self.pruned = self.pruned or pruned
        except SinkError as error:
            self.failure = self.failure or error

    def note(self, text: str) -> None:
        """Sends a line for people."""
        self.send({"kind": "note", "text": text})

    def warn(self, text: str) -> None:
        """Sends a line for people that matters."""
        self.send({"kind": "warning", "text": text})

    def raise_failure(self) -> None:
        """Raises what a sink failed with, if one did.

        Raises:
          Stopped: standard output was closed by its reader, as by `| head -1`.
          SinkError: a sink failed otherwise.
        """
        if self.failure is None:
            return
        if isinstance(self.failure.__cause__, OutputClosedError):
            raise Stopped("standard output was closed", _SIGPIPE)
        raise self.failure
