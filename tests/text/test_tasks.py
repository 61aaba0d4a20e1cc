"""Questions have the answers that Python gives them."""

import contextlib
import io
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax.text.tasks import TASKS


@settings(deadline=None)
@given(st.integers(), st.integers(1, 15), st.integers(1, 10), st.booleans())
def test_a_program_prints_its_answer(seed, digits, nesting, held_out):
    task = TASKS["programs"]
    example = task.draw(Random(seed), digits, nesting, held_out)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(example.question, {})
    assert printed.getvalue() == example.answer
    assert (example.digits, example.nesting) == (digits, nesting)
    text = example.question + example.answer
    assert len(text) <= task.longest(digits, nesting)
    task.vocab.encode(text)


@settings(deadline=None)
@given(st.integers(), st.integers(1, 15), st.booleans())
def test_a_sum_has_its_answer(seed, digits, held_out):
    task = TASKS["addition"]
    question, answer, *_ = task.draw(Random(seed), digits, 1, held_out)
    assert answer == f"{eval(question.rstrip('='))}\n"
    assert all(len(number) <= digits for number in question[:-1].split("+"))
    assert len(question + answer) <= task.longest(digits, 1)
    task.vocab.encode(question + answer)


def test_programs_have_every_operation_and_as_many_as_their_nesting():
    random = Random(0)
    draw = TASKS["programs"].draw
    programs = [draw(random, 2, 1, False).question for _ in range(200)]
    for words in ("+", "-", "*", " if ", "a=", "for x in range("):
        assert any(words in program for program in programs)
    lengths = [
        sum(len(draw(random, 2, nesting, False).question) for _ in range(200))
        for nesting in (1, 2, 4)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


@pytest.mark.parametrize("name", TASKS)
def test_no_question_is_both_held_out_and_trained_on(name):
    random, draw = Random(0), TASKS[name].draw
    asked = [
        {draw(random, 1, 1, held_out).question for _ in range(2000)}
        for held_out in (False, True)
    ]
    assert asked[0].isdisjoint(asked[1])
    if name == "addition":  # all of them
        assert len(asked[0]) + len(asked[1]) == 100
        assert 5 <= len(asked[1]) <= 20
