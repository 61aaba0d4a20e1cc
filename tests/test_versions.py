"""A checkpoint that an earlier charjax wrote: it loads, and says what it said then."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import charjax
from charjax import checkpoint

# Written with jax 0.10.2 and orbax-checkpoint 0.12.8 after 152 steps on 40 lines of
# TEXT; the samples and the score are what that charjax printed.
OLD = Path(__file__).parent / "fixtures" / "lm_lstm_format1"
TEXT = "the quick brown fox jumps over the lazy dog. Füchse \U0001f98a\u2028"


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
