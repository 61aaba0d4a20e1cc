"""What anything that predicts the next character can do: score texts and write them."""

from charjax.predict.adaptive import AdaptiveNGram
from charjax.predict.beam import Completion, complete
from charjax.predict.by_document import documents
from charjax.predict.dynamic import Dynamic
from charjax.predict.dynamic_rule import DynamicRule
from charjax.predict.ensemble import Ensemble
from charjax.predict.evaluation import evaluate
from charjax.predict.learning import dynamic_step
from charjax.predict.mixture import Mixture
from charjax.predict.ngram import NGram
from charjax.predict.predictor import Learner, ModelPredictor, Predictor, predictor_of
from charjax.predict.sampling import sample, stream
from charjax.predict.scoring import Score, next_chars, score
from charjax.predict.statistics import gather_statistics
from charjax.predict.tuning import tune_dynamic

__all__ = [
    "AdaptiveNGram",
    "Completion",
    "Dynamic",
    "DynamicRule",
    "Ensemble",
    "Learner",
    "Mixture",
    "ModelPredictor",
    "NGram",
    "Predictor",
    "Score",
    "complete",
    "documents",
    "dynamic_step",
    "evaluate",
    "gather_statistics",
    "next_chars",
    "predictor_of",
    "sample",
    "score",
    "stream",
    "tune_dynamic",
]
