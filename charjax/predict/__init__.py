"""What anything that predicts the next character can do: score texts and write them."""

from charjax.predict.adaptive import AdaptiveNGram
from charjax.predict.ensemble import Ensemble
from charjax.predict.evaluation import evaluate
from charjax.predict.mixture import Mixture
from charjax.predict.ngram import NGram
from charjax.predict.predictor import ModelPredictor, Predictor, predictor_of
from charjax.predict.sampling import sample, stream
from charjax.predict.scoring import Score, next_chars, score

__all__ = [
    "AdaptiveNGram",
    "Ensemble",
    "Mixture",
    "ModelPredictor",
    "NGram",
    "Predictor",
    "Score",
    "evaluate",
    "next_chars",
    "predictor_of",
    "sample",
    "score",
    "stream",
]
