"""What a run needs before its first step: text, splits, model, optimiser, state."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from charjax import checkpoint, model
from charjax.config import SHAPE, Config, with_shape
from charjax.errors import CheckpointError, ConfigError, TextError
from charjax.model import ModelSpec, Noise, Params
from charjax.text import Corpus, Streams, find, open_corpus, split_corpus
from charjax.text.vocab import Vocab
from charjax.training.optimizer import make_optimizer, make_schedule
from charjax.training.step import Advance, TrainState, create_state, make_advance
from charjax.unroll import Execution


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that stays the same while a run goes on.

    Attributes:
      config: the checked configuration.
      streams: the splits of the text.
      steps_per_epoch: training steps that read the train split once.
      total_steps: where the run ends at the latest.
      eval_interval: steps between validations.
      schedule: the learning rate by step.
      optimizer: the update rule.
      advance: the jitted training steps.
    """

    config: Config
    streams: Streams
    steps_per_epoch: int
    total_steps: int
    eval_interval: int
    schedule: Callable[[Any], Any]
    optimizer: optax.GradientTransformation
    advance: Advance

    def window(self, step: int, count: int) -> np.ndarray:
        """Returns the characters that `count` steps from `step` on read, padded."""
        train = self.streams.train
        epoch, chunk = divmod(step, self.steps_per_epoch)
        start = chunk * train.seq_length + self._offset(epoch)
        ids_BxL = train.window(start, count * train.seq_length + 1)
        longest = self.config.train.steps_per_dispatch * train.seq_length + 1
        return np.pad(ids_BxL, ((0, 0), (0, longest - ids_BxL.shape[1])))

    def _offset(self, epoch: int) -> int:
        train = self.streams.train
        if self.steps_per_epoch == train.num_chunks:
            return 0
        return _random_offset(self.config.train.seed, epoch, train.seq_length)


@functools.cache
def _random_offset(seed: int, epoch: int, largest: int) -> int:
    # Steps draw from fold_in(key, step); offsets from a key that no step reaches.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    return int(jax.random.randint(jax.random.fold_in(key, epoch), (), 0, largest + 1))


def resolve(config: Config, say: Callable[[str], None]) -> Config:
    """Returns a configuration with the shape of the model that it starts from.

    So the run's name, its `config.json` and its report speak of the model as it is. A
    model that is gone is not missed by a run that has begun.
    """
    if not config.train.init_from:
        return config
    try:
        path = checkpoint.find(config.train.init_from)
        spec = checkpoint.spec_of(checkpoint.read(path))
    except CheckpointError:
        return config
    for name in SHAPE:
        asked, has = config.model[name], getattr(spec, name)
        if asked != has:
            say(f"init_from {path} has model.{name}={has!r}, not {asked!r}")
    return with_shape(config, spec)


def model_spec(config: Config) -> ModelSpec:
    """Returns the model that a configuration describes.

    Raises:
      ConfigError: the cell is unknown, or two values do not go together.
    """
    return ModelSpec(**{name: config.model[name] for name in SHAPE})


def noise(config: Config) -> Noise:
    """Returns the noise of a training step that a configuration describes."""
    fields = [field.name for field in dataclasses.fields(Noise)]
    return Noise(**{name: config.model[name] for name in fields})


def execution(config: Config) -> Execution:
    """Returns how the model that a configuration describes runs in training."""
    return Execution(
        precision=config.model.dtype,
        unroll=config.model.kernel,
        segment_length=config.train.segment_length,
    )


def open_text(config: Config, say: Callable[[str], None]) -> Corpus:
    """Returns the encoded text that a configuration names."""
    folder = find(config.data.name, config.data.dir, say=say)
    return open_corpus(folder, config.data.encoding, say=say)


def first_params(config: Config, text_vocab: Vocab) -> Params:
    """Returns the weights that a run starts from: fresh ones, or a checkpoint's.

    Args:
      config: as `resolve` returns it.
      text_vocab: the vocabulary of the text.
    """
    key = jax.random.fold_in(jax.random.key(config.train.seed), 2**32 - 2)
    draw = {"scheme": config.model.init, "forget_bias": config.model.forget_bias}
    if not config.train.init_from:
        return model.init(key, model_spec(config), text_vocab, **draw)
    params = checkpoint.load(config.train.init_from)
    spec = model_spec(config)
    missing, extra = text_vocab.difference(params.vocab)
    if missing and not config.train.extend_vocab:
        raise TextError(
            f"the text has characters that {config.train.init_from} does not know: "
            f"{missing!r}"
            + (f" (and lacks {extra!r})" if extra else "")
            + "; train.extend_vocab=true adds them"
        )
    vocab = params.vocab.extended(text_vocab)
    return _extended(params, model.init(key, spec, vocab, **draw))


def check_prime(config: Config, vocab: Vocab) -> None:
    """Raises a TextError where the model does not know what its samples begin with."""
    try:
        vocab.encode(config.sample.prime)
    except TextError:
        raise TextError(
            f"sample.prime={config.sample.prime!r} has characters that the model does "
            "not know; choose another"
        ) from None


def saved_params(config: Config, path: Path) -> Params:
    """Returns the weights of a run's checkpoint, to go on with."""
    return checkpoint.load(path)


def make_plan(config: Config, corpus: Corpus, params: Params) -> Plan:
    """Returns the plan of a run.

    Raises:
      TextError: the text is too short for the batch shape.
    """
    data = config.data
    streams = split_corpus(
        corpus.ids,
        batch_size=data.batch_size,
        seq_length=data.seq_length,
        train_frac=data.train_frac,
        val_frac=data.val_frac,
        split=data.split,
    )
    if params.vocab != corpus.vocab:
        recoded = params.vocab.encode(corpus.vocab.symbols)
        streams = Streams(*(dataclasses.replace(s, recoded=recoded) for s in streams))
    chunks = streams.train.num_chunks
    steps_per_epoch = chunks - 1 if data.random_offset and chunks > 1 else chunks
    total_steps = config.train.max_epochs * steps_per_epoch
    if config.train.max_steps:
        total_steps = min(total_steps, config.train.max_steps)
    schedule = make_schedule(
        config.optimizer, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    optimizer = make_optimizer(config.optimizer, schedule, seq_length=data.seq_length)
    advance = make_advance(
        optimizer,
        seq_length=data.seq_length,
        max_count=config.train.steps_per_dispatch,
        steps_per_epoch=steps_per_epoch,
        reset_rate=config.train.reset_rate,
        noise=noise(config),
        execution=execution(config),
    )
    return Plan(
        config=config,
        streams=streams,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_interval=_eval_interval(config.train.eval_every, steps_per_epoch),
        schedule=schedule,
        optimizer=optimizer,
        advance=advance,
    )


def first_state(plan: Plan, params: Params) -> TrainState:
    """Returns the state before the first step."""
    key = jax.random.key(plan.config.train.seed)
    return create_state(params, plan.optimizer, key, plan.config.data.batch_size)


def restore_state(plan: Plan, path: Path, params: Params) -> TrainState:
    """Returns the state that a checkpoint holds, on the current default device."""
    template = jax.eval_shape(lambda: first_state(plan, params))
    params, training = checkpoint.restore(
        path, template.params, training_part(template)
    )
    return TrainState(params=params, **training)


def training_part(state: TrainState) -> dict[str, Any]:
    """Returns what a checkpoint holds beside the params."""
    return {
        "step": state.step,
        "opt_state": state.opt_state,
        "carry": state.carry,
        "key": state.key,
    }


def _eval_interval(eval_every: float, steps_per_epoch: int) -> int:
    if eval_every >= 1:
        return int(eval_every)
    return math.ceil((eval_every or 1) * steps_per_epoch)


def _extended(old: Params, fresh: Params) -> Params:
    """Returns fresh weights with the old ones in place of those they begin with.

    Raises:
      ConfigError: an array does not have the vocabulary as an axis of its own, so
        that it cannot be told which of its entries are the old ones.
    """
    sizes = {(len(old.vocab), len(fresh.vocab))}

    def extend(new: jax.Array, before: jax.Array) -> jax.Array:
        pairs = set(zip(before.shape, new.shape, strict=True))
        if {pair for pair in pairs if pair[0] != pair[1]} - sizes:
            raise ConfigError(
                f"train.extend_vocab cannot extend an array of {before.shape} to "
                f"{new.shape}: the cell {old.spec.cell!r} mixes characters with other "
                "inputs in it; set model.embedding_size"
            )
        known = tuple(slice(size) for size in before.shape)
        return jnp.asarray(new).at[known].set(before)

    pairs = zip(jax.tree.leaves(fresh), jax.tree.leaves(old), strict=True)
    weights = [extend(new, before) for new, before in pairs]
    return jax.tree.unflatten(jax.tree.structure(fresh), weights)
