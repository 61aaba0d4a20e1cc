"""Records of a run, and the sinks they go to: the screen, `metrics.jsonl`, your own.

A record is a flat dict whose `kind` says what it is, and a sink any function that
takes one. Records of all kinds but those marked * have `step` and `epoch`.

    begin     the run sets out: path, config, total_steps, steps_per_epoch, best
    progress  after each dispatch: loss, chars_per_second, seconds_left
    train     means since the last one: as progress, bits, grad_norm, learning_rate, ...
    val       a validation: loss, bits, of (the split), sample
    test      the best checkpoint on the test split: loss, bits, of
    saved     a checkpoint: path, loss, best (the path of the best so far)
    end *     the run is finished: path, best, best_loss, test_loss, cell_file (of a
              cell of your own)
    note *    a line for people: text
    warning * one that matters: text

A sink that raises ends the run: it is saved, and then a `SinkError` raised from the
sink's own error. A tracker of your own, added from outside:

    >>> import csv
    >>> from pathlib import Path
    >>> from charjax.training.sinks.records import Record, Sink, console
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

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

from charjax.errors import SinkError
from charjax.training.folder import Record
from charjax.units import duration, printable

Sink = Callable[[Record], None]


@contextlib.contextmanager
def screen(quiet: bool = False) -> Iterator[Sink]:
    """Yields the sink that suits standard output, and leaves the terminal sound.

    It is the live display on a terminal, and `console` in a pipe or a file, on a dumb
    terminal, or where NO_COLOR is set.

    Args:
      quiet: show warnings, on standard error, and how the run ended; nothing else.

    Example:
      >>> with screen() as sink:  # doctest: +SKIP
      ...     charjax.train(config, sinks=[sink])
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    if quiet:
        yield _ending
    elif plain or not sys.stdout.isatty():
        yield console
    else:
        from charjax.training.sinks.display import live

        with live() as sink:
            yield sink


def console(record: Record) -> None:
    """Prints a record as lines for people, at once."""
    if text := as_lines(record, sys.stdout.encoding):
        print(text, flush=True)


def _ending(record: Record) -> None:
    """Prints what no one should miss: warnings, and how the run ended."""
    if record["kind"] == "warning":
        print(as_lines(record, sys.stderr.encoding), file=sys.stderr, flush=True)
    elif record["kind"] == "end":
        console(record)


def broadcast(sinks: Sequence[Sink]) -> Sink:
    """Returns a sink that hands each record to all the given ones.

    Raises:
      SinkError: by that sink, where one of the given ones failed; the others had the
        record all the same.
    """

    def send(record: Record) -> None:
        failed: SinkError | None = None
        for sink in sinks:
            try:
                sink(dict(record))
            except Exception as error:
                failed = _sink_error(sink, error)
        if failed:
            raise failed

    return send


def _sink_error(sink: Sink, error: Exception) -> SinkError:
    name = getattr(sink, "__qualname__", type(sink).__name__).replace(".<locals>", "")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    failed = SinkError(
        f"the sink {name} failed ({reason}); the run is saved as far as it came; "
        "mend the sink or leave it out, and train again to continue"
    )
    failed.__cause__ = error
    return failed


def _train_line(r: Record) -> str:
    speed = ""
    if r["chars_per_second"] is not None:
        left = duration(r["seconds_left"])
        speed = f"  {r['chars_per_second']:,.0f} chars/s  {left} left"
    return (
        f"epoch {r['epoch']:6.2f}  step {r['step']:>6}  loss {r['loss']:.4f}  "
        f"{r['bits']:.3f} bits/char  grad/param {r['grad_to_param']:.1e}  "
        f"rate {r['learning_rate']:.1e}{speed}"
    )


def _split_line(r: Record) -> str:
    name = {"val": "validation", "train": "training", "test": "test"}[r["of"]]
    line = (
        f"epoch {r['epoch']:6.2f}  {name} loss {r['loss']:.4f}  "
        f"{r['bits']:.3f} bits/char"
    )
    if sample := r.get("sample"):
        line += "\n" + indented(sample)
    return line


def _end_lines(r: Record) -> str:
    words = ["charjax", "sample", r["path"]]
    if r["cell_file"]:
        words[1:1] = ["--import", os.path.relpath(r["cell_file"])]
    return (
        f"best checkpoint: {r['best']}  (loss {r['best_loss']:.4f})\n"
        f"sample from it:  {shlex.join(words)}"
    )


def _begin_line(r: Record) -> str:
    steps, per_epoch = r["total_steps"], r["steps_per_epoch"]
    return f"run       {r['path']}: {steps:,} steps, {per_epoch:,} an epoch"


def indented(text: str) -> str:
    """Returns a sample's lines set off from those of the run."""
    return "\n".join("    | " + line for line in text.expandtabs(4).split("\n"))


def as_lines(record: Record, encoding: str | None) -> str:
    """Returns a record as lines for people; nothing for `progress`.

    Args:
      record: any record.
      encoding: of the screen, whose missing characters become `?`.
    """
    return printable(_LINES[record["kind"]](record), encoding)


_LINES: dict[str, Callable[[Record], str]] = {
    "begin": _begin_line,
    "progress": lambda record: "",
    "train": _train_line,
    "val": _split_line,
    "test": _split_line,
    "saved": lambda record: f"saved     {record['path']}",
    "end": _end_lines,
    "note": lambda record: record["text"],
    "warning": lambda record: f"warning   {record['text']}",
}
