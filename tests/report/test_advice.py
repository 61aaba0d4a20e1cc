"""Each rule of advice: on a run that needs a change, and on one that does not."""

import math

import pytest

from charjax.report import Facts, advise
from charjax.report.advice import RULES


def epochs(losses):
    return [(epoch + 1.0, loss) for epoch, loss in enumerate(losses)]


SOUND = Facts(
    train=epochs([2.0, 1.5, 1.31, 1.30, 1.30]),
    val=epochs([2.1, 1.6, 1.403, 1.400, 1.399]),
    parameters=500_000,
    train_characters=1_000_000,
    val_characters=100_000,
    val_error=0.004,
    grad_norms=[0.3, 0.4, 1.2, 0.2],
    clip_norm=1.0,
    optimizer="adamw",
    learning_rate=2e-3,
    dropout=0.0,
    hidden_size=128,
    vocab_size=65,
    ngram=1.5,
)


def changes(facts):
    return {a.rule: a.text for a in advise(facts) if a.level == "try"}


def test_no_rule_suggests_a_change_for_a_sound_run():
    assert changes(SOUND) == {}
    assert len(advise(SOUND)) == len(RULES)


@pytest.mark.parametrize(("rule", "fields", "words"), [
    ("fit", {"train": epochs([2.0, 1.0, 0.5, 0.4, 0.4])},
     ["Overfitting", "0.400", "1.399", "model.dropout=0.2"]),
    ("fit", {"val": epochs([2.1, 1.6, 1.35, 1.40, 1.45])},
     ["Overfitting", "1.350 at epoch 3.00", "1.450"]),
    ("fit", {"train": epochs([2.0, 1.5, 1.41, 1.39, 1.39])},
     ["Underfitting", "model.hidden_size=256"]),
    ("size", {"parameters": 20_000_000}, ["20 parameters a character"]),
    ("size", {"parameters": 10_000}, ["100 characters a parameter"]),
    # Two errors of 0.05 are twice 0.05: four times the characters.
    ("uncertainty", {"val_error": 0.05}, ["±0.100", "400,000"]),
    ("fit", {"train": epochs([2.0, 1.8, 1.7, 1.7, 1.7]), "dropout": 0.5},
     ["Underfitting", "which is lower", "less dropout"]),
    ("fit", {"train": epochs([2.0, 1.0, 0.5, 0.4, 0.4]), "dropout": 0.8},
     ["Overfitting", "%. Try a smaller model."]),
    ("uncertainty", {"val_error": None, "val_characters": 40},
     ["40 characters is too"]),
    ("length", {"val": epochs([2.1, 1.6, 1.55, 1.5, 1.43]),
                "train": epochs([2.1, 1.5, 1.45, 1.4, 1.35])},
     ["1.500 at epoch 4.00", "1.430", "train.max_epochs=10"]),
    ("length", {"val": epochs([2.0, 1.7, 1.55, 1.5, 1.43]), "max_steps": 300},
     ["train.max_steps=600"]),
    ("clipping", {"grad_norms": [2.0, 3.0, 0.5]}, ["67%", "norm 1"]),
    ("learning rate", {"learning_rate": 0.5}, ["0.5 is unusual for adamw"]),
    ("learning rate", {"train": epochs([1.3] * 12 + [2.0, 1.3, 2.1] + [1.3] * 9)},
     ["15% 2 times"]),
    ("n-gram", {"ngram": 1.2}, ["An n-gram model is better", "1.399", "1.200"]),
])  # fmt: skip
def test_a_rule_asks_for_a_change_with_its_numbers(rule, fields, words):
    found = changes(SOUND._replace(**fields))
    assert list(found) == [rule]
    for word in words:
        assert word in found[rule]


def test_a_loss_near_that_of_uniform_guesses_questions_the_learning_rate():
    flat = epochs([math.log(65)] * 5)
    found = changes(SOUND._replace(train=flat, val=flat, ngram=None))
    assert "nothing was learned" in found["learning rate"]


def test_a_run_without_records_gets_advice_on_size_only():
    nothing = SOUND._replace(
        train=[], val=[], val_error=None, grad_norms=[], ngram=None
    )
    assert [a.rule for a in advise(nothing)] == ["size"]
    assert advise(nothing._replace(train_characters=None)) == []


def test_a_rise_within_the_error_of_the_validation_loss_is_not_overfitting():
    risen = SOUND._replace(val=epochs([2.1, 1.6, 1.38, 1.40, 1.42]), val_error=0.1)
    assert "fit" not in changes(risen)


def test_a_memorised_text_is_not_underfitting():
    learned = epochs([2.0, 0.5, 0.0, 0.0, 0.0])
    facts = SOUND._replace(train=learned, val=learned, ngram=0.5)
    assert changes(facts) == {}
    assert "left to learn" in str(advise(facts))
