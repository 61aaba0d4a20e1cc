"""A lock keeps a folder or file for one process, and ends with that process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from charjax.errors import BusyError
from charjax.storage import locks

ROOT = Path(locks.__file__).parents[2]

needs_locks = pytest.mark.skipif(locks.fcntl is None, reason="no locks on this system")


@needs_locks
def test_a_folder_that_is_not_there_cannot_be_held(tmp_path):
    with locks.locked(tmp_path) as held:
        assert held
    with locks.locked(tmp_path / "none") as held:
        assert not held


OWNER = """
import sys, time
from pathlib import Path
from charjax.storage import locks
with locks.owned(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(60)
"""


@needs_locks
def test_the_lock_of_a_killed_process_is_free_and_that_of_a_living_one_is_not(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", OWNER, str(path)]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert owner.stdout.readline() == b"owned\n"
        before = path.read_bytes()
        with pytest.raises(
            BusyError, match=f"process {owner.pid} on {platform.node()}"
        ):
            locks.owned(path).__enter__()
        assert path.read_bytes() == before
    finally:
        owner.kill()
        owner.communicate()
    with locks.owned(path) as is_ours:
        assert is_ours()
    assert os.listdir(tmp_path) == []


@needs_locks
def test_an_owner_knows_when_its_file_was_removed_or_replaced(tmp_path):
    path = tmp_path / "lock"
    with locks.owned(path) as is_ours:
        path.unlink()
        assert not is_ours()
        path.write_text("another's")
        assert not is_ours()
    assert path.read_text() == "another's"


@needs_locks
def test_an_owner_that_leaves_while_another_waits_hands_over_one_lock(
    tmp_path, monkeypatch
):
    """The second has the file open when the first removes it."""
    path, first, open_now = tmp_path / "lock", locks.owned(tmp_path / "lock"), os.open
    first.__enter__()
    leaving = [first]

    def open_late(*args):
        descriptor = open_now(*args)
        while leaving:
            leaving.pop().__exit__(None, None, None)
        return descriptor

    monkeypatch.setattr(os, "open", open_late)
    with locks.owned(path) as is_ours:
        assert is_ours()
        with pytest.raises(BusyError):
            locks.owned(path).__enter__()


def test_without_locks_an_owner_is_warned(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(locks, "fcntl", None)
    with locks.owned(tmp_path / "lock", said.append) as is_ours:
        assert is_ours()
    assert "no file locks" in said[0]
