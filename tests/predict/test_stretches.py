"""Standard errors over stretches of text, and the passages where predictors differ."""

import numpy as np
import pytest

from charjax.predict.stretches import passages, standard_error

RNG = np.random.default_rng(0)


def test_the_error_of_correlated_values_is_that_of_means_of_texts_like_it():
    def text():  # whose level changes slowly
        levels = np.repeat(RNG.normal(size=400), 100)
        return levels + RNG.normal(size=len(levels))

    texts = [text() for _ in range(300)]
    errors = [standard_error(values) for values in texts]
    assert np.mean(errors) == pytest.approx(np.std([t.mean() for t in texts]), rel=0.15)
    naive = np.std(texts[0]) / np.sqrt(len(texts[0]))
    assert min(errors) > 2 * naive


def test_a_short_text_has_no_error():
    assert standard_error(np.zeros(1999)) is None
    assert standard_error(np.zeros(2000)) == 0


def test_passages_are_the_largest_sums_and_do_not_overlap():
    differences = RNG.normal(size=300)
    found = passages(differences, length=10, count=5)
    taken = np.zeros(300, bool)
    for passage in found:
        part = slice(passage.start, passage.end)
        free = [
            differences[i : i + 10].sum()
            for i in range(291)
            if not taken[i : i + 10].any()
        ]
        assert differences[part].sum() == pytest.approx(max(free))
        assert passage.difference == pytest.approx(max(free))
        taken[part] = True


def test_where_nothing_differs_there_is_no_passage():
    assert passages(np.zeros(100)) == []
    assert passages(-np.ones(5), length=10) == []
