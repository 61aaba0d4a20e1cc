"""A saved run made ready to learn: its training text, and statistics kept beside it."""

import os
import shutil

import jax
import numpy as np
import pytest

import charjax
from charjax import CheckpointError, DynamicRule, TextError, checkpoint
from charjax.cli import main
from charjax.report import dynamic_for
from charjax.report.learning import NAME

TEXT = "".join(np.random.default_rng(0).choice(list("abcdefgh \n"), 3000))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    (root / "text").mkdir()
    (root / "text" / "input.txt").write_text(TEXT)
    config = charjax.default_config()
    config.data.update(dir=str(root / "text"), batch_size=4, seq_length=20)
    config.data.update(train_frac=0.8, val_frac=0.2, split="contiguous")
    config.model.update(cell="gru", hidden_size=5, num_layers=1)
    config.train.update(max_steps=2, checkpoint_dir=str(root), run_name="run")
    charjax.train(config)
    return root


@pytest.fixture
def root(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def test_statistics_are_of_the_training_text_and_kept_for_the_next_time(root):
    said = []
    first = dynamic_for(root / "run", say=said.append)
    assert "gathering gradients of the training text, once" in said.pop()
    params = charjax.load(root / "run")
    whole = charjax.gather_statistics(params, params.vocab.encode(TEXT[:2400]))
    for a, b in zip(*map(jax.tree.leaves, (first.stats, whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.2, atol=1e-3)
    shutil.rmtree(root / "text")  # no longer needed
    again = dynamic_for(root / "run", say=said.append)
    assert not said
    for a, b in zip(*map(jax.tree.leaves, (first.stats, again.stats)), strict=True):
        np.testing.assert_array_equal(a, b)
    for where in (root / "run", root, checkpoint.find(root / "run")):
        assert checkpoint.find(where) == checkpoint.find(root / "run")


def test_the_rule_is_the_callers_and_sgd_needs_no_text(root, trained):
    shutil.rmtree(root / "text")
    rule = DynamicRule("sgd", chunk_length=5)
    copied = shutil.copytree(checkpoint.find(root / "run"), root / "alone" / "lm_x")
    found = dynamic_for(copied, rule=rule)
    assert found.rule == rule
    assert found.stats is None


def test_a_text_that_was_moved_is_found_where_the_run_now_says(root, trained):
    config = root / "run" / "config.json"
    (root / "text").rename(root / "moved")
    old, new = str(trained / "text"), str(root / "moved")
    config.write_text(config.read_text().replace(old, new))
    assert dynamic_for(root / "run").stats is not None


def test_another_text_than_the_runs_is_refused_in_a_line(root, trained):
    config = root / "run" / "config.json"
    (root / "text" / "input.txt").write_text(TEXT[::-1])
    old, new = str(trained / "text"), str(root / "text")
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(TextError, match="has changed since the run") as error:
        dynamic_for(root / "run")
    assert "\n" not in str(error.value)


def test_damaged_statistics_are_refused_and_not_made_again_silently(root):
    dynamic_for(root / "run")
    file = checkpoint.find(root / "run") / NAME
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{NAME}: is damaged.*Try deleting it"):
        dynamic_for(root / "run")


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_statistics_that_cannot_be_kept_are_used_all_the_same(root):
    (checkpoint.find(root / "run") / NAME).symlink_to(root / "elsewhere")
    said = []
    assert dynamic_for(root / "run", say=said.append).stats is not None
    assert "the gradients are not kept: " in said[1]
    assert not (root / "elsewhere").exists()


def test_sample_dynamic_writes_what_the_library_draws(root, capsys):
    prime = TEXT[2400:2500]
    options = ["--dynamic", "--prime", prime, "--length", "30"]
    status = main(["sample", str(root / "run"), *options])
    out, err = capsys.readouterr()
    assert status == 0
    assert "gathering gradients of the training text" in err
    kept = dynamic_for(root / "run")
    assert out == charjax.sample(kept, prime, length=30) + "\n"
