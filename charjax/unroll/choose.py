"""What runs a cell over time: the choice among the strategies, and why, in words.

A strategy is a function `(cell, params, carry, z, execution) -> (carry, h)`:

    scan     any cell                                   `unroll/scan.py`
    linear   a cell with a `linear` form                `unroll/linear.py`
    native   a cell, platform and precision for which   `unroll/kernels.py`
             a compiled kernel is registered

All give the same numbers and gradients up to rounding. The platform is known only when
a program is compiled, not when it is traced, so a kernel takes the place of the other
strategies through `jax.lax.platform_dependent`. A program can be traced on a CPU and
compiled for a GPU.
"""

from typing import Any

import jax

from charjax.cells.base import Carry, Cell, CellParams
from charjax.cells.wrap import has_zoneout, starts_anew
from charjax.errors import ConfigError
from charjax.unroll import native
from charjax.unroll.execution import Execution
from charjax.unroll.kernels import UnrollKernel, unroll_kernel
from charjax.unroll.linear import linear
from charjax.unroll.scan import scan

PLATFORMS = ("cpu",)  # those for which there are kernels


def unroll(
    cell: Cell, params: CellParams, carry: Carry, z_TxBxGH: Any, execution: Execution
) -> tuple[Carry, jax.Array]:
    """Runs a cell over time by the strategy that suits it and the platform.

    It is differentiable in reverse mode (`jax.grad`, `jax.vjp`) only. Through a
    compiled kernel it is differentiable once. `jax.shard_map` needs `check_vma=False`.

    Args:
      cell: the cell.
      params: its weights.
      carry: its state before the first step.
      z_TxBxGH: `cell.project(params, x_TxBxD, matmul)`.
      execution: the precision, and the strategy if one is demanded.

    Returns:
      The state after the last step, and the outputs `h_TxBxH`.

    Raises:
      ConfigError: the strategy demanded is not available.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import Execution, cells
      >>> from charjax.unroll.choose import unroll
      >>> lstm = cells.get("lstm")
      >>> params = lstm.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> z = lstm.project(params, jnp.ones((5, 2, 3)), jnp.matmul)
      >>> carry = lstm.initial_carry(2, 4, jnp.float32)
      >>> carry, h = unroll(lstm, params, carry, z, Execution())
      >>> h.shape
      (5, 2, 4)
    """
    check(cell, execution)
    several_steps = jax.tree.leaves(z_TxBxGH)[0].shape[0] > 1
    general = linear if several_steps and _is_linear(cell, execution) else scan

    def run_general(params: CellParams, carry: Carry, z_TxBxGH: Any) -> Any:
        return general(cell, params, carry, z_TxBxGH, execution)

    kernels: dict[str, Any] = {}
    for platform in PLATFORMS if several_steps else ():
        kernel, _ = _find(cell, execution, platform)
        if kernel is not None and kernel.fits(params, carry, z_TxBxGH):
            kernels[platform] = kernel.unroll
    if not kernels:
        return run_general(params, carry, z_TxBxGH)
    return jax.lax.platform_dependent(
        params, carry, z_TxBxGH, default=run_general, **kernels
    )


def check(cell: Cell, execution: Execution, platform: str | None = None) -> None:
    """Raises a ConfigError if the strategy demanded is not available.

    Args:
      cell: the cell.
      execution: what is demanded.
      platform: where it will run; None if that is not known yet.
    """
    if execution.unroll == "linear" and cell.linear is None:
        raise ConfigError(
            "the cell must have a linear form for unroll='linear'; got none. Try "
            "model.kernel=auto (unroll='auto')."
        )
    if execution.unroll != "native":
        return
    platforms = PLATFORMS if platform is None else (platform,)
    reasons = {name: _find(cell, execution, name)[1] for name in platforms}
    if all(reasons.values()):
        raise ConfigError(
            "the compiled kernel was requested but is not available: "
            f"{'; '.join(filter(None, reasons.values()))}. Try model.kernel=auto "
            "(unroll='auto')."
        )


def announce(cell: Cell, execution: Execution, platform: str) -> str | None:
    """Returns a line to show before the first use of a kernel that is compiled then.

    None if nothing that takes seconds has to be done.
    """
    if platform not in PLATFORMS:
        return None
    kernel = unroll_kernel(cell, platform, execution.precision)
    has_kernel = kernel is not None and execution.unroll in ("auto", "native")
    # Products in bfloat16 are the library's for every cell.
    if not has_kernel and execution.precision != "bfloat16":
        return None
    if not native.will_compile():
        return None
    return "compiling the kernel for this CPU, once; this takes some seconds"


def describe(cell: Cell, execution: Execution, platform: str) -> str:
    """Returns the strategy for float32 weights on a platform, and the reason for it.

    Example:
      >>> from charjax import Execution, cells
      >>> describe(cells.get("gru_reset_before"), Execution(), "cpu")
      'scan (no compiled kernel for this cell in float32)'
    """
    kernel, reason = _find(cell, execution, platform)
    if kernel is not None:
        return "native"
    if _is_linear(cell, execution):
        return f"linear ({'in sequence' if platform == 'cpu' else 'in parallel'})"
    return f"scan ({reason})"


def _is_linear(cell: Cell, execution: Execution) -> bool:
    return cell.linear is not None and execution.unroll in ("auto", "linear")


def _find(
    cell: Cell, execution: Execution, platform: str
) -> tuple[UnrollKernel | None, str | None]:
    """Returns the kernel to use on a platform, or None and the reason."""
    if execution.unroll in ("scan", "linear"):
        return None, "as requested"
    if platform not in PLATFORMS:
        return None, f"no compiled kernel for {platform}"
    if has_zoneout(cell):
        return None, "no compiled kernel has zoneout"
    if starts_anew(cell):
        return None, "no compiled kernel starts anew at each document"
    kernel = unroll_kernel(cell, platform, execution.precision)
    if kernel is None:
        return None, f"no compiled kernel for this cell in {execution.precision}"
    if reason := kernel.problem():
        return None, reason
    return kernel, None
