"""The data of a report's charts and texts, packed small for `page.js`."""

import base64

import numpy as np

from charjax.report.collect import Report
from charjax.report.markup import visible
from charjax.report.read import Section


def packed(report: Report) -> Section:
    """Returns what `page.js` draws of a report; None for a section that is missing."""
    return {
        "curves": report.curves,
        "best": [report.run["best_epoch"], report.run["best_loss"]],
        "heldout": _passages(report.heldout),
        "cells": _activations(report.cells),
        "saturation": report.saturation,
    }


def _passages(heldout: Section) -> Section | None:
    """Returns passages with integers: nats in hundredths, probabilities in thousandths.

    They take half the room of decimals.
    """
    if "missing" in heldout:
        return None
    return {
        "passages": [
            {
                "characters": [visible(c) for c in p["characters"]],
                "nats": [
                    None if x is None else round(-100 * x) for x in p["log_probs"]
                ],
                "guesses": [
                    [[visible(c), round(1000 * q)] for c, q in guesses]
                    for guesses in p["guesses"]
                ],
            }
            for p in heldout["passages"]
        ]
    }


def _activations(cells: Section) -> Section | None:
    """Returns activations as base64 of int8, each unit divided by its largest."""
    if "missing" in cells:
        return None
    values_TxU = cells["values_TxU"]
    scale_U = np.abs(values_TxU).max(axis=0)
    safe_U = np.where(scale_U > 0, scale_U, 1)
    bytes_UxT = np.round(values_TxU / safe_U * 127).astype(np.int8).T
    return {
        "characters": [visible(c) for c in cells["characters"]],
        "units": [[u["layer"], u["index"], u["state"]] for u in cells["units"]],
        "scale": [float(f"{scale:.4g}") for scale in scale_U],
        "telling": [
            [t["predicate"], t["layer"], t["index"], t["state"], t["score"], t["sign"]]
            for t in cells["telling"]
        ],
        "values": base64.b64encode(bytes_UxT.tobytes()).decode(),
    }
