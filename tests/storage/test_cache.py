"""The user's cache folder is where it should be, and private."""

import os
import stat
from pathlib import Path

import pytest

from charjax.storage.cache import (
    CacheError,
    cache_folder,
    private_folder,
    require_private,
)

on_posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    folder = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def give_away(path, monkeypatch):
    """Makes a path another user's; without the right to, makes this user another."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_an_absolute_xdg_cache_home_is_honoured_and_another_is_not(
    caches, monkeypatch, tmp_path
):
    assert cache_folder() == caches / "charjax"
    for value in ("relative", ".", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        folder = cache_folder()
        assert folder.is_absolute()
        assert folder.parts[-2:] == (".cache", "charjax") or os.name != "posix"


def test_a_home_that_is_the_current_folder_is_not_used(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", ".")
    try:
        folder = cache_folder()
    except CacheError:
        return
    assert folder.is_absolute()
    assert not folder.is_relative_to(tmp_path)


@on_posix
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_folders_are_made_for_the_user_alone_under_any_umask(caches, umask):
    before = os.umask(umask)
    try:
        folder = private_folder("native")
    finally:
        os.umask(before)
    assert folder == caches / "charjax" / "native"
    assert [mode(f) for f in (folder, folder.parent, caches)] == [0o700] * 3
    assert private_folder("native") == folder


@on_posix
@pytest.mark.parametrize("place", [".", "charjax", "charjax/native"])
@pytest.mark.parametrize("bits", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_is_refused(caches, place, bits):
    private_folder("native")
    (caches / place).chmod(bits)
    with pytest.raises(CacheError, match="writable by its owner only") as caught:
        private_folder("native")
    assert str(caches / place) in str(caught.value)
    assert "\n" not in str(caught.value)


@on_posix
def test_a_shared_folder_from_which_nobody_else_can_remove_is_accepted(caches):
    caches.mkdir()
    caches.chmod(0o1777)  # as /tmp
    assert private_folder("native").is_dir()


@on_posix
@pytest.mark.parametrize("place", [".", "charjax", "charjax/native"])
def test_a_folder_of_another_user_is_refused(caches, place, monkeypatch):
    private_folder("native")
    give_away(caches / place, monkeypatch)
    with pytest.raises(CacheError, match="must belong to"):
        private_folder("native")


@on_posix
def test_a_folder_with_a_file_of_another_user_is_refused(caches, monkeypatch):
    (planted := private_folder("native") / "planted").write_bytes(b"")
    give_away(planted, monkeypatch)
    with pytest.raises(CacheError, match="must belong to"):
        private_folder("native")


@on_posix
def test_a_link_to_a_folder_is_judged_by_where_it_leads(caches, tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    caches.symlink_to(tmp_path / "disk")
    assert private_folder("native") == tmp_path / "disk" / "charjax" / "native"
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(CacheError, match="writable by its owner only"):
        private_folder("native")


@on_posix
@pytest.mark.parametrize("harm", ["others may write", "another's", "a link"])
def test_a_file_that_others_may_have_written_is_refused(caches, harm, monkeypatch):
    path = private_folder("native") / "library"
    path.write_bytes(b"")
    path.chmod(0o600)
    require_private(path)
    if harm == "others may write":
        path.chmod(0o606)
    elif harm == "another's":
        give_away(path, monkeypatch)
    else:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    with pytest.raises(CacheError) as caught:
        require_private(path)
    assert str(path) in str(caught.value)


def test_a_folder_that_cannot_be_made_is_the_systems_error(caches):
    caches.write_text("a file in the way")
    with pytest.raises(OSError, match=str(caches)):
        private_folder("native")
    assert Path(caches).read_text() == "a file in the way"
