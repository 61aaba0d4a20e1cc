"""What a run needs before its first step: text, splits, weights, plan and state."""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from charjax import checkpoint, devices, hosts, model, parallel
from charjax.checkpoint import Verified
from charjax.config import Config
from charjax.errors import TextError
from charjax.model import Params
from charjax.text import (
    Corpus,
    Lanes,
    Streams,
    documents,
    find,
    locate,
    open_corpus,
    split_corpus,
)
from charjax.text.form import form_of
from charjax.text.made_up import corpus_of, is_made_up, made_streams
from charjax.text.streams import bytes_per_character
from charjax.text.vocab import Vocab
from charjax.training.averages import Averaging
from charjax.training.configured import model_spec
from charjax.training.progress import Progress, read_progress
from charjax.training.rule import make_rule
from charjax.training.state import TrainState, create_state, restore_state, spread
from charjax.training.step import Advance, make_advance
from charjax.training.warm import warm_params
from charjax.units import Say, silent

_LISTED = 1000  # files of a text that a checkpoint lists


@dataclasses.dataclass(frozen=True)
class Plan:
    """What stays the same for the whole of a run.

    Attributes:
      config: the checked configuration.
      streams: the splits of the text.
      steps_per_epoch: training steps that read the train split once.
      total_steps: the last step; patience may end the run earlier.
      eval_interval: steps between validations.
      max_count: the most steps of one dispatch.
      schedule: the learning rate by step.
      optimizer: the update rule.
      averaging: which average of the weights is kept, None for none.
      mesh: the devices that share the lanes, None for one.
      advance: the jitted training steps.
      bytes_per_character: of each split that has a chunk, in UTF-8.
    """

    config: Config
    streams: Streams
    steps_per_epoch: int
    total_steps: int
    eval_interval: int
    max_count: int
    schedule: Callable[[Any], Any]
    optimizer: optax.GradientTransformation
    averaging: Averaging | None
    mesh: Mesh | None
    advance: Advance
    bytes_per_character: dict[str, float]

    @property
    def validates_on(self) -> str:
        """The split whose loss is measured: `'val'`, or `'train'` without one."""
        return "val" if self.streams.val.num_chunks else "train"

    def next_count(self, step: int) -> int:
        """Returns how many steps the dispatch that begins at `step` takes.

        A dispatch ends where the step number is a multiple of `steps_per_dispatch`,
        where an epoch ends (the next one may read from another offset) and where a
        validation is due. These places depend on the step number alone, not on where
        this process began, so that a resumed run makes the same calls as an
        uninterrupted one and rounds in the same way.
        """
        grid = (
            self.config.train.steps_per_dispatch,
            self.steps_per_epoch,
            self.eval_interval,
        )
        boundary = min(step - step % size + size for size in grid)
        return min(boundary, self.total_steps) - step

    def window(self, step: int, count: int) -> Any:
        """Returns the characters that `count` steps from `step` on read.

        Where the text has documents, or characters that do not count in the loss, it is
        a triple, with where they begin and what counts. Padded to the length of the
        longest dispatch, so that all share one compilation.
        """
        batch_size = self.config.data.batch_size
        train = self.streams.train.part(parallel.lanes_here(batch_size, self.mesh))
        epoch, chunk = divmod(step, self.steps_per_epoch)
        start = chunk * train.seq_length + self._offset(epoch)
        length = count * train.seq_length + 1
        padding = (0, 0), (0, (self.max_count - count) * train.seq_length)
        ids_BxL = np.pad(train.window(start, length), padding)
        marks = train.begins(start, length), train.counts(start, length)
        if all(mark is None for mark in marks):
            return parallel.join(ids_BxL, self.mesh)
        marks = jax.tree.map(lambda x: np.pad(x, padding), marks)
        return parallel.join((ids_BxL, *marks), self.mesh)

    def _offset(self, epoch: int) -> int:
        train = self.streams.train
        if self.steps_per_epoch == train.num_chunks:
            return 0
        return _random_offset(self.config.train.seed, epoch, train.seq_length)


class Start(NamedTuple):
    """Where a process begins its work on a run.

    Attributes:
      plan: what stays the same.
      state: the state to go on from.
      progress: the losses and counters to go on from.
    """

    plan: Plan
    state: TrainState
    progress: Progress


def keep_text(config: Config, say: Say) -> Config:
    """Returns a configuration whose text is there to be read, now and later.

    A named data set is prepared; standard input is kept, and named in its place.
    """
    if is_made_up(config.data):
        if Path(name := config.data.name).exists():
            raise TextError(
                f"data.name must mean one thing; got {name}, a task and a file here. "
                f"Try ./{name} for the file, or the task in another folder."
            )
        return config
    path = find(config.data.name, config.data.dir, say=say)
    if config.data.dir or config.data.name != "-":
        return config
    config = config.copy_and_resolve_references()
    config.data.name = path.name
    return config.lock()


def open_text(config: Config, say: Say = silent) -> Corpus:
    """Returns the encoded text that a configuration names; prepares no data set."""
    data = config.data
    if is_made_up(data):
        return corpus_of(data.name)
    return open_corpus(
        locate(data.name, data.dir),
        data.encoding,
        normalize=data.normalize,
        field=data.field,
        separator=data.separator,
        say=say,
    )


def begin(
    config: Config, corpus: Corpus, schedule: optax.Schedule | None = None
) -> Start:
    """Returns the start of a new run.

    Args:
      config: the checked configuration.
      corpus: the text.
      schedule: the learning rate by step, in place of the configuration's.
    """
    params = first_params(config, corpus.vocab)
    check_prime(config, params.vocab)
    plan = make_plan(config, corpus, params, schedule)
    progress = Progress(**_about(plan, corpus))
    return Start(plan, spread(first_state(plan, params), plan.mesh), progress)


def resume(config: Config, corpus: Corpus, saved: Verified) -> Start:
    """Returns the state of a checkpoint, to go on from.

    Args:
      config: the checked configuration.
      corpus: the text.
      saved: the checkpoint, whose files were compared with their digests; they are not
        hashed again here.
    """
    params = checkpoint.load(saved)
    check_prime(config, params.vocab)
    plan = make_plan(config, corpus, params)
    state = restore_state(saved, jax.eval_shape(lambda: first_state(plan, params)))
    progress = read_progress(saved.path, saved.manifest.progress)
    progress = replace(progress, **_about(plan, corpus))
    return Start(plan, spread(state, plan.mesh), progress)


def _about(plan: Plan, corpus: Corpus) -> dict[str, Any]:
    """Returns what a checkpoint says of the text."""
    return {
        "text_sha256": corpus.sha256,
        "text_files": [list(part) for part in corpus.parts[:_LISTED]],
        "bytes_per_character": plan.bytes_per_character[plan.validates_on],
    }


def first_params(config: Config, text_vocab: Vocab) -> Params:
    """Returns the weights that a run starts from: fresh ones, or another model's.

    Args:
      config: as `charjax.training.warm.resolve` returns it.
      text_vocab: the vocabulary of the text.
    """
    # Steps draw from fold_in(key, step), and these weights from a key that no step
    # reaches.
    key = jax.random.fold_in(jax.random.key(config.train.seed), 2**32 - 2)

    def fresh(vocab: Vocab) -> Params:
        return model.init(
            key,
            model_spec(config),
            vocab,
            scheme=config.model.init,
            forget_bias=config.model.forget_bias,
        )

    if config.train.init_from:
        return warm_params(config, text_vocab, fresh)
    return fresh(text_vocab)


def check_prime(config: Config, vocab: Vocab) -> None:
    """Raises a TextError if the model does not know the start of its samples."""
    try:
        vocab.encode(config.sample.prime)
    except TextError:
        raise TextError(
            f"sample.prime must have characters that the model knows; got "
            f"{config.sample.prime!r}. Try another."
        ) from None


def make_streams(config: Config, corpus: Corpus, vocab: Vocab) -> Streams:
    """Returns the splits of a text, with the ids of a model's vocabulary.

    Raises:
      TextError: the text is too short for the batch shape.
    """
    data = config.data
    if is_made_up(data):
        streams = made_streams(data, config.train.max_steps, config.train.seed)
        return _recoded(streams, corpus, vocab)
    ids, lengths = corpus.ids, None
    end = documents.end_ids(corpus.vocab, form_of(data).end)
    if end is not None and data.by_document:
        shares = data.document_seed, data.train_frac, data.val_frac
        ids, lengths = documents.shuffled(ids, end, *shares)
    streams = split_corpus(
        ids,
        batch_size=data.batch_size,
        seq_length=data.seq_length,
        train_frac=data.train_frac,
        val_frac=data.val_frac,
        split=data.split,
        lengths=lengths,
    )
    return _recoded(Streams(*(replace(s, end=end) for s in streams)), corpus, vocab)


def _recoded(streams: Streams, corpus: Corpus, vocab: Vocab) -> Streams:
    if vocab == corpus.vocab:
        return streams
    recoded = vocab.encode(corpus.vocab.symbols)
    return Streams(*(replace(lanes, recoded=recoded) for lanes in streams))


def make_plan(
    config: Config,
    corpus: Corpus,
    params: Params,
    schedule: optax.Schedule | None = None,
) -> Plan:
    """Returns the plan of a run.

    Args:
      config: the checked configuration.
      corpus: the text.
      params: the model.
      schedule: the learning rate by step, in place of the configuration's.

    Raises:
      TextError: the text is too short for the batch shape.
    """
    data, train = config.data, config.train
    streams = make_streams(config, corpus, params.vocab)
    chunks = streams.train.num_chunks
    # A random offset of up to one chunk leaves room for one chunk less.
    steps_per_epoch = chunks - 1 if data.random_offset and chunks > 1 else chunks
    total_steps = train.max_epochs * steps_per_epoch
    if train.max_steps:
        total_steps = min(total_steps, train.max_steps)
    eval_interval = _eval_interval(train.eval_every, steps_per_epoch)
    # No dispatch is longer than the distance between two places where it must end.
    max_count = min(
        train.steps_per_dispatch, steps_per_epoch, eval_interval, total_steps
    )
    mesh = parallel.make_mesh(
        devices.choose(train.device), train.devices, data.batch_size
    )
    rule = make_rule(
        config,
        params,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        schedule=schedule,
        mesh=mesh,
    )
    return Plan(
        config=config,
        streams=streams,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_interval=eval_interval,
        max_count=max_count,
        schedule=rule.schedule,
        optimizer=rule.optimizer,
        averaging=rule.averaging,
        mesh=mesh,
        advance=make_advance(
            rule.train_step, seq_length=data.seq_length, max_count=max_count
        ),
        bytes_per_character={
            name: _bytes_per_character(lanes, params.vocab, mesh)
            for name, lanes in zip(streams._fields, streams, strict=True)
            if lanes.num_chunks
        },
    )


def _bytes_per_character(lanes: Lanes, vocab: Vocab, mesh: Mesh | None) -> float:
    """Returns it of all lanes, of which each process reads its own, as many."""
    here = lanes.part(parallel.lanes_here(lanes.batch_size, mesh))
    # Damage that one process finds must not leave the others waiting.
    return hosts.mean(hosts.together(lambda: bytes_per_character(here, vocab)))


def first_state(plan: Plan, params: Params) -> TrainState:
    """Returns the state before the first step."""
    key = jax.random.key(plan.config.train.seed)
    batch_size = plan.config.data.batch_size
    return create_state(params, plan.optimizer, key, batch_size, plan.averaging)


@functools.cache
def _random_offset(seed: int, epoch: int, largest: int) -> int:
    # Steps draw from fold_in(key, step); offsets from a key that no step reaches.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    return int(jax.random.randint(jax.random.fold_in(key, epoch), (), 0, largest + 1))


def _eval_interval(eval_every: float, steps_per_epoch: int) -> int:
    if eval_every >= 1:
        return int(eval_every)
    return math.ceil((eval_every or 1) * steps_per_epoch)
