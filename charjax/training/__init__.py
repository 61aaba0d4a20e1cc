"""Training: optimiser and schedule, the jitted step, the loop and its records."""

from charjax.training.loop import Run, train
from charjax.training.signals import Stopped

__all__ = ["Run", "Stopped", "train"]
