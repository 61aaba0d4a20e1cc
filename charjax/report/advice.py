"""Rules of thumb on what to try next, applied to the numbers of a run."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

Curve = Sequence[tuple[float, float]]

_TRUSTED = 0.05  # nats; a larger uncertainty of the validation loss is reported

# Learning rates commonly used for recurrent models, by optimizer.
_USUAL_RATES = {
    "muon": (1e-3, 0.3),
    "adamw": (1e-4, 3e-2),
    "adam": (1e-4, 3e-2),
    "rmsprop": (1e-4, 1e-2),
    "sgd": (1e-2, 10.0),
}


class Facts(NamedTuple):
    """The numbers of a run that the rules use; losses are in nats a character.

    Attributes:
      train: (epoch, training loss), in order.
      val: (epoch, validation loss), in order; empty without a validation split.
      parameters: weights of the model.
      train_characters: characters of the training split; None if unknown.
      val_characters: characters of the validation split; None if unknown.
      val_error: standard error of the validation loss; None if unknown, or if the split
        is too short to estimate it.
      grad_norms: norms of the gradient of the mean loss, before clipping.
      clip_norm: the norm at which gradients are clipped; None without clipping, or with
        clipping of single values.
      optimizer: its name in the configuration.
      learning_rate: the highest of the schedule.
      dropout: share of units dropped in training.
      hidden_size: units in a layer.
      vocab_size: size of the vocabulary.
      ngram: loss of an n-gram model on the same split; None if not measured.
      max_steps: the limit of steps, where that ended the run; 0 elsewhere.
    """

    train: Curve
    val: Curve
    parameters: int
    train_characters: int | None
    val_characters: int | None
    val_error: float | None
    grad_norms: Sequence[float]
    clip_norm: float | None
    optimizer: str
    learning_rate: float
    dropout: float
    hidden_size: int
    vocab_size: int
    ngram: float | None
    max_steps: int = 0


class Advice(NamedTuple):
    """What one rule says about a run.

    Attributes:
      rule: the rule's name.
      level: `'try'` if the rule suggests a change, else `'fine'`.
      text: the suggestion or finding, with its numbers.
    """

    rule: str
    level: Literal["try", "fine"]
    text: str


def advise(facts: Facts) -> list[Advice]:
    """Returns what each rule says, suggestions first.

    A rule whose facts are missing is left out. Those on fit and size follow char-rnn
    (https://github.com/karpathy/char-rnn#tips-and-tricks).

    Example:
      >>> facts = Facts(train=[(1, 1.2), (2, 0.9)], val=[(1, 1.5), (2, 1.6)],
      ...               parameters=10_000, train_characters=90_000,
      ...               val_characters=9_000, val_error=0.001, grad_norms=[0.2],
      ...               clip_norm=1.0, optimizer="adam", learning_rate=2e-3,
      ...               dropout=0.0, hidden_size=64, vocab_size=60, ngram=None)
      >>> [advice.rule for advice in advise(facts) if advice.level == "try"]
      ['fit']
    """
    verdicts = [rule(facts) for rule in RULES]
    return sorted((v for v in verdicts if v), key=lambda v: v.level == "fine")


def fit(facts: Facts) -> Advice | None:
    """Compares training and validation loss at the end of the run."""
    if not facts.train or not facts.val:
        return None
    last, train = facts.val[-1][1], _final_loss(facts.train)
    best_epoch, best = min(facts.val, key=lambda point: point[1])
    more_dropout = min(round(facts.dropout + 0.2, 2), 0.7)
    remedy = "Try a smaller model."
    if more_dropout > facts.dropout:
        remedy = (
            f"Try more dropout (model.dropout={more_dropout:g}) or a smaller model."
        )
    pair = f"training loss {train:.3f}, validation loss {last:.3f}"
    if last < 0.01:
        text = f"{pair}: almost nothing is left to learn.".capitalize()
        return Advice("fit", "fine", text)
    # Errors of two losses on the same split are correlated, so half a standard error is
    # enough for a difference between them.
    if train < best and last - best > max(0.01 * best, 0.5 * (facts.val_error or 0)):
        return Advice(
            "fit",
            "try",
            f"Overfitting: the validation loss was {best:.3f} at epoch "
            f"{best_epoch:.2f} and rose to {last:.3f} after that, while the training "
            f"loss fell to {train:.3f}. {remedy} Or set train.patience, which stops a "
            "run when the validation loss no longer falls.",
        )
    gap = (last - train) / last
    if gap > 0.1:
        text = f"Overfitting: {pair}, a gap of {gap:.0%}. {remedy}"
        return Advice("fit", "try", text)
    if gap < 0.03:
        first = "less dropout first, then " if facts.dropout else ""
        how = "about equal" if gap > -0.03 else "which is lower"
        note = " The training loss is measured with dropout, which raises it."
        return Advice(
            "fit",
            "try",
            f"Underfitting: {pair}, {how}. Try {first}a larger model "
            f"(model.hidden_size={2 * facts.hidden_size}, or one more layer)."
            + (note if facts.dropout else ""),
        )
    return Advice("fit", "fine", f"{pair}, a gap of {gap:.0%}.".capitalize())


def size(facts: Facts) -> Advice | None:
    """Compares the number of parameters with the characters of training text."""
    if not facts.train_characters:
        return None
    ratio = facts.parameters / facts.train_characters
    pair = (
        f"{facts.parameters:,} parameters for {facts.train_characters:,} "
        "characters of training text"
    )
    if ratio > 10:
        text = (
            f"{pair}, {ratio:,.0f} parameters a character: the model can memorise the "
            "text. Watch the gap between the losses. Try dropout, or more text."
        )
    elif ratio < 0.1:
        text = (
            f"{pair}, {1 / ratio:,.0f} characters a parameter: the text is long enough "
            "for a larger model. Try one with about as many parameters as characters."
        )
    else:
        return Advice("size", "fine", f"{pair}: the same order of magnitude.")
    return Advice("size", "try", text)


def uncertainty(facts: Facts) -> Advice | None:
    """Checks how uncertain the validation loss is."""
    if not facts.val or facts.val_characters is None:
        return None
    if facts.val_error is None:
        return Advice(
            "uncertainty",
            "try",
            f"The validation split of {facts.val_characters:,} characters is too short "
            "to estimate the error of its loss. Try a larger data.val_frac.",
        )
    loss, within = facts.val[-1][1], 2 * facts.val_error
    text = (
        f"The validation loss {loss:.3f} has an uncertainty of ±{within:.3f} (two "
        f"standard errors, {facts.val_characters:,} characters)"
    )
    if within <= _TRUSTED:
        return Advice("uncertainty", "fine", f"{text}.")
    # The error falls with the square root of the number of characters.
    needed = float(f"{facts.val_characters * (within / _TRUSTED) ** 2:.2g}")
    return Advice(
        "uncertainty",
        "try",
        f"{text}: on similar text the loss may differ by that much. Compare models on "
        "the same split only, where chance matters less. Try a larger data.val_frac: "
        f"±{_TRUSTED} needs about {needed:,.0f} characters.",
    )


def length(facts: Facts) -> Advice | None:
    """Checks whether the loss was still falling when the run ended."""
    curve = facts.val if len(facts.val) >= 3 else facts.train
    name = "validation" if curve is facts.val else "training"
    if len(curve) < 3:
        return None
    end, last = curve[-1]
    epoch, before = min(curve[:-1], key=lambda point: abs(point[0] - 0.8 * end))
    best = min(loss for _, loss in curve)
    fall = (before - last) / before if before else 0.0
    text = f"The {name} loss went from {before:.3f} at epoch {epoch:.2f} to {last:.3f}"
    if last > 1.002 * best or fall < 0.01:
        return Advice("length", "fine", f"{text} at the end, epoch {end:.2f}.")
    text += f" at the end, epoch {end:.2f}, {fall:.1%} less, and was still falling"
    longer = f"train.max_epochs={max(2 * math.ceil(end), 2)}"
    if facts.max_steps:
        longer = f"train.max_steps={2 * facts.max_steps}"
    return Advice("length", "try", f"{text}. Try training longer ({longer}).")


def clipping(facts: Facts) -> Advice | None:
    """Checks how often the gradient was clipped."""
    if facts.clip_norm is None or not facts.grad_norms:
        return None
    norms = np.asarray(facts.grad_norms)
    share, median = float(np.mean(norms > facts.clip_norm)), float(np.median(norms))
    text = (
        f"The gradient was clipped at norm {facts.clip_norm:g} in {share:.0%} of the "
        f"recorded steps; its median norm is {median:.2g}"
    )
    if share <= 0.5:
        return Advice("clipping", "fine", f"{text}.")
    return Advice(
        "clipping",
        "try",
        f"{text}: clipping, not the learning rate, sets the size of most steps. Try a "
        "larger optimizer.grad_clip, or a smaller optimizer.learning_rate.",
    )


def learning_rate(facts: Facts) -> Advice | None:
    """Looks for signs of a learning rate that is too high or too low."""
    if not facts.train:
        return None
    losses = np.array([loss for _, loss in facts.train])
    spikes = sum(
        losses[i] > 1.15 * np.median(losses[i - 10 : i]) for i in range(10, len(losses))
    )
    rate, uniform = facts.learning_rate, math.log(facts.vocab_size)
    low, high = _USUAL_RATES.get(facts.optimizer, (0.0, math.inf))
    if spikes >= 2:
        text = (
            f"The training loss jumped by more than 15% {spikes} times at a learning "
            f"rate of {rate:g}. Try a lower optimizer.learning_rate, or more "
            "optimizer.warmup_steps."
        )
    elif facts.vocab_size > 1 and _final_loss(facts.train) > 0.9 * uniform:
        text = (
            f"The training loss ended at {_final_loss(facts.train):.3f}, near the "
            f"{uniform:.3f} of uniform guesses: nothing was learned at a learning "
            f"rate of {rate:g}. Try one ten times lower, then one ten times higher."
        )
    elif not low <= rate <= high:
        text = (
            f"A learning rate of {rate:g} is unusual for {facts.optimizer}; most are "
            f"between {low:g} and {high:g}. Try one in that range."
        )
    else:
        text = f"The training loss has no jumps at a learning rate of {rate:g}."
        return Advice("learning rate", "fine", text)
    return Advice("learning rate", "try", text)


def ngram(facts: Facts) -> Advice | None:
    """Compares the model with an n-gram model."""
    if facts.ngram is None or not facts.val:
        return None
    best = min(loss for _, loss in facts.val)
    pair = f"best validation loss {best:.3f}, n-gram model {facts.ngram:.3f}"
    if best < facts.ngram:
        return Advice("n-gram", "fine", f"{pair}.".capitalize())
    how = "better" if facts.ngram < 0.995 * best else "as good"
    return Advice(
        "n-gram",
        "try",
        f"An n-gram model is {how}: {pair} on the same split. Try training longer, or "
        "a larger model.",
    )


RULES: tuple[Callable[[Facts], Advice | None], ...] = (
    fit,
    size,
    uncertainty,
    length,
    clipping,
    learning_rate,
    ngram,
)


def _final_loss(curve: Curve) -> float:
    """Returns the mean loss over the last tenth of the epochs."""
    end = curve[-1][0]
    return float(np.mean([loss for epoch, loss in curve if epoch >= 0.9 * end]))
