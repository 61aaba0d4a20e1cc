"""Several runs beside each other: their losses, and the fields in which they differ."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charjax.config import flatten
from charjax.errors import ConfigError
from charjax.report import history
from charjax.units import bits, duration

# They say where a run is kept, not what it is.
_PLACES = frozenset(
    {"train.run_name", "train.checkpoint_dir", "train.report", "train.restart"}
)


class Comparison(NamedTuple):
    """Runs, the lowest validation loss first.

    Attributes:
      runs: a dict a run: its name, losses, size, time, speed, curves, and the values
        of `fields`.
      fields: the configuration's fields in which the runs differ.
      notes: what to bear in mind, such as that their texts differ.
    """

    runs: list[dict[str, Any]]
    fields: list[str]
    notes: list[str]


def compare(paths: Sequence[Path | str]) -> Comparison:
    """Returns runs beside each other.

    Args:
      paths: the folders of one run or more.

    Raises:
      CheckpointError: one is no run's folder, or has no sound checkpoint yet.
      ConfigError: none is given, or a configuration is not one that is known.

    Example:
      >>> from charjax import report
      >>> print(report.table(report.compare(["cv/a", "cv/b"])))  # doctest: +SKIP
    """
    if not paths:
        raise ConfigError("compare: expected the folder of a run or more, got none")
    folders = [history.open_folder(path) for path in paths]
    flat = [flatten(folder.config) for folder in folders]
    fields = [
        field
        for field in flat[0]
        if field not in _PLACES and len({repr(values[field]) for values in flat}) > 1
    ]
    ends = Counter(folder.path.resolve().name for folder in folders)
    rows = [
        _row(folder, {field: values[field] for field in fields}, ends)
        for folder, values in zip(folders, flat, strict=True)
    ]
    rows.sort(key=lambda row: (row["loss_of"] != "val", _or_last(row["best_loss"])))
    return Comparison(rows, fields, _notes(folders))


def table(comparison: Comparison) -> str:
    """Returns a comparison as a plain table.

    >>> print(table(Comparison([], [], [])))
    loss  bits  epoch  parameters  time  chars/s  run
    """
    head = ["loss", "bits", "epoch", "parameters", "time", "chars/s"]
    lines = [[*head, *comparison.fields, "run"]]
    for run in comparison.runs:
        cells = [cell for _, cell in figures(run)]
        values = [str(run["values"][field]) for field in comparison.fields]
        lines.append([*cells, *values, run["name"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            # The last column, a name, needs no padding.
            cell if i == len(line) - 1 else cell.rjust(widths[i])
            for i, cell in enumerate(line)
        )
        for line in lines
    ]
    return "\n".join([*text, *comparison.notes])


def figures(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns a run's figures as people read them, by column."""
    loss, speed = run["best_loss"], run["speed"]
    star = "" if run["loss_of"] == "val" else "*"
    return [
        ("loss", "-" if loss is None else f"{loss:.4f}{star}"),
        ("bits", "-" if loss is None else f"{bits(loss):.3f}"),
        ("epoch", f"{run['best_epoch']:.2f}"),
        ("parameters", f"{run['parameters']:,}"),
        ("time", duration(run["seconds"])),
        ("chars/s", "-" if speed is None else f"{speed:,.0f}"),
    ]


def _row(
    folder: history.Folder, values: dict[str, Any], ends: Counter[str]
) -> dict[str, Any]:
    end, record = folder.path.resolve().name, folder.record
    return {
        "name": end if ends[end] == 1 else str(folder.path),
        "best_loss": record.loss,
        "best_epoch": record.epoch,
        "loss_of": record.loss_of,
        "parameters": sum(
            math.prod(leaf["shape"])
            for name, leaf in record.leaves.items()
            if name.startswith("params")
        ),
        "seconds": history.seconds(folder),
        "speed": history.speed(folder.records),
        "finished": folder.summary is not None,
        "values": values,
        "curves": history.curves(folder.records),
    }


def _notes(folders: Sequence[history.Folder]) -> list[str]:
    notes = []
    if len({folder.text_sha256 for folder in folders}) > 1:
        notes.append("The runs are of different texts: their losses do not compare.")
    splits = ("split", "train_frac", "val_frac", "batch_size", "seq_length", "encoding")
    if len({tuple(f.config.data[name] for name in splits) for f in folders}) > 1:
        notes.append(
            "The runs cut the text differently: their validation splits are not the "
            "same characters."
        )
    if any(folder.record.loss_of != "val" for folder in folders):
        notes.append("* a training loss: the run has no validation split.")
    if running := [f.path.resolve().name for f in folders if f.summary is None]:
        notes.append(f"Not finished: {', '.join(running)}.")
    return notes


def _or_last(loss: float | None) -> float:
    return math.inf if loss is None else loss
