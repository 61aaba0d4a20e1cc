"""What is measured of the best model: its errors, its predictions, its samples."""

import math
from functools import partial

import numpy as np

from charjax.config import Config
from charjax.model import Params
from charjax.predict import Predictor, predictor_of
from charjax.predict.by_document import excerpt
from charjax.predict.evaluation import chunk_losses
from charjax.report.heldout import HeldOut, num_chunks, passages, symbol_names
from charjax.report.read import Section
from charjax.text import Lanes
from charjax.text.form import form_of
from charjax.text.made_up import is_made_up

TEMPERATURES = (0.3, 0.5, 0.7, 0.8, 1.0, 1.2)

_SHOWN_CHARACTERS = 3_000  # of held-out text
_GUESSES = 5
_SAMPLE_LENGTH = 400
_SCORED_CHARACTERS = 500_000  # read for the standard error
_MIN_STRETCHES = 8  # of text whose mean losses give the standard error


def standard_error(model: Params | Predictor, lanes: Lanes) -> float | None:
    """Returns the standard error of a split's loss; None for a split too short.

    Losses of neighbouring characters are correlated, so the error is computed from the
    mean losses of long stretches of text: whole lanes, or equal parts of a lane where
    there are fewer than eight lanes.
    """
    cuts = math.ceil(_MIN_STRETCHES / lanes.batch_size)
    count = num_chunks(lanes, _SCORED_CHARACTERS)
    if count < cuts:
        return None
    nats_KxB = chunk_losses(model, lanes, most_chunks=count)
    stretches = [part.mean(axis=0) for part in np.array_split(nats_KxB, cuts)]
    return float(np.std(stretches, ddof=1) / math.sqrt(np.size(stretches)))


def samples_by_temperature(model: Params | Predictor, config: Config) -> Section:
    """Returns a text for each temperature, and the prime that all begin with."""
    if is_made_up(config.data):
        return {"missing": "The model learned to write answers only."}
    how = {"end": form_of(config.data).end, "prime": config.sample.prime}
    draw = partial(excerpt, model, length=_SAMPLE_LENGTH, seed=config.train.seed, **how)
    texts = [{"temperature": t, "text": draw(t)} for t in TEMPERATURES]
    return {"prime": how["prime"], "documents": bool(how["end"]), "texts": texts}


def predictions(model: Params | Predictor, heldout: HeldOut) -> Section:
    """Returns passages: each character's log-probability and the likeliest guesses."""
    predictor = predictor_of(model)
    ids_NxL, begins_NxL = passages(heldout.lanes, _SHOWN_CHARACTERS)
    state = predictor.start(len(ids_NxL))
    begins_TxN = None if begins_NxL is None else begins_NxL[:, :-1].T
    _, log_probs_TxNxV = predictor.read(state, ids_NxL[:, :-1].T, begins_TxN)
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
