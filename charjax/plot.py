"""Figures of a report's data for papers and notebooks, drawn with matplotlib.

    pip install 'charjax[plot]'

Each function takes a section of `charjax.report.collect(run)` and returns a new
`matplotlib.figure.Figure`, apart from pyplot's.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from charjax.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

_MAX_BITS = 8.0  # characters of this surprise and more get the darkest colour


def losses(curves: dict[str, Any], *, width: float = 6.0) -> "Figure":
    """Returns a figure of training and validation loss; the best validation is marked.

    Args:
      curves: `Report.curves`.
      width: of the figure, in inches.

    Raises:
      ConfigError: matplotlib is not installed.

    Example:
      >>> from charjax import plot, report
      >>> figure = plot.losses(report.collect("cv/run").curves)  # doctest: +SKIP
      >>> figure.savefig("losses.pdf")  # doctest: +SKIP
    """
    figure = _figure(width, 0.6 * width)
    axes = figure.subplots()
    axes.plot(curves["train"]["epoch"], curves["train"]["loss"], label="training", lw=1)
    epochs, val = curves["val"]["epoch"], curves["val"]["loss"]
    if val and curves["of"] == "val":
        axes.plot(epochs, val, ".-", label="validation")
        best = min(range(len(val)), key=val.__getitem__)
        axes.plot(epochs[best], val[best], "o", ms=9, mfc="none", mec="black")
        axes.annotate(
            f"{val[best]:.4f}", (epochs[best], val[best]), (0, 9),
            textcoords="offset points", ha="right",
        )  # fmt: skip
    if ngram := curves.get("ngram"):
        label = f"{ngram['order']}-gram"
        axes.axhline(ngram["loss"], color="gray", ls="--", lw=1, label=label)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats a character")
    axes.legend(frameon=False)
    return figure


def coloured_text(
    characters: Sequence[str],
    log_probs: Sequence[float | None],
    *,
    columns: int = 80,
    width: float = 8.0,
) -> "Figure":
    """Returns a figure of a text; an unlikely character has a dark background.

    Args:
      characters: one string each, such as a passage of `Report.heldout`.
      log_probs: natural log-probability of each; None leaves the background white.
      columns: characters in a line; longer lines are wrapped.
      width: of the figure, in inches.

    Raises:
      ConfigError: matplotlib is not installed.

    Example:
      >>> from charjax import plot, report
      >>> passage = report.collect("cv/run").heldout["passages"][0]  # doctest: +SKIP
      >>> plot.coloured_text(
      ...     passage["characters"], passage["log_probs"]
      ... )  # doctest: +SKIP
    """
    places, row, column = [], 0, 0
    for character in characters:
        if column == columns:
            row, column = row + 1, 0
        places.append((row, column))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    rows = row + 1
    cell = width / columns
    figure = _figure(width, 2.0 * cell * rows, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    bits = np.full((rows, columns), np.nan)
    for character, log_prob, place in zip(characters, log_probs, places, strict=True):
        if log_prob is not None:
            bits[place] = min(-log_prob / math.log(2), _MAX_BITS)
        if character.isprintable():
            row, column = place
            axes.text(
                column + 0.5, row + 0.55, character, family="monospace",
                size=104 * cell, ha="center", va="center", parse_math=False,
            )  # fmt: skip
    axes.imshow(
        bits, cmap="Oranges", vmin=0, vmax=_MAX_BITS / 0.7, aspect="auto",
        extent=(0, columns, rows, 0), interpolation="none",
    )  # fmt: skip
    return figure


def saturation(saturation: dict[str, Any], *, width: float = 8.0) -> "Figure":
    """Returns a figure of gate saturation: a plot for each gate, a dot for each unit.

    After figure 3 of Karpathy, Johnson and Fei-Fei (2015),
    https://arxiv.org/abs/1506.02078.

    Args:
      saturation: `Report.saturation`.
      width: of the figure, in inches.

    Raises:
      ConfigError: the section is missing, or matplotlib is not installed.

    Example:
      >>> from charjax import plot, report
      >>> plot.saturation(report.collect("cv/run").saturation)  # doctest: +SKIP
    """
    if "missing" in saturation:
        raise ConfigError(
            f"saturation must have gates to plot; got none. {saturation['missing']}"
        )
    layers = saturation["layers"]
    gates = list(dict.fromkeys(gate for layer in layers for gate in layer))
    figure = _figure(width, 1.15 * width / len(gates))
    for axes, gate in zip(
        figure.subplots(1, len(gates), squeeze=False)[0], gates, strict=True
    ):
        for number, layer in enumerate(layers, start=1):
            found = layer[gate]
            axes.plot(
                found["low"], found["high"], ".", alpha=0.6, label=f"layer {number}"
            )
        axes.plot([0, 1], [1, 0], color="lightgray", lw=1, zorder=0)
        axes.set(title=f"{gate} gate", xlabel="share shut", xlim=(-0.03, 1.03))
        axes.set(ylim=(-0.03, 1.03), aspect="equal")
    figure.axes[0].set_ylabel("share open")
    figure.axes[-1].legend(frameon=False)
    return figure


def _figure(width: float, height: float, layout: Any = "constrained") -> "Figure":
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            "matplotlib must be installed for charjax.plot. Try pip install "
            "'charjax[plot]'."
        ) from None
    return Figure(figsize=(width, height), layout=layout)
