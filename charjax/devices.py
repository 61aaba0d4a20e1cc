"""What depends on the device a program runs on: its name, cores, compiler options."""

import functools
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jaxlib.version

from charjax.errors import ConfigError
from charjax.storage.cache import CacheError, private_folder
from charjax.units import Say, silent

R = TypeVar("R")

# Vectors as wide as the machine has them: 1.02 to 1.06 times as fast as the default.
_CPU = {"xla_cpu_prefer_vector_width": "512"}


def choose(kind: str) -> Any:
    """Returns the `jax.Device` to work on.

    Args:
      kind: `'auto'` for JAX's default device, or `'cpu'`, `'gpu'`, `'tpu'`.

    Raises:
      ConfigError: JAX sees no such device.
    """
    if kind == "auto":
        return jax.local_devices()[0]
    try:
        return jax.local_devices(backend=kind)[0]
    except RuntimeError:
        seen = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ConfigError(
            f"train.device must be a device that JAX sees ({seen}); got {kind}. Try "
            f"one of these, or install JAX for {kind}."
        ) from None


def describe(device: Any) -> str:
    """Returns the device's name for people."""
    if device.platform == "cpu":
        return f"CPU ({num_cores()} cores)"
    return f"{device.platform.upper()} ({device.device_kind})"


def current_platform() -> str:
    """Returns the platform on which a call made now runs, such as `'cpu'`.

    For decisions at the time of a call. A traced function must not ask for it, since
    it may be compiled for another platform.
    """
    config: Any = jax.config
    device = config.jax_default_device
    return getattr(device, "platform", device) or jax.default_backend()


def training_options(platform: str) -> dict[str, str] | None:
    """Returns options for `jax.jit` of a training step on a platform.

    On CPU the sequential scheduler: the concurrent one costs a loop of small
    operations, such as a recurrence, 30 to 40% of its time.
    """
    if platform != "cpu":
        return None
    return _CPU | {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def jit_forward(
    function: Callable[..., R], *, static_argnames: tuple[str, ...] = ()
) -> Callable[..., R]:
    """Returns `jax.jit(function)`, for a function that is not differentiated.

    On CPU it is compiled at LLVM's second level of optimisation. The third, which is
    the default, takes longer to compile and makes a recurrence 1.1 to 1.7 times
    slower. The platform is looked up at each call, so that an import touches no device.
    """

    @functools.cache
    def compiled_for(kind: str) -> Callable[..., R]:
        options = _CPU | {"xla_backend_optimization_level": "2"}
        return jax.jit(
            function,
            static_argnames=static_argnames,
            compiler_options=options if kind == "cpu" else None,
        )

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        return compiled_for(current_platform())(*args, **kwargs)

    return call


def keep_compilations(say: Say = silent) -> None:
    """Keeps what XLA compiles in the user's cache folder, for later processes.

    For programs to call at their start. A folder that the user has set stays. Nothing
    is kept where the folder cannot be written, or cannot be trusted: what is kept there
    is run by later processes.

    Args:
      say: called with a line that says why the folder cannot be trusted.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    name = f"xla-{jaxlib.version.__version__}-{platform.node()}"
    try:
        folder = private_folder(name)
    except CacheError as error:
        say(f"warning   compilations are not kept: {error}")
        return
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def num_shares(texts: int) -> int:
    """Returns the number of shares into which independent texts are split.

    XLA runs the small products of a step of a few texts on one core. So on CPU each
    core takes a share, of eight texts at least, since a share reads all weights.
    """
    if current_platform() != "cpu":
        return 1
    return max(1, min(num_cores(), texts // 8))


def side_by_side(function: Callable[..., R], *shares: Sequence[Any]) -> list[R]:
    """Returns `list(map(function, *shares))`, with the calls in parallel threads.

    The threads have the caller's default device and precision, which JAX keeps by
    thread.
    """
    if len(shares[0]) == 1:
        return list(map(function, *shares))
    config: Any = jax.config
    device, is_double = config.jax_default_device, config.jax_enable_x64

    def finish(*share: Any) -> R:
        with jax.default_device(device), jax.enable_x64(is_double):
            return jax.block_until_ready(function(*share))

    with ThreadPoolExecutor(len(shares[0])) as threads:
        return list(threads.map(finish, *shares))


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
