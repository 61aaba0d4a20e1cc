"""Stacked members: each is its own run, the worst are dropped, others are refused."""

import itertools
import math

import jax
import numpy as np
import pytest

import charjax
from charjax.errors import ConfigError
from charjax.sweep import stacked
from tests.sweep.test_sweep import TEXT, small_config


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input.txt").write_text(TEXT)
    return tmp_path


def configs_of(folder, base=(), **choices):
    """Returns a configuration for each set of values, each the run of another name."""
    found = []
    for i, values in enumerate(zip(*choices.values(), strict=True)):
        config = small_config(folder, run_name=f"own{i}", report=False)
        fields = itertools.chain(base, zip(choices, values, strict=True))
        for name, value in fields:
            group, _, leaf = name.partition("__")
            config[group][leaf] = value
        found.append(config)
    return found


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def test_a_member_is_its_own_run_bit_for_bit(folder):
    configs = configs_of(
        folder,
        [("train__max_epochs", 2)],
        optimizer__learning_rate=(0.02, 0.007, 0.01),
        optimizer__weight_decay=(0.01, 0.1, 0.0),
        optimizer__grad_clip=(1.0, 0.05, 0.0),  # 0 is no clipping: of another group
        model__dropout=(0.1, 0.37, 0.0),
        train__reset_rate=(0.02, 0.3, 0.02),
        train__seed=(1, 2, 2),
    )
    for config, member in zip(configs, stacked(configs), strict=True):
        run = charjax.train(config, sinks=[])
        own = [(r["epoch"], r["loss"]) for r in run.history if r["kind"] == "val"]
        assert member.losses == tuple(own)
        assert bits(member.params) == bits(run.params)
        text = charjax.sample(run.params, "the ", 0.8, length=10)
        assert charjax.sample(member.params, "the ", 0.8, length=10) == text


def test_halving_drops_the_worst_and_leaves_the_others_as_they_were(folder):
    configs = configs_of(
        folder,
        [("train__max_epochs", 2)],
        optimizer__learning_rate=(1e-5, 0.02, 1e30, 1e-3),
    )
    members = stacked(configs, halving=2)
    assert [member.dropped for member in members] == [1, None, 1, None]
    assert [len(member.losses) for member in members] == [1, 2, 1, 2]
    assert not math.isfinite(members[2].loss)
    assert members[2].params is None
    (alone,) = stacked(configs[1:2])
    assert members[1].losses == alone.losses
    assert bits(members[1].params) == bits(alone.params)


def test_members_side_by_side_are_their_own_runs_up_to_rounding(folder, monkeypatch):
    configs = configs_of(
        folder,
        [("model__kernel", "scan"), ("train__max_epochs", 1)],
        optimizer__learning_rate=(0.02, 0.007),
        model__dropout=(0.1, 0.37),
    )
    in_turn = stacked(configs)
    monkeypatch.setattr("charjax.devices.current_platform", lambda: "gpu")
    side_by_side = stacked(configs)
    for a, b in zip(in_turn, side_by_side, strict=True):
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    assert in_turn[0].loss != pytest.approx(in_turn[1].loss, rel=1e-3)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model__hidden_size": (4, 5)}, r"_size must be the same.*got 4, 5\. Try"),
        ({"optimizer__name": ("adam", "muon")}, r"optimizer.name must be the same"),
        ({"train__patience": (3, 3)}, r"train.patience must be 0 for .*got 3\. Try"),
        ({}, r"configs must be at least one; got none\. Try"),
    ],
)  # fmt: skip
def test_what_one_step_cannot_hold_is_refused_in_a_line(folder, choices, message):
    with pytest.raises(ConfigError, match=message):
        stacked(configs_of(folder, **choices))


def test_a_wrong_share_of_members_is_refused(folder):
    with pytest.raises(ConfigError, match=r"^halving must be from 2 to train.max_ep"):
        stacked(configs_of(folder, train__seed=(1, 2)), halving=5)
