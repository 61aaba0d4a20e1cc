"""Formats: the newest is written, the older are read, newer ones are refused."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax import checkpoint
from charjax.checkpoint import Manifest, manifest
from charjax.config import SHAPE
from charjax.errors import CheckpointError, DamagedError
from charjax.storage import sealed
from charjax.text.vocab import Vocab
from tests.checkpoint.examples import (
    PARAMS,
    TRAINING,
    assert_refused,
    assert_same,
    reseal,
)

PLAIN = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(config=st.dictionaries(st.text(), PLAIN), text=st.text(min_size=1))
def test_a_record_returns_all_it_was_given(config, text):
    record = dataclasses.replace(
        make_record(), config=config, vocab=Vocab.of(text).to_json()
    )
    raw = sealed.seal(vars(record))
    assert manifest.parse(sealed.unseal(raw)) == record


def make_record(**fields):
    defaults = {"step": 1, "epoch": 1.0, "loss": None, "loss_of": "val", "saved": 0.0}
    names = ("config", "progress", "spec", "vocab", "versions", "leaves", "files")
    return Manifest(**defaults | {name: {} for name in names} | fields)


def test_a_newer_format_asks_for_an_upgrade_and_is_not_damage(copy):
    reseal(copy, format=checkpoint.FORMAT + 1, news=[])
    assert_refused("got format 3. Try upgrading", checkpoint.read, copy)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(copy)
    assert not isinstance(caught.value, DamagedError)


OLD_SPEC = {"dropout": 0.1, "dropout_mode": "locked", "embedding_dropout": 0.0}


def as_format_1(path):
    spec = checkpoint.read(path).spec | OLD_SPEC | {"dtype": "bfloat16"}
    return reseal(path, format=1, spec=spec)


def test_a_spec_is_stored_by_its_shape(original):
    assert set(checkpoint.read(original).spec) == set(SHAPE)
    assert set(checkpoint.SPEC_FIELDS) == set(SHAPE)


def test_of_an_old_spec_only_the_shape_is_read(copy):
    spec = checkpoint.read(copy).spec
    old = checkpoint.read(as_format_1(copy))
    assert (old.format, old.spec) == (1, spec)
    assert checkpoint.spec_of(old).hidden_size == spec["hidden_size"]
    assert_same(checkpoint.load(copy), PARAMS)
    assert_same(checkpoint.restore(copy, PARAMS, TRAINING), (PARAMS, TRAINING))


def test_a_spec_without_zoneout_is_that_of_a_model_without(copy):
    spec = checkpoint.read(copy).spec
    del spec["zoneout"]
    reseal(copy, spec=spec)
    assert checkpoint.spec_of(checkpoint.read(copy)).zoneout == 0
    assert_same(checkpoint.load(copy), PARAMS)


@pytest.mark.parametrize("version", [1, 2])
def test_an_unknown_field_of_a_spec_asks_for_an_upgrade(version, copy):
    spec = checkpoint.read(copy).spec | {"rotary": True}
    reseal(copy, format=version, spec=spec)
    assert_refused("model.rotary = True is unknown.*upgrading", checkpoint.load, copy)


@pytest.mark.parametrize("version", [0, -1, None, True, "2", 1.0])
def test_a_format_that_never_was_is_damage(version, copy):
    reseal(copy, format=version)
    assert_refused("format", checkpoint.read, copy, error=DamagedError)
