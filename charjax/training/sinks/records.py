"""Records of a run, and the sinks that take them.

A record is a flat dict whose `kind` says what it is; a sink is any function that takes
one. Records of all kinds but those marked * have `step` and `epoch`.

    begin     training starts: path, config, total_steps, steps_per_epoch, best
    progress  after each dispatch: loss, chars_per_second, seconds_left
    train     means since the last one: as progress, bits, grad_norm, learning_rate, ...
              (here and below also bits_per_byte, where a character is not one byte)
    val       a validation: loss, bits, of (the split), sample
    test      the best checkpoint on the test split: loss, bits, of
    saved     a checkpoint: path, loss (None where it was not measured), best (the path
              of the best so far)
    end *     the run is finished: path, best, best_loss, test_loss, cell_file (the
              file of a cell of your own)
    note *    a line for people: text
    warning * a line for people that matters: text

If a sink raises, the run is saved and ends with a `SinkError` raised from the sink's
own error. A sink of your own:

    >>> import csv
    >>> from pathlib import Path
    >>> from charjax.training.sinks.console import console
    >>> from charjax.training.sinks.records import Record, Sink
    >>> def csv_tracker(path: Path) -> Sink:
    ...     def sink(record: Record) -> None:
    ...         if record["kind"] in ("train", "val"):
    ...             with path.open("a", newline="") as file:
    ...                 row = record["step"], record["kind"], record["loss"]
    ...                 csv.writer(file).writerow(row)
    ...
    ...     return sink
    >>> sinks = [console, csv_tracker(Path("losses.csv"))]
    >>> charjax.train(config, sinks=sinks)  # doctest: +SKIP
"""

from collections.abc import Callable, Sequence

from charjax.errors import SinkError
from charjax.training.folder import Record

Sink = Callable[[Record], None]


def broadcast(sinks: Sequence[Sink]) -> Sink:
    """Returns a sink that hands each record to all the given ones.

    Args:
      sinks: the sinks; each gets a copy of the record.

    Returns:
      The sink. It raises a SinkError where one of the given ones raised, after all of
      them had the record.
    """

    def send(record: Record) -> None:
        failed: SinkError | None = None
        for sink in sinks:
            try:
                sink(dict(record))
            except Exception as error:
                failed = failed or _sink_error(sink, error)
        if failed:
            raise failed

    return send


def _sink_error(sink: Sink, error: Exception) -> SinkError:
    name = getattr(sink, "__qualname__", type(sink).__name__).replace(".<locals>", "")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    failed = SinkError(
        f"the sink {name} failed ({reason}); the run is saved. Try again with the sink "
        "repaired or left out."
    )
    failed.__cause__ = error
    return failed
