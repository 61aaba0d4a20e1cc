"""A saved model made ready to learn while it reads: `charjax.Dynamic` of a run.

It needs statistics of gradients on the training text. They are gathered once, and kept
in the checkpoint's folder.
"""

from pathlib import Path

import numpy as np

from charjax import checkpoint
from charjax.checkpoint import StrPath
from charjax.errors import CheckpointError, TextError
from charjax.model import Params
from charjax.predict import Dynamic, DynamicRule, gather_statistics
from charjax.report.heldout import open_splits, run_of
from charjax.text import Lanes
from charjax.text.form import form_of
from charjax.units import Say, silent
from charjax.unroll import Execution

NAME = "dynamic.stats"

_CHARACTERS = 40_000  # of the training text, from all lanes


def dynamic_for(
    path: StrPath,
    which: str = "best",
    *,
    fallback: bool = False,
    rule: DynamicRule | None = None,
    execution: Execution | None = None,
    say: Say = silent,
) -> Dynamic:
    """Returns a saved model that learns while it reads.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      which: `'best'` loss or `'latest'`, if there are several.
      fallback: whether the next one is taken if that is damaged.
      rule: how it learns; by default `DynamicRule()`.
      execution: how it runs.
      say: called with a line before the statistics are gathered, which takes seconds,
        and with one that says why they could not be kept.

    Raises:
      CheckpointError: no checkpoint is found, or it or its statistics are damaged, or
        the statistics are of another checkpoint or text.
      TextError: none are kept yet, and the training text cannot be read.
      ConfigError: its cell is not registered.

    Example:
      >>> from charjax.report import dynamic_for
      >>> dynamic = dynamic_for("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> charjax.score(dynamic, text).nats  # doctest: +SKIP
    """
    rule = DynamicRule() if rule is None else rule
    found = checkpoint.find(path, which, fallback=fallback)
    params = checkpoint.load(found)
    stats = None if rule.rule == "sgd" else _statistics(found, params, say)
    return Dynamic(params, stats, rule, execution)


def _statistics(path: Path, params: Params, say: Say) -> Params:
    """Returns the statistics of a checkpoint, kept or gathered now."""
    manifest = checkpoint.read(path)
    config, text_sha256 = run_of(path, manifest)
    about = {
        "text_sha256": text_sha256,
        "characters": _CHARACTERS,
        "chunk_length": DynamicRule.chunk_length,
    }
    if end := form_of(config.data).end:
        about["end"] = end
    if kept := checkpoint.load_derived(path, NAME, params, about):
        return kept
    streams = open_splits(config, text_sha256, params.vocab)
    if isinstance(streams, str):
        raise TextError(
            f"learning while reading must have the text that {path} was trained on, "
            f"once. {streams} Try --config.data.dir as in training."
        )
    say("gathering gradients of the training text, once; this takes some seconds")
    stats = statistics_of(params, streams.train)
    try:
        checkpoint.save_derived(path, NAME, stats, about)
    except CheckpointError as error:  # such as a folder that may not be written
        say(f"the gradients are not kept: {error}")
    return stats


def statistics_of(params: Params, train: Lanes) -> Params:
    """Returns how large gradients are on passages that lie evenly over a split."""
    size = DynamicRule.chunk_length
    longest = train.num_chunks * train.seq_length + 1
    length = min(longest, 32 * size + 1)
    count = max(1, _CHARACTERS // (train.batch_size * (length - 1)))
    starts = sorted({*np.linspace(0, longest - length, count).astype(int)})
    ids_NxL = np.concatenate([train.window(start, length) for start in starts])
    begins = [x for start in starts if (x := train.begins(start, length)) is not None]
    begins = np.concatenate(begins) if begins else None
    return gather_statistics(params, ids_NxL, begins=begins)
