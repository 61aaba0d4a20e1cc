"""The optimiser and its learning-rate schedule, from a configuration."""

import jax
import jax.numpy as jnp
import optax

from charjax.config import Config


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
    config: Config, schedule: optax.Schedule, *, seq_length: int
) -> optax.GradientTransformation:
    """Returns the optimiser: scale, clip, then the update rule.

    Args:
      config: the `optimizer` group of a checked configuration.
      schedule: the learning rate by step.
      seq_length: T, by which the mean loss is multiplied to be summed over time.
    """
    parts = []
    if config.sum_over_time:
        parts.append(optax.scale(seq_length))
    if config.grad_clip:
        clip = {"norm": optax.clip_by_global_norm, "value": optax.clip}
        parts.append(clip[config.clip_mode](config.grad_clip))
    parts.append(_update_rule(config, schedule))
    return optax.chain(*parts)


def _update_rule(
    config: Config, schedule: optax.Schedule
) -> optax.GradientTransformation:
    match config.name:
        case "rmsprop":
            return optax.rmsprop(
                schedule, decay=config.b2, eps=config.eps, eps_in_sqrt=False
            )
        case "sgd":
            return optax.sgd(schedule, momentum=config.b1 or None)
        case "adam":
            return optax.adam(schedule, config.b1, config.b2, config.eps)
        case _:
            return optax.adamw(
                schedule,
                config.b1,
                config.b2,
                config.eps,
                weight_decay=config.weight_decay,
                mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
            )
