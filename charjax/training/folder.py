"""The files of a run's folder beside its checkpoints: config, metrics, summary."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charjax.config import Config, flatten
from charjax.errors import CheckpointError
from charjax.storage.files import replacing

Record = dict[str, Any]

METRICS = "metrics.jsonl"
CONFIG = "config.json"
SUMMARY = "summary.json"

KEPT = ("train", "val", "test")  # the kinds that `metrics.jsonl` holds


def claim(path: Path, config: Config, text_sha256: str) -> None:
    """Notes in a run's folder whose run it is."""
    _write_json(path / CONFIG, identity_of(config, text_sha256))


def read_identity(path: Path) -> dict[str, Any] | None:
    """Returns the `config` and `text_sha256` of the run in a folder, None without."""
    file = path / CONFIG
    if not file.is_file():
        return None
    with _naming_damage(file):
        match json.loads(file.read_text("utf-8")):
            case {"config": dict(config), "text_sha256": str()} as identity:
                flatten(config)  # which fails where it is nested too deep
                return identity
        raise ValueError("it is no configuration of a run")


def is_finished(path: Path) -> bool:
    """Returns whether a run is marked as finished."""
    return (path / SUMMARY).exists()


def read_summary(path: Path) -> dict[str, Any] | None:
    """Returns how a run ended, or None while it has not."""
    file = path / SUMMARY
    if not is_finished(path):
        return None
    with _naming_damage(file):
        match json.loads(file.read_text("utf-8")):
            case {
                "best": str(best),
                "best_loss": float(),
                "test_loss": float() | None,
            } as summary if best == Path(best).name:
                return summary
        raise ValueError("it is no summary of a run")


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Marks a run as finished."""
    _write_json(path / SUMMARY, summary)


def identity_of(config: Config, text_sha256: str) -> dict[str, Any]:
    """Returns what identifies a run: its configuration and its text."""
    return {"config": config.to_dict(), "text_sha256": text_sha256}


def read_json_lines(path: Path) -> list[Record]:
    """Returns a file's records; a last line cut off by a crash is left out.

    Raises:
      CheckpointError: another line is no record; the message tells which.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, f"{path}: line {n}") for n, line in enumerate(lines, 1)]


def _parse(line: bytes, place: str) -> Record:
    try:
        match json.loads(line):
            case {"kind": "train" | "val" | "test", "step": int()} as record:
                return record
        reason = "it is no record"
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
    raise CheckpointError(f"{place} is damaged ({reason}); take that line out")


def rewind(path: Path, step: int, validated_step: int) -> None:
    """Takes out of a file what a run will record again.

    Args:
      path: the file, which need not be there.
      step: the step from which training goes on.
      validated_step: the last one whose validation is done with.
    """
    last = {"train": step, "val": validated_step, "test": -1}
    records = [r for r in read_json_lines(path) if r["step"] <= last[r["kind"]]]
    with replacing(path) as file:
        for record in records:
            file.write(json_line(record))


def json_line(record: Record) -> bytes:
    """Returns a record as a line of `metrics.jsonl`."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


@contextlib.contextmanager
def _naming_damage(file: Path) -> Iterator[None]:
    """Makes what reading damaged JSON raises one line that names the file."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{file} is damaged ({reason}); mend it, or begin anew beside it with "
            "train.restart=true"
        ) from None


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(plain, indent=2).encode())
        file.flush()
        os.fsync(file.fileno())
