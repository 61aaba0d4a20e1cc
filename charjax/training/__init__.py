"""Training: optimiser and schedule, the jitted step, the loop and its records."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charjax.training.loop import Run, train
    from charjax.training.signals import Stopped

__all__ = ["Run", "Stopped", "train"]


def __getattr__(name: str) -> Any:
    # The loop is imported when it is used, so that a report, which reads what a run
    # wrote, can import this package's other modules without it.
    if name in ("Run", "train"):
        from charjax.training import loop

        return getattr(loop, name)
    if name == "Stopped":
        from charjax.training.signals import Stopped

        return Stopped
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
