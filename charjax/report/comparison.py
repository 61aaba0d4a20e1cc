"""Several runs side by side: their losses and the fields that differ between them."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charjax.config import flatten
from charjax.errors import ConfigError
from charjax.fields import COMPARED
from charjax.report.read import SavedRun, curves, read_run
from charjax.units import bits, duration, printable

# Fields that decide which characters are in the validation split.
_SPLIT_FIELDS = (
    "data.split",
    "data.train_frac",
    "data.val_frac",
    "data.batch_size",
    "data.seq_length",
    "data.encoding",
    "data.normalize",
    "data.field",
    "data.separator",
    "data.digits",
    "data.nesting",
)


class Comparison(NamedTuple):
    """Runs side by side, the lowest validation loss first.

    Attributes:
      runs: one dict for each run: its name, losses, size, time, speed, curves, and its
        values of `fields`.
      fields: the fields of the configuration that differ between the runs.
      notes: what limits the comparison, such as that the texts differ.
    """

    runs: list[dict[str, Any]]
    fields: list[str]
    notes: list[str]


def compare(paths: Sequence[Path | str]) -> Comparison:
    """Returns runs side by side.

    Args:
      paths: the folders of one or more runs.

    Raises:
      CheckpointError: one is not a run's folder, has no sound checkpoint yet, or holds
        a damaged file.
      ConfigError: no path is given, or a run's configuration is not known, or not its
        checkpoints'.

    Example:
      >>> from charjax import report
      >>> print(report.table(report.compare(["cv/a", "cv/b"])))  # doctest: +SKIP
    """
    if not paths:
        raise ConfigError(
            "the runs to compare must be at least one; got none. Try compare(['cv/a'])."
        )
    runs = [read_run(path) for path in paths]
    fields = _differing_fields(runs)
    names = Counter(run.name for run in runs)
    rows = [
        _row(run, fields, run.name if names[run.name] == 1 else str(run.path))
        for run in runs
    ]
    has_bytes = any(row["bytes_per_character"] != 1 for row in rows)
    rows = [row | {"shows_bytes": has_bytes} for row in rows]
    rows.sort(key=lambda row: (row["loss_of"] != "val", _or_last(row["best_loss"])))
    return Comparison(rows, fields, _notes(runs))


def table(comparison: Comparison) -> str:
    """Returns a comparison as a table of plain text.

    >>> print(table(Comparison([], [], [])))
    loss  bits  epoch  parameters  time  chars/s  run
    """
    head = ["loss", "bits", "epoch", "parameters", "time", "chars/s"]
    if comparison.runs:
        head = [name for name, _ in figures(comparison.runs[0])]
    lines = [[*head, *comparison.fields, "run"]]
    for run in comparison.runs:
        values = [run["values"][field] for field in comparison.fields]
        cells = [*(cell for _, cell in figures(run)), *values, run["name"]]
        lines.append(list(map(_cell, cells)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = []
    for *cells, name in lines:
        padded = [
            cell.rjust(width) for cell, width in zip(cells, widths[:-1], strict=True)
        ]
        rows.append("  ".join([*padded, name]))
    return "\n".join([*rows, *map(_cell, comparison.notes)])


def _cell(value: object) -> str:
    """Returns a value as one line that a terminal can only show, not obey."""
    return printable(str(value).replace("\n", "\r"), None)


def figures(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns a run's figures as text, each with the name of its column."""
    loss, speed = run["best_loss"], run["speed"]
    size, per_byte = run["bytes_per_character"], []
    if run["shows_bytes"]:
        per_byte = [("a byte", f"{bits(loss) / size:.3f}" if loss and size else "-")]
    star = "" if run["loss_of"] == "val" else "*"
    return [
        ("loss", "-" if loss is None else f"{loss:.4f}{star}"),
        ("bits", "-" if loss is None else f"{bits(loss):.3f}"),
        *per_byte,
        ("epoch", f"{run['best_epoch']:.2f}"),
        ("parameters", f"{run['parameters']:,}"),
        ("time", duration(run["seconds"])),
        ("chars/s", "-" if speed is None else f"{speed:,.0f}"),
    ]


def _differing_fields(runs: Sequence[SavedRun]) -> list[str]:
    """Returns the fields that get a column, in the order of the configuration."""
    flat = [flatten(run.config) for run in runs]
    return [
        field
        for field in flat[0]
        if field in COMPARED and len({repr(values[field]) for values in flat}) > 1
    ]


def _row(run: SavedRun, fields: Sequence[str], name: str) -> dict[str, Any]:
    values, best = flatten(run.config), run.best_manifest
    return {
        "name": name,
        "best_loss": best.loss,
        "bytes_per_character": best.bytes_per_character,
        "best_epoch": best.epoch,
        "loss_of": best.loss_of,
        "parameters": best.num_parameters,
        "seconds": run.seconds,
        "speed": run.chars_per_second,
        "finished": run.is_finished,
        "values": {field: values[field] for field in fields},
        "curves": curves(run.records),
    }


def _notes(runs: Sequence[SavedRun]) -> list[str]:
    notes = []
    if len({run.text_sha256 for run in runs}) > 1:
        notes.append("The runs have different texts, so their losses do not compare.")
    splits = [flatten(run.config) for run in runs]
    if len({tuple(fields[name] for name in _SPLIT_FIELDS) for fields in splits}) > 1:
        notes.append(
            "The runs split the text differently, so their validation losses are of "
            "different characters."
        )
    if any(run.best_manifest.loss_of != "val" for run in runs):
        notes.append("* a training loss: the run has no validation split.")
    if running := [run.name for run in runs if not run.is_finished]:
        notes.append(f"Not finished: {', '.join(running)}.")
    return notes


def _or_last(loss: float | None) -> float:
    return math.inf if loss is None else loss
