"""The loss of other predictors on held-out text, beside that of the best model."""

import numpy as np

from charjax.model import Params
from charjax.predict import Dynamic, predictor_of
from charjax.predict.evaluation import chunk_losses
from charjax.predict.mixture import mixed
from charjax.predict.scoring import log_probs_of
from charjax.report.counting import CHARACTERS, ORDER, fit_ngram
from charjax.report.heldout import HeldOut, num_chunks, passages, start_of_lanes
from charjax.report.learning import statistics_of
from charjax.report.read import Section
from charjax.text import Streams
from charjax.text.made_up import MadeLanes

_NGRAM_CHARACTERS = 5_000_000  # read for the n-gram model's loss
_READ = 20_000  # characters of the split that each predictor reads in turn


def other_predictors(
    params: Params, streams: Streams | str, heldout: HeldOut | str
) -> Section | None:
    """Returns the loss of an n-gram model on the validation split, and of mixtures.

    Args:
      params: the model.
      streams: the splits of its run.
      heldout: the split to measure on.

    Returns:
      The n-gram model's order, loss and training characters; and `rows`, the losses of
      the model, of what is made from it and of mixtures on the first `read` characters
      of the split. None without a validation split of which all characters count.
    """
    if isinstance(streams, str) or isinstance(heldout, str):
        return None
    if heldout.name != "validation" or isinstance(heldout.lanes, MadeLanes):
        return None
    ngram, lanes = fit_ngram(streams.train, params.vocab), heldout.lanes
    chunks = num_chunks(lanes, _NGRAM_CHARACTERS)
    ids_NxL, begins_NxL = passages(lanes, _READ)
    ids = ids_NxL.ravel()
    begins = None if begins_NxL is None else begins_NxL.ravel()
    # Gathered anew, as a report writes nothing into a checkpoint's folder.
    dynamic = Dynamic(params, statistics_of(params, streams.train))
    model, learning, counts = (
        log_probs_of(predictor_of(predictor), ids, begins=begins)
        for predictor in (params, dynamic, ngram)
    )
    name = f"{ORDER}-gram"
    rows = {
        "the model": model,
        f"the {name} model": counts,
        "both, mixed": mixed([model, counts], ids),
        "the model, learning while it reads": learning,
        f"that and the {name} model, mixed": mixed([learning, counts], ids),
    }
    return {
        "order": ORDER,
        "loss": float(np.mean(chunk_losses(ngram, lanes, most_chunks=chunks))),
        "characters": start_of_lanes(streams.train, CHARACTERS).ids_NxL.size,
        "read": len(ids),
        "bytes_per_character": float(params.vocab.num_bytes[ids].mean()),
        "rows": [[name, -float(x.mean(dtype="float64"))] for name, x in rows.items()],
    }
