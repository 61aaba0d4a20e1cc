"""The files of a run's folder beside its checkpoints: config, metrics, summary.

    config.json     whose run it is: `config`, all fields, and `text_sha256`
    metrics.jsonl   one record a line, of kind train, val or test
    summary.json    how a finished run ended; there is none before
    pruned          an empty file: a sink stopped the run; removed when it goes on

They are plain JSON, which people and other programs may edit, so every value is checked
when it is read. An error names the file, the line and the field. Unknown fields pass:
newer versions may add some.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charjax.config import Config, check_config, complete, flatten
from charjax.errors import CheckpointError, ConfigError
from charjax.storage.files import replacing
from charjax.training import schema

Record = dict[str, Any]

METRICS = "metrics.jsonl"
CONFIG = "config.json"
SUMMARY = "summary.json"
PRUNED = "pruned"

# What a run that was imported has in place of its text's checksum: that of no text.
NO_TEXT = hashlib.sha256().hexdigest()

KEPT = ("train", "val", "test")  # the kinds of records that `metrics.jsonl` holds

_EDIT_CONFIG = "Try correcting it, or train.restart=true, which begins a new run"
_DELETE_SUMMARY = "Try deleting the file and training again, which writes it anew"
_DELETE_LINE = "Try removing that line"


def claim(path: Path, config: Config, text_sha256: str) -> None:
    """Writes into a run's folder which configuration and text it is now a run of."""
    _write_json(path / CONFIG, identity_of(config, text_sha256))
    (path / PRUNED).unlink(missing_ok=True)


def identity_of(config: Config, text_sha256: str) -> dict[str, Any]:
    """Returns what identifies a run: its configuration and its text."""
    return {"config": config.to_dict(), "text_sha256": text_sha256}


def read_identity(path: Path) -> dict[str, Any] | None:
    """Returns the `config` and `text_sha256` of the run in a folder, None without.

    The values of the config are not checked; `read_config` does that.

    Raises:
      CheckpointError: the file is damaged or cannot be read.
    """
    file = path / CONFIG
    if not file.exists():
        return None
    identity = schema.parse(_read(file), str(file), _EDIT_CONFIG)
    schema.check_identity(identity, str(file), _EDIT_CONFIG)
    try:
        flatten(identity["config"])
    except RecursionError:
        raise CheckpointError(
            f"{file}: config must have two levels; got too many. {_EDIT_CONFIG}."
        ) from None
    return identity


def read_config(path: Path) -> tuple[Config, str] | None:
    """Returns the full configuration of the run in a folder and the text's sha256.

    The cell need not be registered.

    Returns:
      None where the folder has no configuration.

    Raises:
      CheckpointError: the file is damaged or cannot be read.
      ConfigError: a field is unknown, of the wrong type or out of range.
    """
    identity = read_identity(path)
    if identity is None:
        return None
    config = checked_config(identity["config"], str(path / CONFIG))
    return config, identity["text_sha256"]


def checked_config(
    fields: Mapping[str, Any], place: str, remedy: str = _EDIT_CONFIG
) -> Config:
    """Returns a full configuration of fields that were read from a file.

    Args:
      fields: the fields in their groups, as JSON has them.
      place: where they were read, for the message of an error.
      remedy: what to try, for that message too.

    Raises:
      ConfigError: a field is unknown, of the wrong type or out of range.
    """
    try:
        config = complete(fields)
        with_known_cell = config.copy_and_resolve_references()
        with_known_cell.model.cell = "lstm"
        check_config(with_known_cell)
        for field, value in flatten(config).items():
            if isinstance(value, str) and not _can_be_a_path(value):
                raise ConfigError(
                    f"{field} must be text without NUL and lone surrogates; got "
                    f"{schema.short(value)}"
                )
        return config
    # A ConfigDict raises various errors for names that its methods have.
    except (
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
        RecursionError,
    ) as error:  # fmt: skip
        reason = schema.one_line(error, 300)
        raise ConfigError(f"{place}: {reason}. {remedy}.") from None


def _can_be_a_path(text: str) -> bool:
    """Returns whether the functions on files take a text."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def is_finished(path: Path) -> bool:
    """Returns whether a run is marked as finished."""
    return (path / SUMMARY).exists()


def state_of(path: Path, text_sha256: str) -> str:
    """Returns in a word how far a run has come.

    Args:
      path: its folder.
      text_sha256: of its text, as one of its checkpoints has it.
    """
    if text_sha256 == NO_TEXT:
        return "imported"
    if is_finished(path):
        return "finished"
    return "pruned" if (path / PRUNED).exists() else "unfinished"


def read_summary(path: Path) -> dict[str, Any] | None:
    """Returns how a run ended, or None where it has not finished.

    Raises:
      CheckpointError: the file is damaged or cannot be read.
    """
    file = path / SUMMARY
    if not is_finished(path):
        return None
    summary = schema.parse(_read(file), str(file), _DELETE_SUMMARY)
    schema.check_summary(summary, str(file), _DELETE_SUMMARY)
    return summary


def check_test_loss(
    path: Path, summary: Mapping[str, Any], records: Sequence[Record]
) -> None:
    """Compares the two copies of the test loss, which no checkpoint holds.

    Raises:
      CheckpointError: `summary.json` and `metrics.jsonl` disagree.
    """
    recorded = [record["loss"] for record in records if record["kind"] == "test"]
    if recorded and recorded[-1] != summary["test_loss"]:
        raise CheckpointError(
            f"{path / SUMMARY}: test_loss must be {recorded[-1]}, as in {METRICS}; got "
            f"{summary['test_loss']}. {_DELETE_SUMMARY}."
        )


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Marks a run as finished."""
    _write_json(path / SUMMARY, summary)


def read_json_lines(path: Path, *, is_complete: bool = False) -> list[Record]:
    """Returns the records of a `metrics.jsonl`; none where the file does not exist.

    Args:
      path: the file.
      is_complete: whether a last line without its end is an error. By default it is
        left out: a process was killed while it wrote that line.

    Raises:
      CheckpointError: a line is not a record; the message names it.
    """
    if not path.exists():
        return []
    *lines, rest = _read(path).split(b"\n")
    if rest and is_complete:
        lines.append(rest)
    return [
        _parse_record(line, f"{path}: line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def rewind(path: Path, step: int, validated_step: int) -> None:
    """Removes from a file the records that a resumed run will write again.

    Args:
      path: the file, which need not exist.
      step: the step from which training continues.
      validated_step: the last step whose validation is recorded.
    """
    last = {"train": step, "val": validated_step, "test": -1}
    records = [r for r in read_json_lines(path) if r["step"] <= last[r["kind"]]]
    with replacing(path) as file:
        for record in records:
            file.write(json_line(record))


def json_line(record: Record) -> bytes:
    """Returns a record as a line of `metrics.jsonl`, in ASCII.

    Characters such as U+2028 are escaped: some programs take them for a line's end.
    """
    return (json.dumps(record) + "\n").encode("ascii")


def _read(file: Path) -> bytes:
    try:
        if not file.is_file():  # reading a FIFO would wait for ever
            raise CheckpointError(
                f"{file}: must be a regular file. Try moving it away."
            )
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read: {error.strerror}. Try changing its permissions."
        ) from None


def _parse_record(line: bytes, place: str) -> Record:
    record = schema.parse(line, place, _DELETE_LINE)
    schema.check_record(record, place, _DELETE_LINE)
    return record


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2).encode())
        file.flush()
        os.fsync(file.fileno())
