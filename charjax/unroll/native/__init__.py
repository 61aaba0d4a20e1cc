"""Compiled kernels for CPU, built on the machine where there is a C++ compiler.

`jax.lax.scan` over a small product leaves a CPU half idle: it packs the weights again
in every step, and its threads meet in every step. A kernel runs a share of the batch
through all time steps on each core instead. One takes the place of the scan
(`charjax.unroll.choose`) and is differentiable in reverse mode, once. Another takes the
place of the loop that draws text (`charjax.predict.draw`), a third that of large
products in bfloat16 (`charjax.unroll.precision`). The numbers are the same up to
rounding.

    build.py       compiles the library for this CPU when it is first needed
    kernels.cc     the functions that XLA calls
    cells.h        the pointwise part of each cell
    recurrence.h   a layer over time, forward and backward
    draw.h         drawing text
    product.h      packed weights, sums in registers, products of matrices
    tiles.h        such sums in a CPU's matrix unit, for bfloat16
    parallel.h     shares of the rows for each thread
    vector.h       the machine's vectors, float32 or pairs of bfloat16
"""

import functools

import jax

from charjax.unroll.native.build import BuildError, open_library, will_compile

__all__ = ["problem", "will_compile"]

_TARGETS = {
    "charjax_forward": "CharjaxForward",
    "charjax_backward": "CharjaxBackward",
    "charjax_pack": "CharjaxPack",
    "charjax_draw": "CharjaxDraw",
}
# The library has this only where the CPU multiplies bfloat16.
_BFLOAT16_TARGET = "charjax_product", "CharjaxProduct"


def problem(precision: str = "float32") -> str | None:
    """Makes the compiled library ready for use; returns why it cannot be used, or None.

    It is built where it is not in the cache. This is tried once a process.
    """
    reason, has_bfloat16 = _open()
    if reason is None and precision == "bfloat16" and not has_bfloat16:
        return "this CPU has no instruction for products in bfloat16"
    return reason


@functools.cache
def _open() -> tuple[str | None, bool]:
    """Returns why the library cannot be used, and whether it multiplies bfloat16."""
    try:
        library = open_library()
        targets = dict(_TARGETS)
        if has_bfloat16 := hasattr(library, _BFLOAT16_TARGET[1]):
            targets |= [_BFLOAT16_TARGET]
        for target, symbol in targets.items():
            handler = jax.ffi.pycapsule(getattr(library, symbol))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except BuildError as error:
        return str(error), False
    except (ValueError, AttributeError, RuntimeError) as error:
        return f"the compiled library cannot be used: {error}", False
    return None, has_bfloat16
