"""Damage of any byte is found before Orbax reads it, and named in one line."""

import random
import re

import pytest

from charjax import checkpoint
from charjax.checkpoint import arrays
from charjax.errors import DamagedError
from tests.checkpoint.examples import (
    PARAMS,
    TRAINING,
    assert_refused,
    contents,
)


def test_a_flipped_byte_is_found_in_every_file(copy):
    chance = random.Random(0)
    for name, whole in contents(copy).items():
        for offset in {0, len(whole) - 1, *(chance.randrange(99999) for _ in range(6))}:
            if not whole:
                continue
            damaged = bytearray(whole)
            damaged[offset % len(whole)] ^= 1 << chance.randrange(8)
            (copy / name).write_bytes(damaged)
            assert_refused(re.escape(name), checkpoint.verify, copy, error=DamagedError)
        (copy / name).write_bytes(whole)
    checkpoint.verify(copy)


@pytest.mark.parametrize("how", ["truncate", "empty", "delete", "replace by folder"])
def test_a_truncated_or_deleted_file_is_found(how, copy):
    for name, whole in contents(copy).items():
        file = copy / name
        file.unlink()
        if how == "truncate":
            file.write_bytes(whole[:-1] if whole else b" ")
        elif how == "empty":
            file.write_bytes(b"" if whole else b" ")
        elif how == "replace by folder":
            file.mkdir()
        assert_refused(re.escape(name), checkpoint.verify, copy, error=DamagedError)
        if file.is_dir():
            file.rmdir()
        file.write_bytes(whole)
    checkpoint.verify(copy)


def test_damage_is_found_before_orbax_reads_a_byte(copy, monkeypatch):
    monkeypatch.setattr(arrays, "_read_group", lambda *_: pytest.fail("was read"))
    file = max(copy.rglob("params/**/d/*"), key=lambda file: file.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert_refused(file.name, checkpoint.load, copy)
    assert_refused(file.name, checkpoint.restore, copy, PARAMS, TRAINING)


def test_an_error_of_orbax_is_one_line(original, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    monkeypatch.setattr(ocp, "load", pages_of_text)
    assert_refused("arrays/params: DATA LOSS", checkpoint.load, original)


def pages_of_text(*_, **__):
    raise Exception("DATA LOSS\n" * 1000)
