"""The optimiser and its learning-rate schedule, from a configuration."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from charjax.config import Config
from charjax.training.muon import muon


def with_rate(config: Config) -> Config:
    """Returns a configuration with a learning rate in place of zero.

        rate = 0.05 (128 / H)^(1/4) min(1, sqrt(characters in an update / 2500))

    An orthogonal update of a matrix with H rows changes its outputs the more the larger
    H is, and the noise in a gradient of few characters needs small steps. The factors
    were found by trying rates on several texts and sizes (`benchmarks/README.md`).

    Args:
      config: a checked configuration with the shape of the model.
    """
    data, optimizer = config.data, config.optimizer
    if optimizer.learning_rate:
        return config
    characters = data.batch_size * data.seq_length * optimizer.accumulate
    rate = 0.05 * (128 / config.model.hidden_size) ** 0.25
    rate *= min(1, math.sqrt(characters / 2500))
    config = config.copy_and_resolve_references()
    config.optimizer.learning_rate = float(f"{min(rate, 0.1):.2g}")
    return config.lock()


def make_schedule(
    config: Config, *, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """Returns the learning rate as a function of the steps taken.

    Args:
      config: the `optimizer` group of a checked configuration.
      steps_per_epoch: what the exponential schedule calls an epoch.
      total_steps: where the cosine schedule ends.
    """
    rate, warmup = config.learning_rate, config.warmup_steps
    match config.schedule:
        case "exponential":
            schedule = optax.exponential_decay(
                rate,
                transition_steps=steps_per_epoch,
                decay_rate=config.decay_rate,
                # The first decay comes with the epoch after `decay_after_epochs`.
                transition_begin=max(config.decay_after_epochs - 1, 0)
                * steps_per_epoch,
                staircase=True,
            )
        case "cosine":
            schedule = optax.cosine_decay_schedule(
                rate, total_steps, config.final_fraction
            )
        case _:
            schedule = optax.constant_schedule(rate)
    if not warmup:
        return schedule
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / warmup)


def make_optimizer(
    config: Config,
    schedule: optax.Schedule,
    *,
    seq_length: int,
    is_frozen: Any = None,
) -> optax.GradientTransformation:
    """Returns the optimiser: scale, clip, then the update rule.

    Args:
      config: the `optimizer` group of a checked configuration.
      schedule: the learning rate by step.
      seq_length: T, by which the mean loss is multiplied to be summed over time.
      is_frozen: a pytree of bools like the weights, true for those that stay as they
        are; None: all are trained.
    """
    every = config.accumulate
    rate = schedule if every == 1 else lambda update: schedule(update * every)
    parts = [_update_rule(config, rate)]
    if config.grad_clip:
        clip = {"norm": optax.clip_by_global_norm, "value": optax.clip}
        parts.insert(0, clip[config.clip_mode](config.grad_clip))
    if config.sum_over_time:
        parts.insert(0, optax.scale(seq_length))
    if is_frozen is not None:
        # First, so that their gradients do not count for the clipping of the others;
        # last, so that they do not decay.
        frozen = optax.masked(optax.set_to_zero(), is_frozen)
        parts = [frozen, *parts, frozen]
    optimizer = optax.chain(*parts)
    if config.schedule == "free":
        optimizer = optax.contrib.schedule_free(optimizer, rate, config.b1)
    if every > 1:
        steps = optax.MultiSteps(optimizer, every_k_schedule=every)
        optimizer = steps.gradient_transformation()
    return optimizer


def _update_rule(
    config: Config, schedule: optax.Schedule
) -> optax.GradientTransformation:
    b2, eps, weight_decay = config.b2, config.eps, config.weight_decay
    # A free schedule puts its average in the place of the gradient's mean.
    b1 = 0.0 if config.schedule == "free" else config.b1
    match config.name:
        case "muon":
            return muon(schedule, b1, b2, eps, weight_decay)
        case "rmsprop":
            return optax.rmsprop(schedule, decay=b2, eps=eps, eps_in_sqrt=False)
        case "sgd":
            return optax.sgd(schedule, momentum=b1 or None)
        case "adam":
            return optax.adam(schedule, b1, b2, eps)
        case _:
            return optax.adamw(
                schedule,
                b1,
                b2,
                eps,
                weight_decay=weight_decay,
                mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
            )
