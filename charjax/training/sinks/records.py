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
own error. If it raises `charjax.Pruned`, the run is saved and ends with that: this is
how a sink asks for a stop, as the pruner of a hyperparameter search does. `charjax
list` shows such a run as pruned, and the same configuration goes on with it. A run that
has taken its last step finishes all the same. A sink of your own:

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

from charjax.errors import Pruned, SinkError
from charjax.training.folder import Record

Sink = Callable[[Record], None]


def figures(record: Record) -> dict[str, float]:
    """Returns what a chart shows of a record of losses, by name.

    Example:
      >>> figures({"kind": "val", "loss": 1.0, "bits": 1.4427})
      {'nats/val': 1.0, 'bits/val': 1.4427}
    """
    kind = record["kind"]
    found = {f"nats/{kind}": record["loss"], f"bits/{kind}": record["bits"]}
    if "bits_per_byte" in record:
        found[f"bits_per_byte/{kind}"] = record["bits_per_byte"]
    if kind == "train":
        for name in ("learning_rate", "grad_norm", "chars_per_second"):
            found[name] = record[name]
    return {name: value for name, value in found.items() if value is not None}


def broadcast(sinks: Sequence[Sink]) -> Sink:
    """Returns a sink that hands each record to all the given ones.

    Args:
      sinks: the sinks; each gets a copy of the record.

    Returns:
      The sink. After all of the given ones had the record it raises a SinkError where
      one of them failed, or Pruned where one of them did.
    """

    def send(record: Record) -> None:
        failed: SinkError | None = None
        asked: Pruned | None = None
        for sink in sinks:
            try:
                sink(dict(record))
            except Pruned as pruned:
                asked = asked or pruned
            except Exception as error:
                failed = failed or _sink_error(sink, error)
        if failed:
            raise failed
        if asked:
            raise asked

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
