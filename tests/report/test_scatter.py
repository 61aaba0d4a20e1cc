"""Scatters: what a field explains, which runs no other beats, the law of a front."""

import itertools

import numpy as np
import pytest

from charjax.report.comparison import Comparison
from charjax.report.scatter import pareto, scatters, share_explained


def run(loss, *, parameters=100, seconds=60.0, **values):
    fields = {name.replace("__", "."): value for name, value in values.items()}
    return {"name": str(loss), "best_loss": loss, "parameters": parameters,
            "seconds": seconds, "values": fields}  # fmt: skip


def test_a_field_that_sets_the_order_explains_it_and_noise_does_not():
    random = np.random.default_rng(0)
    values = random.permutation(np.repeat(np.arange(4.0), 60))
    assert share_explained(values, values**2) == pytest.approx(1, abs=0.1)
    assert share_explained(values, random.normal(size=240)) < 0.05
    # A valley in a range: no correlation, but thirds show it.
    rates = random.uniform(-1, 1, size=240)
    assert abs(np.corrcoef(rates, rates**2)[0, 1]) < 0.1
    assert share_explained(rates, rates**2) > 0.5


def test_words_are_groups_whatever_their_order():
    values = [0, 1, 2, 3, 4, 5] * 2
    losses = [[1.0, 6.0, 2.0, 5.0, 3.0, 4.0][value] for value in values]
    assert share_explained(values, losses, are_numbers=False) > 0.9


def test_what_a_field_explains_is_the_ranks_variance_between_groups_by_hand():
    values, losses = [0, 0, 0, 1, 1, 1], [1.0, 2.0, 4.0, 3.0, 5.0, 6.0]
    within = np.var([0, 1, 3]) * 3 + np.var([2, 4, 5]) * 3
    expected = 1 - 5 / 4 * within / (np.var(range(6)) * 6)
    assert share_explained(values, losses) == pytest.approx(expected)
    assert share_explained([0, 1], [1.0, 2.0]) is None


def test_the_front_holds_the_runs_that_no_other_beats():
    random = np.random.default_rng(1)
    points = [(float(random.integers(9)), random.normal()) for _ in range(50)]
    beaten = {
        one for one, other in itertools.permutations(points, 2)
        if other[0] <= one[0] and other[1] <= one[1]
    }  # fmt: skip
    front = pareto([x for x, _ in points], [y for _, y in points])
    assert [tuple(point) for point in front] == sorted(set(points) - beaten)


def test_the_power_law_of_exact_points_is_found():
    runs = [run(3 * n**-0.1, parameters=n) for n in (10, 1000, 100_000)]
    chart = scatters(Comparison(runs, [], []))[0]
    assert chart["note"] == "the front is near 3 · N^-0.100"
    assert chart["log"]
    np.testing.assert_allclose(chart["fit"], chart["front"])


def test_words_get_places_and_runs_without_a_loss_are_left_out():
    runs = [run(1.0, model__cell="lstm"), run(None, model__cell="rnn"),
            run(2.0, model__cell="gru", seconds=120.0)]  # fmt: skip
    field, minutes = scatters(Comparison(runs, ["model.cell"], []))
    assert (field["labels"], field["x"], field["run"]) == (
        ["gru", "lstm"],
        [1, 0],
        [0, 2],
    )
    assert (minutes["x"], minutes["front"]) == ([1, 2], [[1, 1.0]])
    assert scatters(Comparison([], [], [])) == []
    assert (
        scatters(Comparison([run(None, model__cell="rnn")], ["model.cell"], [])) == []
    )
