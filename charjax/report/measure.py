"""What is measured of the best model: its errors, its predictions, its samples."""

import math

import numpy as np

from charjax.config import Config
from charjax.model import Params
from charjax.predict import NGram, Predictor, predictor_of, sample
from charjax.predict.evaluation import chunk_losses
from charjax.report.heldout import HeldOut, passages, start_of_lanes, symbol_names
from charjax.report.read import Section
from charjax.text import Lanes, Streams
from charjax.text.vocab import Vocab

TEMPERATURES = (0.3, 0.5, 0.7, 0.8, 1.0, 1.2)

_SHOWN_CHARACTERS = 3_000  # of held-out text
_GUESSES = 5
_SAMPLE_LENGTH = 400
_SCORED_CHARACTERS = 500_000  # read for the standard error
_MIN_STRETCHES = 8  # of text whose mean losses give the standard error
_NGRAM_CHARACTERS = 5_000_000  # of the training text, from its start
_NGRAM_ORDER = 6


def reference_loss(
    streams: Streams | str, heldout: HeldOut | str, vocab: Vocab
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
    fitted = NGram.fit(train_BxL, vocab, order=_NGRAM_ORDER)
    chunks = _num_chunks(heldout.lanes, _NGRAM_CHARACTERS)
    loss = float(np.mean(chunk_losses(fitted, heldout.lanes, most_chunks=chunks)))
    return {"order": _NGRAM_ORDER, "loss": loss, "characters": train_BxL.size}


def standard_error(model: Params | Predictor, lanes: Lanes) -> float | None:
    """Returns the standard error of a split's loss; None for a split too short.

    Losses of neighbouring characters are correlated, so the error is computed from the
    mean losses of long stretches of text: whole lanes, or equal parts of a lane where
    there are fewer than eight lanes.
    """
    cuts = math.ceil(_MIN_STRETCHES / lanes.batch_size)
    num_chunks = _num_chunks(lanes, _SCORED_CHARACTERS)
    if num_chunks < cuts:
        return None
    nats_KxB = chunk_losses(model, lanes, most_chunks=num_chunks)
    stretches = [part.mean(axis=0) for part in np.array_split(nats_KxB, cuts)]
    return float(np.std(stretches, ddof=1) / math.sqrt(np.size(stretches)))


def _num_chunks(lanes: Lanes, characters: int) -> int:
    """Returns how many chunks of each lane have about as many characters in all."""
    chunk_size = lanes.batch_size * lanes.seq_length
    return min(lanes.num_chunks, math.ceil(characters / chunk_size))


def samples_by_temperature(model: Params | Predictor, config: Config) -> Section:
    """Returns a text for each temperature, and the prime that all begin with."""

    def draw(temperature: float) -> str:
        text = sample(
            model,
            config.sample.prime,
            temperature,
            length=_SAMPLE_LENGTH,
            seed=config.train.seed,
        )
        return text if isinstance(text, str) else text.decode("utf-8", "replace")

    texts = [{"temperature": t, "text": draw(t)} for t in TEMPERATURES]
    return {"prime": config.sample.prime, "texts": texts}


def predictions(model: Params | Predictor, heldout: HeldOut) -> Section:
    """Returns passages: each character's log-probability and the likeliest guesses."""
    predictor, ids_NxL = predictor_of(model), passages(heldout.lanes, _SHOWN_CHARACTERS)
    state = predictor.start(len(ids_NxL))
    _, log_probs_TxNxV = predictor.read(state, ids_NxL[:, :-1].T)
    log_probs_NxTxV = np.swapaxes(np.asarray(log_probs_TxNxV), 0, 1)
    chosen_NxT = np.take_along_axis(
        log_probs_NxTxV, ids_NxL[:, 1:, None].astype(np.int64), axis=-1
    )[..., 0]
    ids_NxTxG = np.argsort(-log_probs_NxTxV, axis=-1, kind="stable")[..., :_GUESSES]
    best_NxTxG = np.take_along_axis(log_probs_NxTxV, ids_NxTxG, axis=-1)
    names = symbol_names(predictor.vocab)

    def passage(n: int) -> Section:
        guesses = [
            [[names[i], float(p)] for i, p in zip(ids, probs, strict=True)]
            for ids, probs in zip(ids_NxTxG[n], np.exp(best_NxTxG[n]), strict=True)
        ]
        return {
            "characters": [names[i] for i in ids_NxL[n]],
            # Nothing predicts the first character.
            "log_probs": [None, *map(float, chosen_NxT[n])],
            "guesses": [[], *guesses],
        }

    shown = [passage(n) for n in range(len(ids_NxL))]
    return {"split": heldout.name, "passages": shown}
