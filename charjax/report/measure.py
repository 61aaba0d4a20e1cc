"""What is measured of the best model: its errors, its predictions, its samples."""

import math

import jax
import numpy as np

from charjax import model
from charjax.config import Config
from charjax.devices import jit_forward
from charjax.model import Params
from charjax.predict.ngram import NGram
from charjax.predict.sample import sample
from charjax.report.heldout import HeldOut, passages, start_of_lanes, symbol_names
from charjax.report.read import Section
from charjax.text import Lanes, Streams

TEMPERATURES = (0.3, 0.5, 0.7, 0.8, 1.0, 1.2)

_SHOWN_CHARACTERS = 3_000  # of held-out text
_GUESSES = 5
_SAMPLE_LENGTH = 400
_SCORED_CHARACTERS = 500_000  # read for the standard error
_MIN_STRETCHES = 8  # of text whose mean losses give the standard error
_NGRAM_CHARACTERS = 5_000_000  # of the training text, from its start
_NGRAM_ORDER = 6

_apply = jit_forward(model.apply)


def reference_loss(
    streams: Streams | str, heldout: HeldOut | str, vocab_size: int
) -> Section | None:
    """Returns the loss of an n-gram model on the validation split.

    Returns:
      Its order, loss and training characters; None without a validation split.
    """
    if isinstance(streams, str) or isinstance(heldout, str):
        return None
    if heldout.name != "validation":
        return None
    train_BxL = start_of_lanes(streams.train, _NGRAM_CHARACTERS)
    fitted = NGram.fit(train_BxL, vocab_size, order=_NGRAM_ORDER)
    nats = fitted.nats(start_of_lanes(heldout.lanes, _NGRAM_CHARACTERS))
    loss = float(np.mean(nats, dtype=np.float64))
    return {"order": _NGRAM_ORDER, "loss": loss, "characters": train_BxL.size}


def standard_error(params: Params, lanes: Lanes) -> float | None:
    """Returns the standard error of a split's loss; None for a split too short.

    Losses of neighbouring characters are correlated, so the error is computed from the
    mean losses of long stretches of text: whole lanes, or equal parts of a lane where
    there are fewer than eight lanes.
    """
    cuts = math.ceil(_MIN_STRETCHES / lanes.batch_size)
    chunk_size = lanes.batch_size * lanes.seq_length
    num_chunks = min(lanes.num_chunks, math.ceil(_SCORED_CHARACTERS / chunk_size))
    if num_chunks < cuts:
        return None
    nats_KxB = _chunk_losses(params, lanes, num_chunks)
    stretches = [part.mean(axis=0) for part in np.array_split(nats_KxB, cuts)]
    return float(np.std(stretches, ddof=1) / math.sqrt(np.size(stretches)))


def _chunk_losses(params: Params, lanes: Lanes, num_chunks: int) -> np.ndarray:
    """Returns nats_KxB, the mean loss of each lane in each of the first K chunks."""
    T = lanes.seq_length
    carry = model.initial_carry(params, lanes.batch_size)
    nats = []
    for chunk in range(num_chunks):
        ids_BxS = jax.numpy.asarray(lanes.window(chunk * T, T + 1), np.int32)
        logits_BxTxV, carry = _apply(params, ids_BxS[:, :-1], carry)
        nats.append(jax.vmap(model.mean_nats)(logits_BxTxV, ids_BxS[:, 1:]))
    return np.stack(nats)


def samples_by_temperature(params: Params, config: Config) -> Section:
    """Returns a text for each temperature, and the prime that all begin with."""

    def draw(temperature: float) -> str:
        text = sample(
            params,
            config.sample.prime,
            temperature,
            length=_SAMPLE_LENGTH,
            seed=config.train.seed,
        )
        return text if isinstance(text, str) else text.decode("utf-8", "replace")

    texts = [{"temperature": t, "text": draw(t)} for t in TEMPERATURES]
    return {"prime": config.sample.prime, "texts": texts}


def predictions(params: Params, heldout: HeldOut) -> Section:
    """Returns passages: each character's log-probability and the likeliest guesses."""
    ids_NxL = passages(heldout.lanes, _SHOWN_CHARACTERS)
    logits_NxLxV, _ = _apply(params, ids_NxL)
    log_probs_NxLxV = jax.nn.log_softmax(logits_NxLxV[:, :-1])
    chosen_NxL = np.take_along_axis(
        np.asarray(log_probs_NxLxV), ids_NxL[:, 1:, None].astype(np.int64), axis=-1
    )[..., 0]
    count = min(_GUESSES, len(params.vocab))
    best_NxLxG, ids_NxLxG = map(np.asarray, jax.lax.top_k(log_probs_NxLxV, count))
    names = symbol_names(params.vocab)

    def passage(n: int) -> Section:
        guesses = [
            [[names[i], float(p)] for i, p in zip(ids, probs, strict=True)]
            for ids, probs in zip(ids_NxLxG[n], np.exp(best_NxLxG[n]), strict=True)
        ]
        return {
            "characters": [names[i] for i in ids_NxL[n]],
            # Nothing predicts the first character.
            "log_probs": [None, *map(float, chosen_NxL[n])],
            "guesses": [[], *guesses],
        }

    shown = [passage(n) for n in range(len(ids_NxL))]
    return {"split": heldout.name, "passages": shown}
