"""Whole runs: exact resume, polite stops, guards, starting weights, what is written."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax import checkpoint
from charjax.text import open_corpus, split_corpus
from charjax.training import setup, watch
from charjax.training.state import create_state
from charjax.training.step import make_advance, make_train_step
from charjax.unroll import Execution
from tests.compilations import compilations
from tests.training.runs import (
    TEXT,
    Killed,
    StopAt,
    assert_same_end,
    make_config,
    quiet,
)


def test_a_run_learns_and_returns_its_best_checkpoint(whole):
    losses = [r["loss"] for r in whole.history if r["kind"] == "val"]
    assert len(losses) == 3
    assert whole.best_loss == min(losses) < losses[0]
    assert whole.best.name.endswith(f"_{whole.best_loss:.4f}")
    assert whole.test_loss == whole.history[-1]["loss"]
    again = charjax.load(whole.path)
    jax.tree.map(np.testing.assert_array_equal, again, whole.params)


def test_metrics_are_one_json_record_a_line_with_each_step_once(whole):
    lines = (whole.path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == whole.history
    steps = [r["step"] for r in records if r["kind"] == "train"]
    assert steps == list(range(4, 49, 4))
    for record in records:
        assert record["bits"] == pytest.approx(record["loss"] / np.log(2))


@pytest.mark.parametrize("step", [4, 16, 20, 48])
def test_a_stopped_and_continued_run_equals_the_whole_one_bit_for_bit(
    folder, whole, step
):
    config = make_config(folder)
    with pytest.raises(charjax.Stopped, match="the same command continues") as stop:
        charjax.train(config, sinks=[StopAt(step)])
    assert stop.value.signum == signal.SIGINT
    run = quiet(config)
    assert_same_end(run, whole)


def test_a_run_with_every_noise_and_penalty_goes_on_to_the_same_end(folder):
    fields = {
        f"model__{name}": 0.1
        for name in (
            "embedding_dropout", "character_dropout", "weight_dropout", "zoneout",
            "activation_penalty", "temporal_penalty", "label_smoothing",
        )
    }  # fmt: skip
    fields |= {"model__embedding_size": 3, "train__max_steps": 12}
    whole = quiet(make_config(folder, train__run_name="whole", **fields))
    config = make_config(folder, **fields)
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(4)])
    run = quiet(config)
    assert_same_end(run, whole)
    assert run.params.spec.zoneout == 0.1


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_end(folder, whole):
    config = make_config(folder)

    def die(record):
        if record.get("step") == 40:
            raise Killed

    with pytest.raises(Killed):
        charjax.train(config, sinks=[die])
    assert checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step == 32
    run = quiet(config)
    assert_same_end(run, whole)


def test_a_failing_sink_ends_the_run_saved_and_named(folder, whole):
    def tracker(record):
        seen.append(record["kind"])
        if record.get("step") == 20:
            raise ConnectionError("no\nanswer")

    seen, others = [], []
    config = make_config(folder)
    with pytest.raises(charjax.SinkError, match="tracker failed") as error:
        charjax.train(config, sinks=[tracker, others.append])
    assert isinstance(error.value.__cause__, ConnectionError)
    assert "\n" not in str(error.value)
    assert [r["kind"] for r in others] == seen  # nobody misses a record
    assert checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step == 24
    run = quiet(config)
    assert_same_end(run, whole)


def test_a_pruned_run_says_so_and_goes_on_to_the_end_of_one_that_nothing_stopped(
    folder, whole
):
    def pruner(record):
        if (record["kind"], record.get("step")) == ("val", 16):
            raise charjax.Pruned("worse than the median")

    config, path = make_config(folder), folder / "cv/run"
    with pytest.raises(charjax.Pruned, match="pruned at step 20 and saved") as stop:
        charjax.train(config, sinks=[pruner])
    assert str(stop.value.__cause__) == "worse than the median"
    assert (path / "pruned").exists()
    assert checkpoint.read(checkpoint.find(path, "latest")).step == 20
    assert_same_end(quiet(config), whole)
    assert not (path / "pruned").exists()


def test_a_run_that_took_its_last_step_finishes_although_a_sink_prunes_it(folder):
    def pruner(record):
        if record["kind"] == "val":
            raise charjax.Pruned

    config = make_config(folder, train__max_steps=4)
    assert charjax.train(config, sinks=[pruner]).path == folder / "cv/run"
    assert not (folder / "cv/run/pruned").exists()


def test_a_sink_that_fails_at_the_end_leaves_a_finished_run(folder):
    def tracker(record):
        if record["kind"] == "test":
            raise ConnectionError

    config = make_config(folder)
    with pytest.raises(charjax.SinkError):
        charjax.train(config, sinks=[tracker])
    assert (folder / "cv/run/summary.json").exists()


def test_several_steps_a_dispatch_equal_one(folder, whole):
    run = quiet(make_config(folder, train__steps_per_dispatch=1))
    for one, several in zip(run.history, whole.history, strict=True):
        assert one["loss"] == pytest.approx(several["loss"], rel=1e-5)


def test_a_finished_run_is_not_trained_again(folder):
    config = make_config(folder, train__max_epochs=1)
    first = quiet(config)
    records = []
    again = charjax.train(config, sinks=[records.append])
    assert again.best == first.best
    note, end = records
    assert "is finished" in note["text"]
    assert "restart" in note["text"]
    assert (end["kind"], end["best"]) == ("end", str(first.best))


def test_another_configs_run_is_refused_with_the_fields_that_differ(folder):
    quiet(make_config(folder, train__max_steps=4))
    other = make_config(folder, train__max_steps=4, model__hidden_size=9)
    with pytest.raises(charjax.ConfigError) as error:
        quiet(other)
    assert "model.hidden_size=8 there, 9 here" in str(error.value)
    assert "train.restart=true" in str(error.value)
    assert "num_layers" not in str(error.value)


def test_restart_begins_beside_and_deletes_nothing(folder):
    first = quiet(make_config(folder, train__max_steps=4))
    fields = {"train__max_steps": 4, "train__restart": True}
    second = quiet(make_config(folder, model__hidden_size=9, **fields))
    assert second.path == first.path.with_name("run-2")
    assert first.best.exists()


def test_a_changed_text_is_another_run(folder):
    quiet(make_config(folder, train__max_steps=4))
    (folder / "text" / "input.txt").write_text(TEXT[::-1])
    with pytest.raises(charjax.ConfigError, match="the text"):
        quiet(make_config(folder, train__max_steps=4))


def test_init_from_takes_weights_and_model_from_the_checkpoint(folder, whole):
    fields = {"model__cell": "gru", "model__hidden_size": 99, "model__dropout": 0.5}
    fields |= {"optimizer__learning_rate": 1e-30, "train__max_steps": 4}
    run = quiet(make_config(folder, train__init_from=str(whole.path), **fields))
    assert run.params.spec.cell == "lstm"
    assert run.params.spec.hidden_size == 8
    recorded = json.loads((run.path / "config.json").read_text())["config"]["model"]
    assert (recorded["cell"], recorded["hidden_size"]) == ("lstm", 8)
    assert recorded["dropout"] == 0.5
    for ours, theirs in zip(
        jax.tree.leaves(run.params), jax.tree.leaves(whole.params), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_goes_on_without_the_model_that_it_started_from(folder, whole):
    shutil.copytree(whole.path, folder / "base")
    fields = {"model__hidden_size": 99, "train__init_from": str(folder / "base")}
    config = make_config(folder, train__max_steps=4, **fields)
    run = quiet(config)
    shutil.rmtree(folder / "base")
    assert quiet(config).best == run.best


def test_init_from_names_the_characters_that_do_not_fit(folder, whole):
    (folder / "text" / "input.txt").write_text((TEXT + "Ünt").replace("z", ""))
    config = make_config(folder, train__init_from=str(whole.path))
    with pytest.raises(charjax.TextError) as error:
        quiet(config)
    assert "'Ü'" in str(error.value)
    assert "'z'" in str(error.value)
    assert "extend_vocab" in str(error.value)


def test_init_from_takes_a_text_that_lacks_some_of_the_models_characters(folder, whole):
    (folder / "text" / "input.txt").write_text(TEXT.replace("z", "y"))
    fields = {"optimizer__learning_rate": 1e-30, "train__max_steps": 4}
    run = quiet(make_config(folder, train__init_from=str(whole.path), **fields))
    assert run.params.vocab == whole.params.vocab
    # The untouched model still reads the text well, so its ids are the model's own.
    assert run.best_loss < whole.history[0]["loss"]


def test_a_split_recoded_to_ids_beyond_its_own_type_is_evaluated_as_it_is(folder):
    many = charjax.Vocab("".join(map(chr, range(1000, 1300))) + "ab")
    spec = charjax.ModelSpec(hidden_size=4)
    params = charjax.init(jax.random.key(0), spec, many)
    ids = np.arange(41, dtype=np.uint8) % 2
    split = {"batch_size": 2, "seq_length": 5, "train_frac": 1.0, "val_frac": 0.0}
    lanes = split_corpus(ids, **split).train
    recoded = dataclasses.replace(lanes, recoded=many.encode("ab"))
    plain = split_corpus(many.encode("ab")[ids], **split).train
    assert charjax.evaluate(params, recoded) == charjax.evaluate(params, plain)


def test_extend_vocab_adds_rows_and_leaves_the_old_ones(folder, whole):
    (folder / "text" / "input.txt").write_text("ÄÖ" + TEXT)
    fields = {"train__extend_vocab": True, "train__max_steps": 1}
    fields |= {"optimizer__learning_rate": 1e-30}
    run = quiet(make_config(folder, train__init_from=str(whole.path), **fields))
    old, new = whole.params, run.params
    assert new.vocab.symbols == old.vocab.symbols + "ÄÖ"
    old_rows = len(old.vocab)
    np.testing.assert_array_equal(
        new.layers[0].input_DxGH[:old_rows], old.layers[0].input_DxGH
    )
    np.testing.assert_array_equal(new.readout_HxV[:, :old_rows], old.readout_HxV)
    assert np.any(new.layers[0].input_DxGH[old_rows:] != 0)
    logits, _ = charjax.apply(new, new.vocab.encode("the")[None])
    expected, _ = charjax.apply(old, old.vocab.encode("the")[None])
    np.testing.assert_allclose(logits[..., :old_rows], expected, atol=1e-6)


def test_without_a_validation_split_checkpoints_carry_the_training_loss(folder):
    notes = []
    config = make_config(folder, data__val_frac=0.0, train__max_epochs=1)

    def note(record):
        notes.append(record.get("text", ""))

    run = charjax.train(config, sinks=[note])
    assert any("no validation split" in text for text in notes)
    losses = [r["loss"] for r in run.history if r["kind"] == "train"]
    assert run.best_loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert checkpoint.read(run.best).loss_of == "train"


def test_a_loss_that_is_not_finite_stops_with_what_is_known(folder):
    fields = {"optimizer__name": "sgd", "optimizer__grad_clip": 0.0}
    fields |= {"optimizer__warmup_steps": 0}
    config = make_config(folder, optimizer__learning_rate=1e38, **fields)
    with pytest.raises(charjax.TrainingError) as error:
        quiet(config)
    message = str(error.value)
    for part in ("step 2,", "learning rate", "gradient norm", "nothing is saved"):
        assert part in message
    assert "\n" not in message


def test_an_explosion_is_judged_by_the_running_median_and_must_last():
    settled = [1.5] * 400
    assert not watch.exploded([0.1] * 10 + [5.0] * 60, 3.0)
    assert not watch.exploded(settled + [9.0] * 49, 3.0)
    assert not watch.exploded(settled + [4.4] * 50, 3.0)
    assert watch.exploded(settled + [4.6] * 50, 3.0)


def test_patience_ends_a_run_that_no_longer_improves(folder):
    fields = {"optimizer__learning_rate": 1e-30, "train__max_epochs": 9}
    run = quiet(make_config(folder, train__patience=2, **fields))
    assert sum(r["kind"] == "val" for r in run.history) == 3


def test_more_steps_a_dispatch_than_there_are_take_no_more_memory(folder, whole):
    run = quiet(make_config(folder, train__steps_per_dispatch=10**11))
    for one, other in zip(run.history, whole.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("eval_every", "steps"), [(0.0, [16, 24]), (10.0, [10, 20, 24]), (0.5, [8, 16, 24])]
)
def test_validation_comes_at_its_interval_and_at_the_end(folder, eval_every, steps):
    fields = {"train__max_steps": 24, "sample__length": 0}
    run = quiet(make_config(folder, train__eval_every=eval_every, **fields))
    assert [r["step"] for r in run.history if r["kind"] == "val"] == steps


def test_the_best_checkpoints_and_the_latest_are_kept(folder):
    fields = {"train__keep_best": 1, "train__eval_every": 4.0}
    run = quiet(make_config(folder, optimizer__learning_rate=0.3, **fields))
    kept = [record for _, record in checkpoint.listing(run.path)]
    losses = {r["step"]: r["loss"] for r in run.history if r["kind"] == "val"}
    best = min(losses, key=losses.__getitem__)
    assert {record.step for record in kept} == {best, 48}


def test_a_random_offset_moves_the_chunks_each_epoch_and_stays_in_the_split(folder):
    config = charjax.config.check_config(make_config(folder, data__random_offset=True))
    corpus = open_corpus(config.data.dir)
    params = setup.first_params(config, corpus.vocab)
    plan = setup.make_plan(config, corpus, params)
    assert plan.steps_per_epoch == plan.streams.train.num_chunks - 1
    firsts = [plan.window(e * plan.steps_per_epoch, 1) for e in range(6)]
    assert len({first.tobytes() for first in firsts}) > 1
    lane = corpus.ids[: plan.streams.train.num_chunks * 20 + 1].tobytes()
    for epoch in range(6):
        last = plan.window((epoch + 1) * plan.steps_per_epoch - 1, 1)
        assert last[0, :21].tobytes() in lane


def test_the_carry_goes_from_chunk_to_chunk_and_is_zero_at_each_epochs_start():
    params = charjax.init(
        jax.random.key(0), charjax.ModelSpec(hidden_size=4), charjax.Vocab.of("abc")
    )
    optimizer = optax.sgd(0.0)
    train_step = make_train_step(optimizer, steps_per_epoch=3)
    advance = make_advance(train_step, seq_length=3, max_count=4)
    ids_BxL = np.arange(26).reshape(2, 13) % 3
    copy = jax.tree.map(jnp.copy, params)  # the state is donated
    state = create_state(copy, optimizer, jax.random.key(0), 2)
    state, metrics = advance(state, ids_BxL, 4)
    carry, losses = charjax.initial_carry(params, 2), []
    for step in range(4):
        if step == 3:
            carry = charjax.initial_carry(params, 2)
        x, y = ids_BxL[:, 3 * step :][:, :3], ids_BxL[:, 3 * step + 1 :][:, :3]
        loss, carry = charjax.loss(params, x, y, carry)
        losses.append(loss)
    np.testing.assert_allclose(metrics.loss_K, jnp.stack(losses), rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.carry, carry
    )


def test_the_reset_rate_starts_lanes_from_zero_each_by_itself():
    params = charjax.init(
        jax.random.key(0), charjax.ModelSpec(hidden_size=4), charjax.Vocab.of("abc")
    )
    optimizer = optax.sgd(0.0)
    train_step = make_train_step(optimizer, steps_per_epoch=10**6, reset_rate=0.3)
    advance = make_advance(train_step, seq_length=1, max_count=1)
    ids_BxL = np.zeros((1000, 2), np.uint8)
    state = create_state(params, optimizer, jax.random.key(0), 1000)
    state, _ = advance(state, ids_BxL, 1)  # all lanes read the same from zero
    once = np.asarray(state.carry[0].h_BxH)
    state, _ = advance(state, ids_BxL, 1)
    twice = np.asarray(state.carry[0].h_BxH)
    is_reset = np.all(twice == once, axis=1)
    assert len(np.unique(twice, axis=0)) == 2
    assert 0.25 < is_reset.mean() < 0.35


@pytest.mark.parametrize("kernel", ["auto", "scan"])
def test_recomputed_segments_take_the_same_step(kernel):
    spec = charjax.ModelSpec(hidden_size=4)
    params = charjax.init(jax.random.key(0), spec, charjax.Vocab.of("abc"))
    ids_BxL = np.arange(14).reshape(2, 7) % 3
    ends = []
    for segment_length in (0, 2):
        train_step = make_train_step(
            optax.sgd(1.0),
            steps_per_epoch=9,
            execution=Execution(unroll=kernel, segment_length=segment_length),
        )
        advance = make_advance(train_step, seq_length=6, max_count=1)
        copy = jax.tree.map(jnp.copy, params)
        state = create_state(copy, optax.sgd(1.0), jax.random.key(0), 2)
        state, metrics = advance(state, ids_BxL, 1)
        ends.append((state.params, state.carry, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *ends)
    moved = np.abs(ends[0][0].readout_HxV - params.readout_HxV).max()
    assert moved > 1e-3


def test_a_segment_length_that_does_not_divide_the_chunk_is_refused(folder):
    with pytest.raises(charjax.ConfigError, match=r"divide data\.seq_length"):
        quiet(make_config(folder, train__segment_length=7))


def test_a_text_too_short_for_the_batch_shape_is_refused_with_what_fits(folder):
    with pytest.raises(charjax.TextError, match=r"data\.batch_size to at most"):
        quiet(make_config(folder, data__batch_size=500))


def test_a_sample_prime_the_text_does_not_know_is_refused_at_the_start(folder):
    with pytest.raises(charjax.TextError, match="'§'"):
        quiet(make_config(folder, sample__prime="§"))


def test_an_output_folder_that_cannot_be_written_is_one_line(folder):
    Path(folder / "cv").write_text("a file is in the way")
    with pytest.raises(charjax.CheckpointError) as error:
        quiet(make_config(folder))
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_refused(folder):
    with pytest.raises(charjax.ConfigError, match=r"train\.device must be .*; got tpu"):
        quiet(make_config(folder, train__device="tpu"))


def test_a_run_compiles_each_of_its_functions_once_and_again_when_resumed(folder):
    fields = {"train__eval_every": 7.0, "sample__length": 30}
    config = make_config(folder, model__hidden_size=7, **fields)

    def count(compiled):
        names = ("advance", "_read_chunks", "_draw_")
        return [sum(name in function for function in compiled) for name in names]

    with compilations() as compiled, pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(20)])
    assert count(compiled) == [1, 1, 1]
    # Another process compiles them anew; here only what belongs to one run is new.
    with compilations() as compiled:
        quiet(config)
    assert count(compiled) == [1, 0, 0]
