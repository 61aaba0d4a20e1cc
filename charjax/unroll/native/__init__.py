"""Compiled kernels for CPU, built on the machine where there is a C++ compiler.

`jax.lax.scan` over a small product leaves a CPU half idle: it packs the weights again
in every step, and its threads meet in every step. A kernel runs a share of the batch
through all time steps on each core instead. One takes the place of the scan
(`charjax.unroll.choose`) and is differentiable in reverse mode, once. Another takes the
place of the loop that draws text (`charjax.predict.draw`). The numbers are the same up
to rounding.

`build` compiles the library for this CPU when it is first needed.
"""

import functools

import jax

from charjax.unroll.native.build import BuildError, open_library, will_compile

__all__ = ["problem", "will_compile"]

_TARGETS = {
    "charjax_lstm_forward": "CharjaxLstmForward",
    "charjax_lstm_backward": "CharjaxLstmBackward",
    "charjax_lstm_pack": "CharjaxLstmPack",
    "charjax_lstm_draw": "CharjaxLstmDraw",
}


@functools.cache
def problem() -> str | None:
    """Makes the compiled library ready for use; returns why it cannot be used, or None.

    It is built where it is not in the cache. This is tried once a process.
    """
    try:
        library = open_library()
        for target, symbol in _TARGETS.items():
            handler = jax.ffi.pycapsule(getattr(library, symbol))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except BuildError as error:
        return str(error)
    except (ValueError, AttributeError, RuntimeError) as error:
        return f"the compiled library cannot be used: {error}"
    return None
