"""Runs of a comparison as points: their loss by each field, by size and by time."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from charjax.report.comparison import Comparison

_LOG_RATIO = 20  # of positive values, from which on an axis is drawn by ratios
_FEW = 4  # different numbers that are a group each; more of them make thirds


def scatters(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns charts of the runs' losses, as `page.js` draws them.

    One for each field that differs, and those of parameters and minutes, with the runs
    of which none is both smaller and better.
    """
    runs = [run for run in comparison.runs if run["best_loss"] is not None]
    if not runs:
        return []
    losses = [run["best_loss"] for run in runs]
    fields = {f: [run["values"][f] for run in runs] for f in comparison.fields}
    charts = [_of_field(field, values, losses) for field, values in fields.items()]
    sizes = [run["parameters"] for run in runs]
    if len(set(sizes)) > 1:
        front = pareto(sizes, losses)
        charts.append(_of_numbers("parameters", sizes) | _fitted(front))
    minutes = [run["seconds"] / 60 for run in runs]
    if len(runs) > 1 and min(minutes) > 0:
        front = pareto(minutes, losses)
        charts.append(_of_numbers("minutes", minutes) | {"front": front})
    return [
        chart | {"loss": losses, "run": [comparison.runs.index(run) for run in runs]}
        for chart in charts
        if len(set(chart["x"])) > 1
    ]


def _of_field(name: str, values: list[Any], losses: list[float]) -> dict[str, Any]:
    are_numbers = all(type(value) in (int, float) for value in values)
    if are_numbers:
        chart = _of_numbers(name, values)
    else:
        labels = sorted({str(value) for value in values})
        chart = {
            "name": name,
            "x": [labels.index(str(value)) for value in values],
            "labels": labels,
        }
    share = share_explained(chart["x"], losses, are_numbers=are_numbers)
    note = "" if share is None else f"explains {share:.0%} of the order of the runs"
    return chart | {"note": note}


def _of_numbers(name: str, values: Sequence[float]) -> dict[str, Any]:
    by_ratio = min(values) > 0 and max(values) / min(values) >= _LOG_RATIO
    return {"name": name, "x": list(values), "log": by_ratio}


def share_explained(
    values: Sequence[float], losses: Sequence[float], *, are_numbers: bool = True
) -> float | None:
    r"""Returns how much of the order of the runs by loss follows from a field's values.

        1 - (n - 1) / (n - k) * (within) / (total)

    with the sums of squares of ranks within the k groups of equal values (thirds, where
    there are many numbers) and in all n runs: about 0 where the field does not matter.

    Args:
      values: the field's, of each run.
      losses: of each run.
      are_numbers: whether values near each other are alike.

    Returns:
      At least 0; None where the runs are too few to tell.

    Example:
      >>> share_explained([0, 0, 1, 1, 2, 2], [3, 3.1, 1, 1.1, 2, 2.1])
      0.857...
    """
    ranks = np.argsort(np.argsort(losses)).astype(float)
    distinct = sorted(set(values))
    cuts = distinct
    if are_numbers and len(distinct) > _FEW:
        cuts = list(np.quantile(values, [0, 1 / 3, 2 / 3]))
    groups: dict[int, list[float]] = defaultdict(list)
    for value, rank in zip(values, ranks, strict=True):
        groups[sum(value >= cut for cut in cuts)].append(rank)
    n, k = len(ranks), len(groups)
    if k < 2 or n < 2 * k:
        return None
    within = sum(np.var(group) * len(group) for group in groups.values())
    return float(max(0.0, 1 - (n - 1) / (n - k) * within / (np.var(ranks) * n)))


def pareto(values: Sequence[float], losses: Sequence[float]) -> list[list[float]]:
    """Returns value and loss of the runs of which no other is smaller and better.

    >>> pareto([3, 1, 2, 2], [1.0, 3.0, 3.5, 2.0])
    [[1, 3.0], [2, 2.0], [3, 1.0]]
    """
    front: list[list[float]] = []
    for value, loss in sorted(zip(values, losses, strict=True)):
        if not front or loss < front[-1][1]:
            front.append([value, loss])
    return front


def _fitted(front: list[list[float]]) -> dict[str, Any]:
    """Returns a front and, where it has three runs, the power law through them."""
    if len(front) < 3:
        return {"front": front}
    x, y = np.log(np.array(front)).T
    slope, start = np.polyfit(x, y, 1)
    fit = [[value, math.exp(start) * value**slope] for value, _ in front]
    return {
        "front": front,
        "fit": fit,
        "note": f"the front is near {math.exp(start):.3g} · N^{slope:.3f}",
    }
