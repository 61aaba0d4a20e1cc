"""charjax: character-level recurrent language models in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from charjax.errors import (
    BusyError,
    CharjaxError,
    CheckpointError,
    ConfigError,
    MissingTextError,
    Pruned,
    SinkError,
    TextError,
    TrainingError,
)

if TYPE_CHECKING:
    from charjax import cells
    from charjax.checkpoint import load
    from charjax.config import default_config
    from charjax.interpret import activations, find_units, gate_saturation
    from charjax.model import (
        ModelSpec,
        Noise,
        Params,
        apply,
        init,
        initial_carry,
        loss,
        num_parameters,
    )
    from charjax.predict import (
        AdaptiveNGram,
        Dynamic,
        DynamicRule,
        Ensemble,
        Mixture,
        NGram,
        Predictor,
        complete,
        evaluate,
        gather_statistics,
        next_chars,
        sample,
        score,
        stream,
        tune_dynamic,
    )
    from charjax.text.novelty import novel_share
    from charjax.text.vocab import Vocab
    from charjax.training import Run, Stopped, train
    from charjax.unroll import Execution

__version__ = "0.1.0"

# Imported when first used, so that sampling does not wait for the training libraries.
_HOMES = {
    "load": "checkpoint",
    "default_config": "config",
    "activations": "interpret",
    "find_units": "interpret",
    "gate_saturation": "interpret",
    "ModelSpec": "model",
    "Noise": "model",
    "Params": "model",
    "apply": "model",
    "init": "model",
    "initial_carry": "model",
    "loss": "model",
    "num_parameters": "model",
    "AdaptiveNGram": "predict",
    "Ensemble": "predict",
    "Mixture": "predict",
    "Dynamic": "predict.dynamic",
    "DynamicRule": "predict.dynamic_rule",
    "NGram": "predict.ngram",
    "Predictor": "predict",
    "complete": "predict",
    "evaluate": "predict",
    "gather_statistics": "predict.statistics",
    "next_chars": "predict",
    "sample": "predict",
    "score": "predict",
    "stream": "predict",
    "tune_dynamic": "predict.tuning",
    "novel_share": "text.novelty",
    "Vocab": "text.vocab",
    "Run": "training",
    "Stopped": "training",
    "train": "training",
    "Execution": "unroll",
}

__all__ = [
    "AdaptiveNGram",
    "BusyError",
    "CharjaxError",
    "CheckpointError",
    "ConfigError",
    "Dynamic",
    "DynamicRule",
    "Ensemble",
    "Execution",
    "MissingTextError",
    "Mixture",
    "ModelSpec",
    "NGram",
    "Noise",
    "Params",
    "Predictor",
    "Pruned",
    "Run",
    "SinkError",
    "Stopped",
    "TextError",
    "TrainingError",
    "Vocab",
    "activations",
    "apply",
    "cells",
    "complete",
    "default_config",
    "evaluate",
    "find_units",
    "gate_saturation",
    "gather_statistics",
    "init",
    "initial_carry",
    "load",
    "loss",
    "next_chars",
    "novel_share",
    "num_parameters",
    "sample",
    "score",
    "stream",
    "train",
    "tune_dynamic",
]


_MODULES = (
    "cells",
    "checkpoint",
    "config",
    "interchange",
    "interpret",
    "linen",
    "model",
    "plot",
    "predict",
    "report",
    "sweep",
    "text",
    "training",
    "unroll",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"charjax.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'charjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"charjax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
