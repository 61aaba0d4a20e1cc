"""Answers are right where greedy sampling writes them, character by character."""

import re

import numpy as np
import pytest

import charjax
from charjax.predict.answers import answers
from charjax.text.made_up import held_out_examples
from charjax.text.tasks import END, TASKS

DATA = {"name": "addition", "digits": 3, "nesting": 1}


class Adder:
    """Writes sums, of which it gets those wrong that have a 7 in the question.

    There the last digit is one too many, or 0 in place of 10.
    """

    vocab = TASKS["addition"].vocab

    def start(self, batch_size):
        return [""] * batch_size

    def read(self, texts, ids_TxB):
        probabilities = np.full((*ids_TxB.shape, len(self.vocab)), 1e-6)
        for t, ids_B in enumerate(ids_TxB):
            texts = [
                text + self.vocab.decode([i])
                for text, i in zip(texts, ids_B, strict=True)
            ]
            for b, text in enumerate(texts):
                probabilities[t, b, self.vocab.encode(self.next(text))[0]] = 1.0
        return texts, np.log(probabilities)

    def next(self, text):
        if not (match := re.match(r"(\d+)\+(\d+)=(\d*)$", text)):
            return END
        a, b, begun = match.groups()
        answer = str(int(a) + int(b))
        if "7" in a + b:
            answer = answer[:-1] + str((int(answer[-1]) + 1) % 10)
        return (answer + END)[len(begun)] if len(begun) <= len(answer) else END


@pytest.fixture(scope="module")
def examples():
    return [example for level in held_out_examples(DATA, 60) for example in level]


def test_right_answers_are_those_that_greedy_sampling_writes(examples):
    found = answers(Adder(), examples)
    assert len(found.hits_N) == len(examples) > 128  # more than one batch
    assert 0.1 < found.right_N.mean() < 0.9
    for n in range(0, len(examples), 5):
        question, answer, *_ = examples[n]
        text = charjax.sample(Adder(), question, greedy=True, stop=END, length=8)
        assert found.right_N[n] == (text == question + answer)


def test_characters_are_counted_to_the_end_of_the_answer(examples):
    found = answers(Adder(), examples)
    for (question, answer, *_), hits, length in zip(examples, *found, strict=True):
        assert length == len(answer)
        assert hits == len(answer) - ("7" in question)
