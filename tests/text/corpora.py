"""Texts and folders that the tests of corpora share."""

import errno
import os
from pathlib import Path

from charjax.storage import files

STORY = "Füchse springen.\r\nЁлки.\n\ufeff\u2028\x00\U0001f98a ok" * 9

CACHED = ["input.txt", "input.utf-8.ids", "input.utf-8.json"]


def write_text(folder, content):
    (Path(folder) / "input.txt").write_bytes(content)


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def inodes(folder):
    return {path.name: path.stat().st_ino for path in Path(folder).iterdir()}


def forbid_new_files(monkeypatch, *forbidden, error=errno.EROFS):
    """Lets no file be opened for writing in the folders: root may write anywhere."""

    def refuse(path, mode="r", **options):
        if "r" not in mode and Path(path).parent in forbidden:
            raise OSError(error, os.strerror(error), str(path))
        return open(path, mode, **options)

    monkeypatch.setattr(files, "open", refuse, raising=False)
