"""What a run's folder holds, read in one place: config, records, best checkpoint."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charjax import checkpoint
from charjax.config import Config, complete, default_config, flatten
from charjax.errors import CheckpointError
from charjax.training import folder as run_folder
from charjax.training.folder import Record, read_json_lines

_POINTS = 600  # more would only thicken a line


class Folder(NamedTuple):
    """A run as its folder has it.

    Attributes:
      path: the folder.
      config: the checked configuration.
      text_sha256: the checksum of its text.
      best: the folder of the best checkpoint.
      record: what that checkpoint says of itself.
      records: the records of `metrics.jsonl`.
      summary: how the run ended; None while it has not.
    """

    path: Path
    config: Config
    text_sha256: str
    best: Path
    record: checkpoint.Manifest
    records: list[Record]
    summary: dict[str, Any] | None


def open_folder(path: Path | str) -> Folder:
    """Returns what a run's folder holds.

    Raises:
      CheckpointError: it is no run's folder, or has no sound checkpoint yet.
      ConfigError: its configuration is not one that this charjax knows.
    """
    path = Path(path)
    identity = run_folder.read_identity(path)
    if identity is None:
        raise CheckpointError(
            f"{path}: expected a run's folder, such as cv/shakespeare_lstm, found no "
            "config.json in it; charjax list shows the runs there are"
        )
    best = checkpoint.find(path)
    return Folder(
        path=path,
        config=complete(identity["config"]),
        text_sha256=identity["text_sha256"],
        best=best,
        record=checkpoint.read(best),
        records=read_json_lines(path / run_folder.METRICS),
        summary=run_folder.read_summary(path),
    )


def changed_fields(config: Config) -> dict[str, Any]:
    """Returns the fields that differ from the default, by their dotted names."""
    default = flatten(default_config())
    return {k: v for k, v in flatten(config).items() if v != default[k]}


def curves(records: list[Record]) -> dict[str, Any]:
    """Returns the training and validation records as lists of equal length.

    Training records are thinned to some hundred points, each the mean of its
    neighbours; single outliers stay visible in `grad_norm_max`.
    """
    train = [r for r in records if r["kind"] == "train"]
    val = [r for r in records if r["kind"] == "val"]
    names = ("epoch", "step", "loss", "seconds", "learning_rate", "grad_norm")
    thin = {name: _thinned([r[name] for r in train]) for name in names}
    return {
        "train": thin
        | {"grad_norm_max": _thinned([r["grad_norm"] for r in train], np.max)},
        "val": {
            name: [r[name] for r in val]
            for name in ("epoch", "step", "loss", "seconds")
        },
        "of": val[-1]["of"] if val else "val",
    }


def speed(records: list[Record]) -> float | None:
    """Returns the median of the characters a second that were read in training."""
    rates = [r["chars_per_second"] for r in records if r.get("chars_per_second")]
    return float(np.median(rates)) if rates else None


def seconds(folder: Folder) -> float:
    """Returns how long a run has trained."""
    ended = (folder.summary or {}).get("seconds")
    return ended if ended is not None else folder.record.progress.get("seconds", 0.0)


def _thinned(values: list[float], merge: Any = np.mean) -> list[float]:
    parts = np.array_split(
        np.asarray(values, np.float64), min(_POINTS, len(values) or 1)
    )
    return [float(merge(part)) for part in parts if len(part)]


def plain_json(value: Any) -> str:
    """Returns JSON on one line, as small as it gets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
