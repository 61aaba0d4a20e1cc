"""What `metrics.jsonl`, `config.json` and `summary.json` may hold, and the check of it.

Unknown fields pass: newer versions may add some.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charjax.errors import CheckpointError

_LARGEST = 1e100  # sums and means of what is read stay finite
_LONGEST = 1e11  # seconds, three thousand years
_MAX_SHOWN = 60  # characters of a wrong value in an error


class _Type(NamedTuple):
    """What a field must be, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]
    is_required: bool = True


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _is_size(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_name(value: Any) -> bool:
    """Returns whether a value is the name of something in a folder, not a path."""
    if not isinstance(value, str) or value in ("", "..") or "\0" in value:
        return False
    return value == Path(value).name


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


_NUMBER = _Type("a finite number (at most 1e100)", _is_number)
_SIZE = _Type("a finite number of 0 or more (at most 1e100)", _is_size)
_COUNT = _Type(
    "a whole number of 0 or more", lambda v: type(v) is int and 0 <= v < 2**53
)
_SECONDS = _Type(
    "a number of seconds from 0 to 1e11", lambda v: _is_size(v) and v <= _LONGEST
)
_TEXT = _Type("a string", lambda v: isinstance(v, str))


def _or_null(type_: _Type) -> _Type:
    return type_._replace(
        words=f"{type_.words}, or null", fits=lambda v: v is None or type_.fits(v)
    )


def _one_of(*choices: str) -> _Type:
    words = " or ".join(f"'{choice}'" for choice in choices)
    return _Type(words, lambda v: isinstance(v, str) and v in choices)


_LOSS = {
    "step": _COUNT,
    "epoch": _SIZE,
    "loss": _NUMBER,
    "bits": _NUMBER,
    # Only where a character is not one byte.
    "bits_per_byte": _NUMBER._replace(is_required=False),
}
_RECORDS = {
    "train": _LOSS
    | {
        "grad_norm": _SIZE,
        "grad_to_param": _SIZE,
        "learning_rate": _SIZE,
        "seconds": _SECONDS,
        # Not yet there in the first version.
        "chars_per_second": _or_null(_SIZE)._replace(is_required=False),
        "seconds_left": _or_null(_SIZE)._replace(is_required=False),
    },
    "val": _LOSS
    | {"of": _one_of("val", "train"), "seconds": _SECONDS, "sample": _TEXT},
    "test": _LOSS | {"of": _one_of("test")},
}
_SUMMARY = {
    "best": _Type("the name of a checkpoint in this folder", _is_name),
    "best_loss": _NUMBER,
    "test_loss": _or_null(_NUMBER),
    "steps": _COUNT._replace(is_required=False),
    "seconds": _SECONDS._replace(is_required=False),
}
_IDENTITY = {
    "config": _Type("an object", lambda v: isinstance(v, dict)),
    "text_sha256": _Type("64 hexadecimal digits", _is_sha256),
}


def check_identity(fields: dict[str, Any], place: str, remedy: str) -> None:
    """Raises a CheckpointError unless an object is what `config.json` holds."""
    _check(fields, _IDENTITY, place, remedy)


def check_summary(fields: dict[str, Any], place: str, remedy: str) -> None:
    """Raises a CheckpointError unless an object is what `summary.json` holds."""
    _check(fields, _SUMMARY, place, remedy)


def check_record(fields: dict[str, Any], place: str, remedy: str) -> None:
    """Raises a CheckpointError unless an object is a record of `metrics.jsonl`."""
    _check(fields, {"kind": _one_of(*_RECORDS)}, place, remedy)
    _check(fields, _RECORDS[fields["kind"]], place, remedy)
    bits = fields["loss"] / math.log(2)
    # Each loss is written in two units, so a wrong digit in one of them shows.
    if not math.isclose(fields["bits"], bits, rel_tol=1e-6, abs_tol=1e-6):
        words = f"the loss over ln 2, {bits:.6g}"
        raise _wrong(place, "bits", words, fields["bits"], remedy)


def parse(data: bytes, place: str, remedy: str) -> dict[str, Any]:
    """Returns the JSON object that a file or line holds."""
    try:
        # Not json.loads(bytes), which would also take UTF-16 and lone surrogates.
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct)
        if not isinstance(value, dict):
            raise ValueError(short(value))
        return value
    except (ValueError, RecursionError) as error:
        reason = one_line(error, 200)
        raise CheckpointError(
            f"{place}: must be one JSON object; got {reason}. {remedy}."
        ) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {short(twice)} twice")
    return fields


def _check(
    fields: dict[str, Any], types: Mapping[str, _Type], place: str, remedy: str
) -> None:
    for name, type_ in types.items():
        if name not in fields:
            if type_.is_required:
                raise CheckpointError(
                    f"{place}: must have the field {name!r}; got none. {remedy}."
                )
        elif not type_.fits(fields[name]):
            raise _wrong(place, name, type_.words, fields[name], remedy)


def _wrong(
    place: str, name: str, words: str, value: Any, remedy: str
) -> CheckpointError:
    return CheckpointError(f"{place}: {name} must be {words}; got {short(value)}. "
                           f"{remedy}.")  # fmt: skip


def short(value: Any) -> str:
    """Returns a value as one short line."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, deep nesting
        shown = f"a long {type(value).__name__}"
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."


def one_line(error: Exception, longest: int) -> str:
    """Returns an error's message as one line of a bounded length."""
    line = " ".join(str(error).split()).rstrip(".")
    return line if len(line) <= longest else f"{line[:longest]}..."
