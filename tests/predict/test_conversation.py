"""A conversation: what the model knows after each turn, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Dynamic, DynamicRule, Execution
from charjax.predict.conversation import Conversation, settled
from charjax.predict.predictor import ModelPredictor
from charjax.predict.rules import Rules
from tests.models import VOCAB, make

PARAMS = make(cell="gru", num_layers=1)
RULE = DynamicRule("sgd", chunk_length=5, rate=0.3, decay=0.1)
PREDICTORS = {
    "model": ModelPredictor(PARAMS, Execution()),
    "dynamic": Dynamic(PARAMS, rule=RULE),
    "frozen": Dynamic(PARAMS, rule=DynamicRule("sgd", chunk_length=5, rate=0.0)),
}
ids = VOCAB.encode


def write(conversation, length=7, seed=0):
    pieces = conversation.write(length, jax.random.key(seed), Rules(0.8))
    return VOCAB.decode(np.concatenate(list(pieces)))


def weights(conversation):
    return conversation._now.state.params


@pytest.mark.parametrize("name", ["model", "frozen"])
def test_turns_are_drawn_as_from_one_text(name):
    conversation = Conversation(PREDICTORS[name], ids("bad"))
    text = "bad"
    for turn, given in enumerate(["cafe", "a", "", "gabe"]):
        conversation.give(ids(given))
        text += given
        drawn = write(conversation, seed=turn)
        assert text + drawn == charjax.sample(PARAMS, text, 0.8, length=7, seed=turn)
        text += drawn
    assert VOCAB.decode(conversation.ids) == text


def test_a_model_learns_from_what_it_is_given_as_a_slow_loop_does():
    conversation = Conversation(PREDICTORS["dynamic"], ids("badcafe"))
    drawn = write(conversation)
    conversation.give(ids("cab"))

    @jax.jit
    def step(params, carry, ids_L):
        def loss(params):
            logits_1xTxV, carry_after = charjax.apply(params, ids_L[None, :-1], carry)
            log_probs_TxV = jax.nn.log_softmax(logits_1xTxV[0])
            chosen_T = log_probs_TxV[jnp.arange(len(ids_L) - 1), ids_L[1:]]
            return -chosen_T.sum() / 5, carry_after

        gradient, carry = jax.grad(loss, has_aux=True)(params)

        def moved(w, g, w0):
            return w - 0.3 * g + 0.1 * (w0 - w)

        return jax.tree.map(moved, params, gradient, PARAMS), carry

    carry = charjax.initial_carry(PARAMS, 1)
    params, carry = step(PARAMS, carry, ids("badcaf"))  # a chunk of five
    params, carry = step(params, carry, ids("fe"))  # and what does not fill one
    _, carry = charjax.apply(params, ids("e" + drawn[:-1])[None], carry)
    params, carry = step(params, carry, ids(drawn[-1] + "cab"))
    for got, expected in zip(
        *map(jax.tree.leaves, (weights(conversation), params)), strict=True
    ):
        np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_a_model_does_not_learn_from_what_it_writes():
    conversation = Conversation(PREDICTORS["dynamic"], ids("badcafe"))
    before = weights(conversation)
    write(conversation, length=40)
    jax.tree.map(np.testing.assert_array_equal, weights(conversation), before)
    conversation.give(ids("cab"))
    after = jax.tree.leaves(weights(conversation))
    pairs = zip(after, jax.tree.leaves(before), strict=True)
    assert all((a != b).any() for a, b in pairs)


@pytest.mark.parametrize("name", ["model", "dynamic"])
def test_a_turn_that_is_taken_back_leaves_no_trace(name):
    conversation = Conversation(PREDICTORS[name], ids("bad"))
    assert not conversation.undo()
    conversation.give(ids("cafe"))
    first = write(conversation)
    conversation.give(ids("gag"))
    second = write(conversation, seed=1)
    assert conversation.undo()
    assert VOCAB.decode(conversation.ids) == "badcafe" + first
    conversation.give(ids("gag"))
    assert write(conversation, seed=1) == second
    conversation.reset()
    assert VOCAB.decode(conversation.ids) == "bad"
    conversation.give(ids("cafe"))
    assert write(conversation) == first
    assert conversation.undo()
    assert not conversation.undo()


def test_what_was_seen_of_a_text_that_is_stopped_stays(monkeypatch):
    from charjax.predict import draw

    monkeypatch.setattr(draw, "_DRAWN_CHARACTERS", 4)
    conversation = Conversation(PREDICTORS["model"], ids("bad"))
    pieces = conversation.write(100, jax.random.key(0), Rules(1.0))
    seen = "bad" + VOCAB.decode(next(pieces)) + VOCAB.decode(next(pieces))
    pieces.close()
    assert VOCAB.decode(conversation.ids) == seen


def test_a_single_character_teaches_nothing_yet():
    dynamic = PREDICTORS["dynamic"]
    state, _ = dynamic.read(dynamic.start(1), ids("b")[:, None])
    after = settled(dynamic, state).params
    jax.tree.map(np.testing.assert_array_equal, after, state.params)
