"""Damage in the encoded text stops a run, which goes on once that file is deleted."""

import pytest

from charjax import checkpoint
from charjax.errors import TextError
from charjax.text import blocks, open_corpus
from tests.training.runs import assert_same_end, make_config, quiet


def test_a_run_that_met_damage_ends_as_if_there_were_none(folder, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    whole = quiet(make_config(folder, train__eval_every=4.0, train__run_name="whole"))
    config = make_config(folder, train__eval_every=4.0)
    open_corpus(config.data.dir)
    file = folder / "text" / "input.utf-8.ids"
    raw = bytearray(file.read_bytes())
    raw[210] ^= 1  # which steps 9 to 12 read
    file.write_bytes(raw)
    with pytest.raises(TextError, match=f"^{file} must be.*Try deleting that file"):
        quiet(config)
    assert checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step == 8
    file.unlink()
    assert_same_end(quiet(config), whole)
