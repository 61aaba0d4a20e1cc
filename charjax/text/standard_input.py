"""Standard input, kept as a text: it cannot be read again when a run is continued."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from charjax.errors import TextError
from charjax.storage.files import kind_of, scratch_folder, sweep
from charjax.storage.locks import locked
from charjax.text.datasets import TEXT_NAME
from charjax.units import Say, shown, silent

_PIECE_BYTES = 1 << 19


def keep(root: Path | str, *, say: Say = silent) -> Path:
    """Reads standard input to its end and returns the folder that it is kept in.

    The folder is named after the content: the same text is the same folder, and so the
    same run.

    Args:
      root: the folder that holds one folder for each data set.
      say: called with each line that the user should read.

    Raises:
      TextError: there is none, it is empty, or it cannot be kept.
    """
    if sys.stdin is None:
        raise TextError("The text must come on standard input; got none. Try a file.")
    say("Reading the text from standard input")
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root, say) as held:
            if held:
                sweep(root)
            with scratch_folder(root) as scratch:
                digest = _copy(scratch / TEXT_NAME)
                folder = root / f"stdin-{digest[:12]}"
                folder.mkdir(exist_ok=True)
                if kind_of(folder / TEXT_NAME) == "missing":
                    os.replace(scratch / TEXT_NAME, folder / TEXT_NAME)
    except OSError as error:
        raise TextError(
            f"Cannot keep standard input in {shown(root)}: {error.strerror or error}. "
            "Try another folder to work in."
        ) from None
    say(f"Kept it in {shown(folder)}, from which the run can be continued")
    return folder


def _copy(path: Path) -> str:
    """Writes standard input to a file and returns the checksum of it."""
    digest, size = hashlib.sha256(), 0
    with open(path, "xb") as file:
        while piece := sys.stdin.buffer.read(_PIECE_BYTES):
            digest.update(piece)
            size += file.write(piece)
            _check_room(path.parent, size)
    if not size:
        raise TextError("Standard input is empty. Try another text.")
    return digest.hexdigest()


def _check_room(folder: Path, size: int) -> None:
    """Refuses what would fill the disk: its encoded form needs as much room again."""
    if (free := shutil.disk_usage(folder).free) < size:
        raise TextError(
            f"Standard input must take at most half of the free disk; got {size:,} "
            f"bytes with {free:,} left. Try a part of it."
        )
