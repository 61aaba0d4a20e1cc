"""Choices that depend on the device."""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from charjax.errors import ConfigError

R = TypeVar("R")


def choose(platform: str) -> Any:
    """Returns the `jax.Device` to work on.

    Args:
      platform: `'auto'` for the best there is, or `'cpu'`, `'gpu'`, `'tpu'`.

    Raises:
      ConfigError: there is no such device here.
    """
    if platform == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(platform)[0]
    except RuntimeError:
        there_is = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ConfigError(
            f"train.device={platform} asks for a device that JAX does not see here "
            f"(it sees: {there_is}); choose one of these, or install JAX for {platform}"
        ) from None


def describe(device: Any) -> str:
    """Returns what a person calls the device."""
    if device.platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        return f"CPU ({cores or os.cpu_count()} cores)"
    return f"{device.platform.upper()} ({device.device_kind})"


def compiler_options() -> dict[str, str] | None:
    """Returns options for `jax.jit` on the current default device.

    On CPU the sequential scheduler: the concurrent one costs a loop of small
    operations, such as a recurrence, 30 to 40% of its time.
    """
    if _platform() == "cpu":
        return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    return None


def jit_forward(
    function: Callable[..., R], *, static_argnames: tuple[str, ...] = ()
) -> Callable[..., R]:
    """Returns `jax.jit(function)`, for a function that is not differentiated.

    On CPU it is compiled at LLVM's second level of optimisation. The third, which is
    the default, takes longer to compile and makes a recurrence 1.1 to 1.7 times
    slower. The device is looked up at each call, so that an import touches none.
    """

    @functools.cache
    def compiled_for(platform: str) -> Callable[..., R]:
        options = {"xla_backend_optimization_level": "2"} if platform == "cpu" else None
        return jax.jit(
            function, static_argnames=static_argnames, compiler_options=options
        )

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        return compiled_for(_platform())(*args, **kwargs)

    return call


def _platform() -> str:
    """Returns the platform of the device that JAX now puts things on."""
    config: Any = jax.config
    device = config.jax_default_device
    return getattr(device, "platform", device) or jax.default_backend()
