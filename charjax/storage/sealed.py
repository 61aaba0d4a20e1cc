"""JSON sealed by a sha256 of itself, and bounded in the memory that parsing it takes.

    {"sha256": "9f86d0...", "step": 90, ...}

The digest is over all bytes after the first field, so any changed byte is found. It
protects against accidents, not against a person, who can compute a new digest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# A vocabulary of every code point takes 13 MB, and an entry of a loss history about 40
# bytes, so there is room for both and 400,000 entries.
MAX_BYTES = 1 << 25
# Small values take far more memory parsed than as text ("{}," becomes 72 bytes). Each
# value but the first of a list or object has a comma, so a count of these characters
# bounds the memory before anything is parsed. Those within strings count as well.
_MAX_VALUES = 1 << 21
_MAX_OBJECTS = 1 << 16

_SEALED = re.compile(rb'\{"sha256": "([0-9a-f]{64})", (.*)', re.DOTALL)


def seal(plain: Mapping[str, Any]) -> bytes:
    """Returns JSON whose first field is the sha256 of all bytes that follow it.

    Args:
      plain: an object of JSON values; no field may be called sha256.

    Raises:
      TypeError: a value is not JSON.
      ValueError: it is too large for `unseal`.

    >>> seal({"step": 90})[:12], len(seal({"step": 90}))
    (b'{"sha256": "', 90)
    """
    rest = json.dumps(plain).encode("ascii").removeprefix(b"{")
    digest = hashlib.sha256(rest).hexdigest().encode()
    sealed = b'{"sha256": "%s", %s' % (digest, rest)
    _require_bounded(sealed)
    return sealed


def unseal(raw: bytes) -> dict[str, Any]:
    """Returns the object that `seal` was given.

    Args:
      raw: what `seal` returned.

    Raises:
      ValueError: a byte has changed, it is not JSON, a field occurs twice, or parsing
        could take more memory than any sealed file needs. The message continues a
        sentence that begins with the file's name.

    >>> unseal(seal({"step": 90}))
    {'step': 90}
    """
    match = _SEALED.fullmatch(raw)
    if not match or hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise ValueError("is damaged, its sha256 differs")
    _require_bounded(raw)
    try:
        return json.loads(b"{" + match[2], object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"is not sealed JSON: {reason}") from error


def _require_bounded(raw: bytes) -> None:
    sizes = {
        "bytes": (len(raw), MAX_BYTES),
        "values": (raw.count(b",") + raw.count(b"["), _MAX_VALUES),
        "objects": (raw.count(b"{"), _MAX_OBJECTS),
    }
    for unit, (size, limit) in sizes.items():
        if size > limit:
            raise ValueError(f"must have at most {limit:,} {unit}; got {size:,}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError("a field occurs twice")
    return plain
