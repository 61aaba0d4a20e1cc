"""A run's folder, read and checked: configuration, records, checkpoints.

What a checkpoint holds is sealed by a checksum, so it is preferred to what the files
beside it say: the best loss, the steps and the time come from there, and a
configuration that differs from the sealed one is refused.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charjax import checkpoint
from charjax.config import Config, default_config, flatten, may_differ
from charjax.errors import CheckpointError, ConfigError
from charjax.fields import FREE
from charjax.training import folder
from charjax.training.folder import Record

Section = dict[str, Any]  # the plain data of one part of a report

_MAX_POINTS = 600  # of a curve; a chart has about as many pixels
_YEAR_9999 = 253_402_300_799  # in Unix time; later ones are not a date


class SavedRun(NamedTuple):
    """A run as its folder has it.

    Attributes:
      path: the folder.
      config: the checked configuration.
      text_sha256: the checksum of its text.
      best: the folder of the best checkpoint.
      best_manifest: what that checkpoint says of itself.
      latest_manifest: what the latest checkpoint says of itself.
      records: the records of `metrics.jsonl`.
      is_finished: whether training came to its end, or the model was imported.
      test_loss: the best checkpoint's loss on the test split; None where not measured.
    """

    path: Path
    config: Config
    text_sha256: str
    best: Path
    best_manifest: checkpoint.Manifest
    latest_manifest: checkpoint.Manifest
    records: list[Record]
    is_finished: bool
    test_loss: float | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def seconds(self) -> float:
        """How long it has trained, up to its latest checkpoint."""
        return self.latest_manifest.progress.get("seconds", 0.0)

    @property
    def chars_per_second(self) -> float | None:
        """The median of the characters read a second; None where not recorded."""
        rates = [r["chars_per_second"] for r in self.records if _has_rate(r)]
        return float(np.median(rates)) if rates else None


def read_run(path: Path | str) -> SavedRun:
    """Returns what a run's folder holds.

    Raises:
      CheckpointError: it is not a run's folder, has no sound checkpoint yet, or a file
        in it is damaged.
      ConfigError: a field of its configuration is unknown, out of range, or not what
        its checkpoints were trained with.
    """
    path = Path(path)
    found = folder.read_config(path)
    if found is None:
        raise CheckpointError(
            f"{path}: must be a run's folder, such as cv/shakespeare_lstm; found no "
            "config.json in it. Try charjax list, which shows the runs."
        )
    given, text_sha256 = found
    best = checkpoint.find(path)
    best_manifest = _read_manifest(best)
    summary = folder.read_summary(path)
    records = folder.read_json_lines(
        path / folder.METRICS, is_complete=summary is not None
    )
    return SavedRun(
        path=path,
        config=_sealed_config(path, given, best, best_manifest, text_sha256),
        text_sha256=text_sha256,
        best=best,
        best_manifest=best_manifest,
        latest_manifest=_read_manifest(checkpoint.find(path, "latest")),
        records=records,
        is_finished=summary is not None or text_sha256 == folder.NO_TEXT,
        test_loss=_test_loss(path, summary, records),
    )


def changed_fields(config: Config) -> dict[str, Any]:
    """Returns the fields that differ from the default, by their dotted names."""
    default = flatten(default_config())
    return {k: v for k, v in flatten(config).items() if v != default[k]}


def curves(records: list[Record]) -> dict[str, Any]:
    """Returns the training and validation records as lists of equal length.

    Training records are thinned to a few hundred points, each the mean of its
    neighbours; `grad_norm_max` has their largest, so that outliers stay visible.
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


def _read_manifest(path: Path) -> checkpoint.Manifest:
    """Returns a checkpoint's manifest, after checks of the fields that are shown."""
    manifest = checkpoint.read(path)
    seconds = manifest.progress.get("seconds", 0.0)
    wrong = None
    if not (type(seconds) in (int, float) and 0 <= seconds <= 1e11):
        wrong = f"progress.seconds must be a number of seconds; got {seconds!r:.60}"
    elif not 0 <= manifest.saved <= _YEAR_9999:
        wrong = f"saved must be a Unix time before the year 10000; got {manifest.saved}"
    elif not 0 <= manifest.epoch <= 1e100:
        wrong = f"epoch must be from 0 to 1e100; got {manifest.epoch}"
    elif not all(isinstance(version, str) for version in manifest.versions.values()):
        wrong = "versions must be strings"
    if wrong:
        raise CheckpointError(
            f"{path / checkpoint.MANIFEST}: {wrong}. Try another checkpoint."
        )
    return manifest


def _sealed_config(
    path: Path,
    given: Config,
    best: Path,
    manifest: checkpoint.Manifest,
    text_sha256: str,
) -> Config:
    """Returns the best checkpoint's configuration, and what may change of another.

    Raises:
      ConfigError: the two differ in other fields.
    """
    config = folder.checked_config(
        manifest.config, str(best / checkpoint.MANIFEST), "Try another checkpoint"
    )
    sealed, now = flatten(config), flatten(given)
    differing = [
        f"{field} must be {value!r}; got {now[field]!r}"
        for field, value in sealed.items()
        if field not in may_differ(given) and now[field] != value
    ]
    text = manifest.progress.get("text_sha256", text_sha256)
    if text != text_sha256:  # older checkpoints have none
        differing.append(f"text_sha256 must be {text!r}; got {text_sha256!r}")
    if differing:
        raise ConfigError(
            f"{path / folder.CONFIG}: {'; '.join(differing)[:300]}, as {best.name} was "
            "trained. Try setting it back."
        )
    with config.unlocked():
        for field in FREE:
            group, name = field.split(".")
            config[group][name] = given[group][name]
    return config


def _test_loss(
    path: Path, summary: dict[str, Any] | None, records: list[Record]
) -> float | None:
    if summary is None:
        return None
    folder.check_test_loss(path, summary, records)
    return summary["test_loss"]


def _has_rate(record: Record) -> bool:
    return bool(record.get("chars_per_second"))


def _thinned(values: list[float], merge: Any = np.mean) -> list[float]:
    count = min(_MAX_POINTS, len(values) or 1)
    parts = np.array_split(np.asarray(values, np.float64), count)
    return [float(merge(part)) for part in parts if len(part)]
