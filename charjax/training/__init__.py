"""Training: optimiser and schedule, the training step, the loop and its records."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charjax.training.run import Run, train
    from charjax.training.signals import Stopped, StopRequest, stop_on_signals
    from charjax.training.state import TrainState, create_state
    from charjax.training.step import Metrics, make_train_step

__all__ = [
    "Metrics",
    "Run",
    "StopRequest",
    "Stopped",
    "TrainState",
    "create_state",
    "make_train_step",
    "stop_on_signals",
    "train",
]

# Imported when first used: reading a run's folder needs neither the loop nor optax.
_HOMES = {
    "Metrics": "step",
    "Run": "run",
    "StopRequest": "signals",
    "Stopped": "signals",
    "TrainState": "state",
    "create_state": "state",
    "make_train_step": "step",
    "stop_on_signals": "signals",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'charjax.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"charjax.training.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
