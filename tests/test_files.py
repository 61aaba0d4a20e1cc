"""Files are written whole or not at all."""

import os

import pytest

from charjax import files


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


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path):
    with files.locked(tmp_path) as held:
        assert held
    with files.locked(tmp_path / "none") as held:
        assert not held
