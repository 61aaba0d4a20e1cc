"""Which files a text is read from: one file, all files of a folder, or those of a glob.

A folder with an input.txt means that file. Of any other folder all files count, at any
depth, in the order of the bytes of their paths, which is the same on every machine.
What begins with a dot is left out, and so are the caches of encoded texts; links to
folders are not followed, and what is not a file is never opened.
"""

import os
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from charjax.errors import MissingTextError, TextError
from charjax.storage.files import kind_of
from charjax.text.datasets import TEXT_NAME
from charjax.text.datasets import names as dataset_names
from charjax.units import shown

_MAX_FILES = 1 << 16
_MAX_ENTRIES = 1 << 20  # looked at in a folder and below
_MAGIC = "*?"
_ALL = ["**", "*"]
_CACHED = re.compile(r"(.*)(^input\.|-)((?:utf-8|bytes)[-0-9a-z]*)\.(ids|json)", re.S)


class Listing(NamedTuple):
    """The files of a text.

    Attributes:
      folder: the folder that the names start from, in which the cache is kept.
      names: the files' paths from there, with forward slashes, in order.
      skipped: what else was there, in words; empty for nothing.
    """

    folder: Path
    names: tuple[str, ...]
    skipped: str = ""


def list_files(path: Path) -> Listing:
    """Returns the files that a folder or a glob means.

    Args:
      path: a folder, or a pattern whose `*` and `?` stand for parts of a name and whose
        `**` for any folders.

    Raises:
      MissingTextError: there is no file.
      TextError: a folder cannot be read, or there are far too many files.
    """
    folder, pattern = (path, _ALL) if kind_of(path) == "folder" else _split(path)
    if kind_of(folder) != "folder":
        raise MissingTextError(f"No folder {shown(folder)}. Try another path.")
    skipped: Counter[str] = Counter()
    names = [name for name in _walk(folder, skipped) if _matches(name, pattern)]
    words = ", ".join(
        f"{count} {kind}" for kind, count in sorted(skipped.items()) if count
    )
    if not names:
        besides = f" (besides {words})" if words else ""
        wanted = "text file" if pattern == _ALL else f"file of {'/'.join(pattern)}"
        raise MissingTextError(
            f"No {wanted} in {shown(folder)}{besides}. Try putting a text there, "
            f"or a data set: {', '.join(dataset_names())}."
        )
    if len(names) > _MAX_FILES:
        raise TextError(
            f"{shown(path)} must have at most {_MAX_FILES:,} files; got {len(names):,}."
            " Try joining them, or JSON lines with data.field."
        )
    return Listing(folder, tuple(sorted(names, key=os.fsencode)), words)


def is_glob(path: Path) -> bool:
    """Returns whether a path is a pattern: there is no such file, and it has a `*`.

    >>> is_glob(Path("poems/*.txt")), is_glob(Path("poems/odes.txt"))
    (True, False)
    """
    return any(c in str(path) for c in _MAGIC) and kind_of(path) == "missing"


def folder_of(path: Path) -> Path:
    """Returns the folder that a pattern starts from.

    >>> folder_of(Path("poems/**/*.txt")).as_posix(), str(folder_of(Path("*.txt")))
    ('poems', '.')
    """
    return _split(path)[0]


def _split(path: Path) -> tuple[Path, list[str]]:
    """Returns a pattern's folder and the parts that are patterns."""
    parts = path.parts
    first = next((i for i, p in enumerate(parts) if set(_MAGIC) & set(p)), len(parts))
    last = ["*"] if parts[-1:] == ("**",) else []
    return Path(*parts[:first]), [*parts[first:], *last]


def _walk(folder: Path, skipped: Counter[str]) -> list[str]:
    """Returns the paths of all files below a folder, and counts what is left out."""
    names: list[str] = []
    rest, entries = [""], 0
    while rest:
        prefix = rest.pop()
        found = _entries(folder / prefix)
        entries += len(found)
        if entries > _MAX_ENTRIES:
            raise TextError(
                f"{shown(folder)} must have at most {_MAX_ENTRIES:,} files and folders;"
                " got more. Try a folder that holds the texts alone."
            )
        here = {entry.name for entry in found}
        for entry in found:
            if entry.name.startswith("."):
                skipped["hidden"] += not entry.name.startswith(".charjax-")
            elif entry.is_dir(follow_symlinks=False):
                rest.append(f"{prefix}{entry.name}/")
            elif _is_cache(entry.name, here):
                skipped["cached"] += 1
            elif (kind := kind_of(Path(entry.path))) == "file":
                names.append(prefix + entry.name)
            else:
                skipped[f"link to a {kind}" if entry.is_symlink() else kind] += 1
    return names


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        reason = error.strerror or error
        raise TextError(
            f"Cannot read {shown(folder)}: {reason}. Try changing its permissions."
        ) from None


def _is_cache(name: str, beside: set[str]) -> bool:
    """Returns whether a file is one of the two of an encoded text that is there too."""
    match = _CACHED.fullmatch(name)
    if not match:
        return False
    text = match[1] or TEXT_NAME
    other = "json" if match[4] == "ids" else "ids"
    return text in beside and f"{name.rpartition('.')[0]}.{other}" in beside


def _matches(name: str, pattern: list[str]) -> bool:
    """Returns whether a path fits a pattern, read part by part in time of their sizes.

    >>> _matches("a/b/c.txt", ["**", "*.txt"]), _matches("a/b.txt", ["*.txt"])
    (True, False)
    """

    def reach(places: set[int]) -> set[int]:
        """Adds the places after each `**`, which may stand for nothing."""
        for place in range(len(pattern)):
            if place in places and pattern[place] == "**":
                places.add(place + 1)
        return places

    places = reach({0})
    for part in name.split("/"):
        after = {p for p in places if p < len(pattern) and pattern[p] == "**"}
        after |= {
            p + 1
            for p in places
            if p < len(pattern) and pattern[p] != "**" and fnmatchcase(part, pattern[p])
        }
        places = reach(after)
    return len(pattern) in places
