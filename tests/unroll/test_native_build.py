"""The compiled library is built once, whole, in a folder that only the user can write.

Most tests put a script in the compiler's place, which takes no time and tells what it
was asked to do.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charjax.unroll import native
from charjax.unroll.native import build

ROOT = Path(build.__file__).parents[3]

# Writes a file where the library should be and, beside it, one of the compiler's own.
COMPILER = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo "a library" > "$2"
echo "an object" > "$TMPDIR/part.o"
echo x >> "{log}"
{then}
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the compiler is a script")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Puts a script in the compiler's place; returns how often it ran."""
    log = tmp_path / "log"

    def install(then="exit 0"):
        script = tmp_path / "compiler"
        script.write_text(COMPILER.format(log=log, then=then))
        script.chmod(0o700)
        monkeypatch.setenv("CXX", str(script))

    install()
    runs = lambda: log.read_text().count("x") if log.exists() else 0  # noqa: E731
    runs.install = install
    return runs


@pytest.fixture
def loaded(monkeypatch):
    """Loads no library; returns the paths of those that would have been."""
    paths = []
    monkeypatch.setattr(build.ctypes.cdll, "LoadLibrary", paths.append)
    return paths


def test_the_library_is_built_once_and_then_found(caches, compiler, loaded):
    assert build.will_compile()
    assert compiler() == 0
    for _ in range(2):
        build.open_library()
        assert not build.will_compile()
    assert compiler() == 1
    assert loaded[0] == loaded[1]
    assert [str(p) for p in (caches / "charjax" / "native").iterdir()] == loaded[:1]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_the_library_is_the_users_alone_under_any_umask(
    caches, compiler, loaded, umask
):
    before = os.umask(umask)
    try:
        build.open_library()
    finally:
        os.umask(before)
    path = Path(loaded[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    build.open_library()


@pytest.mark.parametrize("place", ["", "charjax", "charjax/native"])
def test_a_cache_that_others_can_write_is_a_reason_and_nothing_is_loaded(
    caches, compiler, loaded, place
):
    build.open_library()
    (caches / place).chmod(0o777)
    loaded.clear()
    assert not build.will_compile()
    with pytest.raises(build.BuildError, match="writable by its owner only") as caught:
        build.open_library()
    assert str(caches / place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert loaded == []
    assert native._open.__wrapped__()[0] == str(caught.value)


@pytest.mark.parametrize("harm", ["others may write", "another's", "a link"])
def test_a_library_that_others_may_have_written_is_not_loaded(
    caches, compiler, loaded, harm, monkeypatch
):
    build.open_library()
    path = Path(loaded.pop())
    if harm == "others may write":
        path.chmod(0o777)
    elif harm == "a link":
        path.rename(path.with_name("planted"))
        path.symlink_to("planted")
    elif os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(build.BuildError):
        build.open_library()
    assert loaded == []


def test_a_library_that_is_not_whole_is_compiled_again(caches, compiler, loaded):
    build.open_library()
    path = Path(loaded[0])
    whole = path.read_bytes()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    for count, damaged in enumerate((b"", whole[: len(whole) * 7 // 10], flipped), 2):
        path.write_bytes(damaged)
        assert build.will_compile()
        build.open_library()
        assert compiler() == count
        assert path.read_bytes() == whole


def test_a_compiler_that_fails_is_a_reason_and_leaves_nothing(caches, compiler):
    compiler.install("echo 'error: no' >&2; exit 1")
    reason = native._open.__wrapped__()[0]
    assert reason is not None
    assert reason.endswith("compiler failed: error: no")
    assert list((caches / "charjax" / "native").iterdir()) == []


def test_a_compiler_that_never_ends_is_given_up(caches, compiler, monkeypatch):
    monkeypatch.setattr(build, "_COMPILE_SECONDS", 0.3)
    compiler.install("exec sleep 30")
    with pytest.raises(build.BuildError, match=r"took more than 0\.3 seconds"):
        build.open_library()
    assert list((caches / "charjax" / "native").iterdir()) == []


def test_what_a_killed_compile_left_is_gone_after_the_next(caches, compiler, loaded):
    compiler.install("kill -STOP $$; exit 0")
    code = "from charjax.unroll.native import build; build.open_library()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, start_new_session=True
    )
    try:
        for _ in range(600):
            if compiler():
                break
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    folder = caches / "charjax" / "native"
    (left,) = folder.iterdir()
    assert (left / "part.o").exists()
    compiler.install()
    build.open_library()
    assert [str(path) for path in folder.iterdir()] == loaded


def test_without_a_compiler_a_library_that_is_there_is_loaded(
    caches, compiler, loaded, monkeypatch
):
    build.open_library()
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    build.open_library()
    assert len(loaded) == 2
    Path(loaded[0]).unlink()
    assert not build.will_compile()
    with pytest.raises(build.BuildError, match=r"there is no C\+\+ compiler"):
        build.open_library()


def test_a_compiler_may_be_a_command_with_arguments(monkeypatch):
    monkeypatch.setenv("CXX", "env -u NOTHING g++")
    path, *rest = build._compiler()
    assert (path.endswith("/env"), rest) == (True, ["-u", "NOTHING", "g++"])


def test_without_a_home_folder_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "private_folder", refuse_home)
    assert native._open.__wrapped__()[0] == "no home folder"
    assert not build.will_compile()


def refuse_home(*names):
    raise build.CacheError("no home folder")
