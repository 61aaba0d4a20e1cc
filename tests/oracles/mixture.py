"""Mixtures of predictors in plain numbers, by the equations of their papers."""

import math


def bayes(start, probs):
    """-log p of each character when one unknown predictor made the whole text.

    Args:
      start: how probable it is of each predictor that it made the text.
      probs: for each character what each predictor gave to it.
    """
    joint, losses = [math.log(w) for w in start], []
    for given in probs:
        before = log_sum(joint)
        joint = [w + math.log(p) for w, p in zip(joint, given, strict=True)]
        losses.append(before - log_sum(joint))
    return losses


def log_sum(logs):
    return max(logs) + math.log(math.fsum(math.exp(x - max(logs)) for x in logs))


def soft_bayes(start, probs, contexts, rate):
    """-log p of each character under Soft-Bayes (Orseau et al. 2017, eq. 5).

    Args:
      start: the weights at first.
      probs: for each character what each predictor gave to it.
      contexts: for each character what its weights depend on.
      rate: how fast they follow.
    """
    weights, losses = {}, []
    for given, context in zip(probs, contexts, strict=True):
        now = weights.get(context, start)
        p = sum(w * q for w, q in zip(now, given, strict=True))
        losses.append(-math.log(p))
        weights[context] = [
            w * (1 - rate + rate * q / p) for w, q in zip(now, given, strict=True)
        ]
    return losses
