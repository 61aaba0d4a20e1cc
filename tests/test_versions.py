"""Files that an earlier charjax wrote still load, and give what they gave then."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import charjax
from charjax import checkpoint

FIXTURES = Path(__file__).parent / "fixtures"

# A checkpoint, written with jax 0.10.2 and orbax-checkpoint 0.12.8 after 152 steps on
# 40 lines of TEXT; the samples and the score are what that charjax printed.
OLD = FIXTURES / "lm_lstm_format1"
TEXT = "the quick brown fox jumps over the lazy dog. Füchse \U0001f98a\u2028"

# A run stopped at step 104 of 186, with its best and its latest checkpoint. The samples
# and losses are those of the charjax (commit c4764e0) that wrote it; the losses are
# those of the same run without a stop.
RUN = FIXTURES / "run_format1"
LINE = "{} green bottles, hanging on the wall; {} fell: Öl \U0001f98a\n"
RUN_TEXT = "".join(LINE.format(n, n - 1) for n in range(60, 0, -1))
RUN_SAMPLES = {
    "best": (
        "40 green otttlllll  Ölll  Ölll  Ölll  Ölll  Ölll  Ölll  Ölll  Ölll  Ö",
        "40 green ta tllll; Öl \U0001f98a\nb7 fll: Öl: 3 51genno wte,th wt w0 "
        "\U0001f98a5 Öl : fl",
    ),
    "latest": (
        "40 green otttlllll \U0001f98a" + "\n" * 49,
        "40 green ta otlell: \U0001f98a\n\U0001f98a\nb7 fll: Öl: 3 51g onn bn , i "
        "wtlle \U0001f98a5 Öl : fl",
    ),
}
RUN_VAL_LOSSES = [
    *(2.6822341283162436, 2.1347508430480957, 1.809038241704305),
    *(1.6501092116038005, 1.589311122894287, 1.5758038361867268),
]
RUN_TEST_LOSS = 1.5575560569763183


@pytest.fixture(scope="module")
def params():
    checkpoint.verify(OLD)
    return charjax.load(OLD)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"greedy": True}, "the quick brown fox jumps over the lazy dog."),
        ({"seed": 7}, "the lazy dog. Füchse \U0001f98aquick brown fox jumps "),
        (
            {"seed": 8, "top_p": 0.9, "temperature": 0.7},
            "the quick brown fox jumps over the lazy dog.",
        ),
    ],
)
def test_an_old_checkpoint_draws_the_text_it_drew(options, text, params):
    assert charjax.sample(params, "the ", length=40, **options) == text


def test_an_old_checkpoint_gives_the_score_it_gave(params):
    score = charjax.score(params, TEXT)
    assert score.nats == pytest.approx(0.15107349, rel=1e-4)
    expected = [-3.49650764, -0.34557185, -0.06347306, -0.04724659, -0.93883085]
    assert score.log_probs[:5] == pytest.approx(expected, rel=1e-3)


def test_an_old_checkpoint_gives_training_what_it_had(params):
    template = {"step": jnp.int32(0), "key": jax.random.key(0)}
    _, training = checkpoint.restore(OLD, params, template)
    assert training["step"] == 152
    assert (
        jax.random.key_data(training["key"]) == jax.random.key_data(jax.random.key(5))
    ).all()
    assert checkpoint.read(OLD).progress == {"val": [[152, 0.25]]}


@pytest.mark.parametrize("which", ["best", "latest"])
def test_an_old_run_draws_the_texts_it_drew(which):
    params = charjax.load(RUN, which)
    greedy, drawn = RUN_SAMPLES[which]
    assert charjax.sample(params, "40 green ", length=60, greedy=True) == greedy
    assert charjax.sample(params, "40 green ", 0.8, length=60, seed=7) == drawn


def test_an_old_stopped_run_resumes_to_the_losses_of_the_run_without_a_stop(tmp_path):
    shutil.copytree(RUN, tmp_path / "cv" / "run")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "input.txt").write_bytes(RUN_TEXT.encode())
    config = charjax.default_config()
    config.data.update(dir=str(tmp_path / "text"), batch_size=4, seq_length=20)
    config.data.update(train_frac=0.8, val_frac=0.1)
    config.model.update(hidden_size=8, num_layers=1, embedding_size=4)
    config.model.update(dropout=0.1, dropout_mode="locked", embedding_dropout=0.05)
    config.optimizer.update(name="adamw", b1=0.9, b2=0.99, weight_decay=0.01)
    config.optimizer.update(learning_rate=2e-2, warmup_steps=10)
    config.train.update(max_epochs=6, print_every=20, steps_per_dispatch=4)
    config.train.update(report=False, keep_best=1, run_name="run")
    config.train.checkpoint_dir = str(tmp_path / "cv")
    config.sample.length = 0
    notes = []
    run = charjax.train(config, sinks=[lambda record: notes.append(str(record))])
    assert any("104" in note for note in notes), "it goes on from step 104"
    losses = [record["loss"] for record in run.history if record["kind"] == "val"]
    assert losses == pytest.approx(RUN_VAL_LOSSES, abs=1e-5)
    assert run.best_loss == pytest.approx(RUN_VAL_LOSSES[-1], abs=1e-5)
    assert run.test_loss == pytest.approx(RUN_TEST_LOSS, abs=1e-5)
