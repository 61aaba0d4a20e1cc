"""What a practitioner would try next, from a run's numbers alone."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

Curve = Sequence[tuple[float, float]]

_TRUSTED = 0.05  # nats that a validation loss may be off

# Learning rates at which each optimiser is commonly run on recurrent models.
_USUAL_RATES = {
    "adamw": (1e-4, 3e-2),
    "adam": (1e-4, 3e-2),
    "rmsprop": (1e-4, 1e-2),
    "sgd": (1e-2, 10.0),
}


class Facts(NamedTuple):
    """The numbers of a run that advice rests on; losses are nats a character.

    Attributes:
      train: (epoch, training loss), in order.
      val: (epoch, validation loss), in order; empty without a validation split.
      parameters: weights of the model.
      train_characters: characters of the training split; None where not known.
      val_characters: characters of the validation split, likewise.
      val_error: standard error of the validation loss; None where it is not known, or
        the split too short to tell.
      grad_norms: norms of the gradient of the mean loss, before clipping.
      clip_norm: the norm at which they are clipped; None where they are not, or each
        value apart.
      optimizer: its name in the configuration.
      learning_rate: the highest of the schedule.
      dropout: share of units silenced in training.
      hidden_size: units a layer.
      vocab_size: characters to choose among.
      ngram: what an n-gram model loses on the same split; None where not measured.
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


class Advice(NamedTuple):
    """One rule's verdict.

    Attributes:
      rule: what was looked at.
      level: `'try'` where something should change, `'fine'` where not.
      text: the verdict with its numbers.
    """

    rule: str
    level: Literal["try", "fine"]
    text: str


def advise(facts: Facts) -> list[Advice]:
    """Returns the verdict of each rule that the facts suffice for, changes first.

    The rules on fit and size are those of char-rnn's author
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
    last, train = facts.val[-1][1], _tail(facts.train)
    best_epoch, best = min(facts.val, key=lambda point: point[1])
    more_dropout = min(round(facts.dropout + 0.2, 2), 0.7)
    mend = "try a smaller model"
    if more_dropout > facts.dropout:
        mend = f"try more dropout (model.dropout={more_dropout:g}) or a smaller model"
    pair = f"training loss {train:.3f}, validation loss {last:.3f}"
    if last < 0.01:
        text = f"{pair}: hardly anything is left to learn.".capitalize()
        return Advice("fit", "fine", text)
    # By chance two losses on one split differ less than either is off.
    if train < best and last - best > max(0.01 * best, 0.5 * (facts.val_error or 0)):
        return Advice(
            "fit",
            "try",
            f"Overfitting: the validation loss was {best:.3f} at epoch "
            f"{best_epoch:.2f} and has risen to {last:.3f}, while the training loss "
            f"fell to {train:.3f}; {mend}. train.patience ends a run at such a point.",
        )
    gap = (last - train) / last
    if gap > 0.1:
        return Advice(
            "fit",
            "try",
            f"Overfitting: {pair}, a gap of {gap:.0%}; {mend}.",
        )
    if gap < 0.03:
        first = "less dropout, then " if facts.dropout else ""
        how = "about equal" if gap > -0.03 else "which is the lower one"
        return Advice(
            "fit",
            "try",
            f"Underfitting: {pair}, {how}; try {first}a larger model "
            f"(model.hidden_size={2 * facts.hidden_size}, or one layer more)."
            + _dropout_note(facts),
        )
    return Advice("fit", "fine", f"{pair}, a gap of {gap:.0%}.".capitalize())


def size(facts: Facts) -> Advice | None:
    """Compares the number of parameters with the characters that train them."""
    if not facts.train_characters:
        return None
    ratio = facts.parameters / facts.train_characters
    pair = (
        f"{facts.parameters:,} parameters for {facts.train_characters:,} "
        "characters of training text"
    )
    if ratio > 10:
        text = (
            f"{pair}, {ratio:,.0f} parameters a character: it can learn the text by "
            "heart; watch the gap between the losses, use dropout, or more text."
        )
    elif ratio < 0.1:
        text = (
            f"{pair}, {1 / ratio:,.0f} characters a parameter: the text has room for "
            "a larger model; the two are best of the same order of magnitude."
        )
    else:
        return Advice("size", "fine", f"{pair}: the same order of magnitude.")
    return Advice("size", "try", text)


def trust(facts: Facts) -> Advice | None:
    """Asks how far the validation loss may be off on other text."""
    if not facts.val or facts.val_characters is None:
        return None
    if facts.val_error is None:
        return Advice(
            "trust",
            "try",
            f"The validation split of {facts.val_characters:,} characters is too short "
            "to tell how far its loss is off; a larger data.val_frac helps.",
        )
    loss, within = facts.val[-1][1], 2 * facts.val_error
    text = (
        f"The validation loss {loss:.3f} is known to ±{within:.3f} (two standard "
        f"errors, {facts.val_characters:,} characters)"
    )
    if within <= _TRUSTED:
        return Advice("trust", "fine", f"{text}.")
    needed = round(facts.val_characters * (within / _TRUSTED) ** 2)
    return Advice(
        "trust",
        "try",
        f"{text}: on other text like it the loss may be so much higher or lower. "
        "Compare models on this very split only, where they differ less by chance. A "
        f"larger data.val_frac helps; ±{_TRUSTED} takes about {needed:,} characters.",
    )


def length(facts: Facts) -> Advice | None:
    """Asks whether the loss was still falling when the run ended."""
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
    return Advice(
        "length",
        "try",
        f"{text} at the end, epoch {end:.2f}, {fall:.1%} less, and was still falling: "
        f"train longer (train.max_epochs={max(2 * math.ceil(end), 2)}).",
    )


def clipping(facts: Facts) -> Advice | None:
    """Asks how often the gradient was clipped."""
    if facts.clip_norm is None or not facts.grad_norms:
        return None
    norms = np.asarray(facts.grad_norms)
    share, median = float(np.mean(norms > facts.clip_norm)), float(np.median(norms))
    text = (
        f"The gradient was clipped at norm {facts.clip_norm:g} in {share:.0%} of the "
        f"steps looked at; its median norm is {median:.2g}"
    )
    if share <= 0.5:
        return Advice("clipping", "fine", f"{text}.")
    return Advice(
        "clipping",
        "try",
        f"{text}: clipping, not the learning rate, sets the step's length; raise "
        "optimizer.grad_clip, or lower optimizer.learning_rate.",
    )


def learning_rate(facts: Facts) -> Advice | None:
    """Looks for the marks of a learning rate that is too high or too low."""
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
            f"rate of {rate:g}: lower optimizer.learning_rate, or a longer "
            "optimizer.warmup_steps."
        )
    elif facts.vocab_size > 1 and _tail(facts.train) > 0.9 * uniform:
        text = (
            f"The training loss ended at {_tail(facts.train):.3f}, near the "
            f"{uniform:.3f} of guessing evenly: nothing was learned at a learning "
            f"rate of {rate:g}; try ten times lower, then ten times higher."
        )
    elif not low <= rate <= high:
        text = (
            f"A learning rate of {rate:g} is unusual for {facts.optimizer}, which "
            f"mostly runs at {low:g} to {high:g}; try one in that range."
        )
    else:
        text = f"A learning rate of {rate:g} left no jumps in the training loss."
        return Advice("learning rate", "fine", text)
    return Advice("learning rate", "try", text)


def counting(facts: Facts) -> Advice | None:
    """Compares the model with one that counts what followed the last characters."""
    if facts.ngram is None or not facts.val:
        return None
    best = min(loss for _, loss in facts.val)
    pair = f"best validation loss {best:.3f}, n-gram model {facts.ngram:.3f}"
    if best < facts.ngram:
        return Advice("counting", "fine", f"{pair}.".capitalize())
    how = "better" if facts.ngram < 0.995 * best else "as well"
    return Advice(
        "counting",
        "try",
        f"Counting does {how}: {pair} on the same split; train longer or a larger "
        "model.",
    )


RULES: tuple[Callable[[Facts], Advice | None], ...] = (
    fit,
    size,
    trust,
    length,
    clipping,
    learning_rate,
    counting,
)


def _tail(curve: Curve) -> float:
    """Returns the mean over the last tenth of the epochs."""
    end = curve[-1][0]
    return float(np.mean([loss for epoch, loss in curve if epoch >= 0.9 * end]))


def _dropout_note(facts: Facts) -> str:
    if not facts.dropout:
        return ""
    return " The training loss is measured with units dropped, which raises it."
