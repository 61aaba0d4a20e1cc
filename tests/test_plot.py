"""Figures of a report's data, read back from matplotlib's own objects."""

import math
import sys

import numpy as np
import pytest

from charjax import ConfigError, plot


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'charjax\[plot\]'"):
        plot.losses({})


@pytest.fixture(autouse=True)
def matplotlib(request):
    if "without" not in request.node.name:
        pytest.importorskip("matplotlib")


def test_the_loss_figure_marks_the_best_validation():
    curves = {
        "train": {"epoch": [0.5, 1.0, 2.0], "loss": [3.0, 2.0, 1.5]},
        "val": {"epoch": [1.0, 2.0, 3.0], "loss": [2.1, 1.7, 1.9]},
        "of": "val",
        "ngram": {"order": 6, "loss": 1.8},
    }
    figure = plot.losses(curves)
    train, val, best, ngram = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_ydata(), [3.0, 2.0, 1.5])
    np.testing.assert_array_equal(val.get_ydata(), [2.1, 1.7, 1.9])
    assert (*best.get_xdata(), *best.get_ydata()) == (2.0, 1.7)
    assert set(ngram.get_ydata()) == {1.8}
    figure.canvas.draw()


def test_coloured_text_has_a_cell_of_its_bits_for_each_character():
    log_probs = [None, *(-math.log(2) * bits for bits in (1, 3, 20))]
    figure = plot.coloured_text("a\nbc", log_probs, columns=3)
    (image,) = figure.axes[0].images
    bits = image.get_array().filled(np.nan)
    np.testing.assert_allclose(bits, [[np.nan, 1, np.nan], [3, 8, np.nan]])
    assert [t.get_text() for t in figure.axes[0].texts] == ["a", "b", "c"]


def test_the_saturation_figure_has_a_dot_a_unit_and_a_plot_a_gate():
    layer = {"forget": {"low": [0.1, 0.2], "high": [0.3, 0.4]}}
    figure = plot.saturation({"layers": [layer, layer]})
    (axes,) = figure.axes
    assert axes.get_title() == "forget gate"
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0.1, 0.3], [0.2, 0.4]])
    with pytest.raises(ConfigError, match="no gates"):
        plot.saturation({"missing": "The cell 'rnn' names no gates."})
