"""Files are written whole or not at all, and only in their own folder."""

import os

import pytest

from charjax.storage import files, locks

posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes as in POSIX")


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write_half():
        with files.replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    with files.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_two_writers_of_one_path_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as two:
        one.write(b"one")
        two.write(b"two")
    assert path.read_bytes() == b"one"


def test_sweep_takes_leftovers_and_nothing_else(tmp_path):
    for name in (".charjax-input.txt-1-2.tmp", "input.txt", "my.tmp", ".charjax-x"):
        (tmp_path / name).write_bytes(b"")
    files.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".charjax-x", "input.txt", "my.tmp"]


def test_sweep_takes_the_scratch_folder_of_a_killed_process(tmp_path):
    with files.scratch_folder(tmp_path) as scratch:
        (scratch / "part.o").write_bytes(b"")
        killed = scratch.with_name(scratch.name.replace(".tmp", "-killed.tmp"))
        scratch.rename(killed)
        scratch.mkdir()
    assert os.listdir(tmp_path) == [killed.name]
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def symbolic_link(path, victim):
    path.symlink_to(victim)


def dangling_link(path, victim):
    path.symlink_to(victim.with_name("nothing"))


def hard_link(path, victim):
    os.link(victim, path)


def fifo(path, victim):
    os.mkfifo(path)


def lock(path):
    with locks.owned(path):
        pass


def append(path):
    files.append(path, b"planted")


def replace(path):
    with files.replacing(path) as file:
        file.write(b"planted")


@posix
@pytest.mark.parametrize(
    ("write", "lead_out"),
    [
        (lock, symbolic_link),
        (lock, dangling_link),
        (lock, hard_link),
        (lock, fifo),
        (append, symbolic_link),
        (append, dangling_link),
        (append, hard_link),
        (append, fifo),
        (replace, symbolic_link),
        (replace, dangling_link),
    ],
)
def test_a_path_that_leads_out_of_its_folder_is_refused_and_left_alone(
    write, lead_out, tmp_path
):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_bytes(b"the user's own")
    folder.mkdir()
    path = folder / "name"
    lead_out(path, victim)
    before = os.lstat(path)
    with pytest.raises(OSError, match=r"must be a regular file.*got .*") as caught:
        write(path)
    assert caught.value.filename == str(path)
    assert "\n" not in str(caught.value)
    assert victim.read_bytes() == b"the user's own"
    assert os.listdir(folder) == ["name"]
    assert os.lstat(path) == before
    assert sorted(os.listdir(tmp_path)) == ["run", "victim"]


def test_a_file_with_a_second_name_is_replaced_under_one_name_only(tmp_path):
    path, backup = tmp_path / "a", tmp_path / "backup"
    path.write_bytes(b"old")
    os.link(path, backup)
    replace(path)
    assert (path.read_bytes(), backup.read_bytes()) == (b"planted", b"old")


@posix
def test_a_folder_that_is_itself_a_link_is_written_to(tmp_path):
    (tmp_path / "big_disk").mkdir()
    (tmp_path / "run").symlink_to("big_disk")
    for write in (lock, append, replace):
        write(tmp_path / "run" / write.__name__)
    assert sorted(os.listdir(tmp_path / "big_disk")) == ["append", "replace"]


@posix
def test_a_folder_in_a_run_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "tensorboard").symlink_to(tmp_path / "outside")
    files.refuse_links(tmp_path / "outside")
    files.refuse_links(tmp_path / "none")
    with pytest.raises(OSError, match="got a symbolic link"):
        files.refuse_links(tmp_path / "tensorboard")


def test_what_cannot_be_appended_whole_is_not_appended_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    resource = pytest.importorskip("resource")
    files.append(path, b"one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.jsonl"):
            files.append(path, b"two, longer\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"one\n"
    files.append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


@posix
def test_the_kind_of_a_path_is_told_without_an_error_or_a_wait(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    kinds = {
        "file": "file",
        "pipe": "pipe",
        "link": "file",
        ".": "folder",
        "/dev/null": "device",
        "loop": "missing",
        "file/below": "missing",
        "x" * 300: "missing",
        "nul\0": "missing",
        "\ud800": "missing",
    }
    for name, kind in kinds.items():
        assert files.kind_of(tmp_path / name) == kind
