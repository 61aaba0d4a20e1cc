"""Choices that depend on the device."""

import functools
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jaxlib.version
import numpy as np

from charjax.cells.base import Cell
from charjax.errors import ConfigError
from charjax.storage.cache import CacheError, private_folder
from charjax.units import Say, silent
from charjax.unroll import native

R = TypeVar("R")

KERNELS = ("auto", "scan", "native")

# Vectors as wide as the machine has them: 1.02 to 1.06 times as fast as the default.
_CPU = {"xla_cpu_prefer_vector_width": "512"}


def choose(kind: str) -> Any:
    """Returns the `jax.Device` to work on.

    Args:
      kind: `'auto'` for the best there is, or `'cpu'`, `'gpu'`, `'tpu'`.

    Raises:
      ConfigError: there is no such device here.
    """
    if kind == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(kind)[0]
    except RuntimeError:
        there_is = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ConfigError(
            f"train.device={kind} asks for a device that JAX does not see here "
            f"(it sees: {there_is}); choose one of these, or install JAX for {kind}"
        ) from None


def describe(device: Any) -> str:
    """Returns what a person calls the device."""
    if device.platform == "cpu":
        return f"CPU ({_num_cores()} cores)"
    return f"{device.platform.upper()} ({device.device_kind})"


def compiler_options() -> dict[str, str] | None:
    """Returns options for `jax.jit` of a training step on the current default device.

    On CPU the sequential scheduler: the concurrent one costs a loop of small
    operations, such as a recurrence, 30 to 40% of its time.
    """
    if _platform() != "cpu":
        return None
    return _CPU | {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


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


def find_kernel(
    kernel: str, cell: Cell, dtype: str, arrays: Iterable[Any]
) -> native.Kernel | None:
    """Returns the compiled kernel to use for a cell, or None for JAX's own loops.

    Args:
      kernel: `'auto'` for the compiled one where there is one for the cell, on a CPU,
        in float32; `'scan'` for the other; `'native'` to insist on the compiled one.
      cell: the cell.
      dtype: the precision of its products.
      arrays: what it would work on.

    Raises:
      ConfigError: the compiled one is insisted on, and not to be had.
    """
    obstacle = _obstacle(kernel, cell, dtype, {array.dtype for array in arrays})
    if obstacle is None:
        return native.kernel_of(cell)
    if kernel == "native":
        raise ConfigError(
            f"model.kernel=native cannot be had: {obstacle}; use model.kernel=auto"
        )
    return None


def check_kernel(kernel: str, cell: Cell, dtype: str) -> None:
    """Raises the ConfigError that `find_kernel` would for float32 weights."""
    find_kernel(kernel, cell, dtype, [np.zeros(0, np.float32)])


def find_drawing_kernel(
    kernel: str, cell: Cell, dtype: str, weights: Sequence[jax.Array], texts: int
) -> native.Kernel | None:
    """Returns the compiled kernel to draw texts with, or None for JAX's own loop.

    Args:
      kernel: as for `find_kernel`; but `'auto'` leaves to JAX a few texts of a large
        model, since one core alone reads all its weights for each character of a text,
        where XLA has all cores read them.
      cell: the cell.
      dtype: the precision of its products.
      weights: the model's.
      texts: how many are drawn at once.
    """
    is_large = sum(array.nbytes for array in weights) > 2**21
    if kernel == "auto" and is_large and texts < 8:
        return None
    return find_kernel(kernel, cell, dtype, weights)


def describe_kernel(kernel: str, cell: Cell, dtype: str) -> str:
    """Returns which kernel `find_kernel` finds for float32 weights, and why."""
    obstacle = _obstacle(kernel, cell, dtype, {np.dtype(np.float32)})
    return "native" if obstacle is None else f"scan ({obstacle})"


def _obstacle(kernel: str, cell: Cell, dtype: str, types: set[Any]) -> str | None:
    """Returns what stands against the compiled kernel, or None."""
    if kernel == "scan":
        return "as model.kernel says"
    if _platform() != "cpu":
        return "the device is no CPU"
    if native.kernel_of(cell) is None:
        return "none is compiled for this cell"
    if dtype != "float32" or types != {np.dtype(np.float32)}:
        return "none is compiled but for float32"
    return native.problem()


def jit_forward(
    function: Callable[..., R], *, static_argnames: tuple[str, ...] = ()
) -> Callable[..., R]:
    """Returns `jax.jit(function)`, for a function that is not differentiated.

    On CPU it is compiled at LLVM's second level of optimisation. The third, which is
    the default, takes longer to compile and makes a recurrence 1.1 to 1.7 times
    slower. The device is looked up at each call, so that an import touches none.
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
        return compiled_for(_platform())(*args, **kwargs)

    return call


def num_shares(texts: int) -> int:
    """Returns into how many shares to split texts that do not depend on each other.

    XLA runs the small products of a step of a few texts on one core. So on CPU each
    core takes a share, of eight texts at least, since a share reads all weights.
    """
    return max(1, min(_num_cores(), texts // 8)) if _platform() == "cpu" else 1


def side_by_side(function: Callable[..., R], *shares: Sequence[Any]) -> list[R]:
    """Returns `list(map(function, *shares))`, the calls in threads beside each other.

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


def _num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _platform() -> str:
    """Returns the platform of the device that JAX now puts things on."""
    config: Any = jax.config
    device = config.jax_default_device
    return getattr(device, "platform", device) or jax.default_backend()
