"""What single units and gates of the best model do on held-out text."""

from typing import Any

import numpy as np

from charjax import interpret
from charjax.errors import ConfigError
from charjax.model import Params
from charjax.report.heldout import HeldOut, passages, symbol_names
from charjax.report.read import Section
from charjax.text import Lanes

_READ_CHARACTERS = 20_000  # in which units that track a pattern are searched
_MAX_VALUES = 600_000  # on the page, a byte each before base64
_MIN_SHOWN, _MAX_SHOWN = 800, 2_000  # characters with their activations

Unit = tuple[int, int, str]  # layer, index, state


def activations(params: Params, heldout: HeldOut) -> Section:
    """Returns activations of as many units as fit, and the units that track a pattern.

    Units that track a pattern come before others where not all fit.
    """
    ids = _text_to_read(heldout.lanes)
    text = params.vocab.decode(ids)
    tracking = _tracking_units(params, text)
    layers = interpret.activations(params, text[:_MAX_SHOWN])
    # An LSTM's cell state says more than its output, which a gate closes.
    state = "c" if "c" in layers[0].carry else next(iter(layers[0].carry))
    everything = _all_units(layers, state)
    length = max(_MAX_VALUES // len(everything), _MIN_SHOWN)
    length = min(length, _MAX_SHOWN, len(text))
    first = [(u["layer"], u["index"], u["state"]) for u in tracking]
    # A unit may track several patterns.
    distinct = list(dict.fromkeys([*first, *everything]))
    units = sorted(distinct[: _MAX_VALUES // length])
    columns = [layers[n].carry[name][:length, i] for n, i, name in units]
    names = symbol_names(params.vocab)
    return {
        "split": heldout.name,
        "characters": [names[i] for i in ids[:length]],
        "units": [{"layer": n, "index": i, "state": name} for n, i, name in units],
        "values_TxU": np.stack(columns, axis=1).astype(np.float32),
        "left_out": len(set(everything) - set(units)),
        "telling": tracking,
        "read": len(ids),
    }


def gate_saturation(params: Params, heldout: HeldOut) -> Section:
    """Returns how often each gate of each unit is shut and open."""
    text = params.vocab.decode(_text_to_read(heldout.lanes))
    layers = interpret.gate_saturation(params, text)
    if not any(layers):
        return {"missing": f"The cell {params.spec.cell!r} names no gates."}
    return {
        "split": heldout.name,
        "read": len(text),
        "layers": [
            {
                gate: {"low": s.low_H.tolist(), "high": s.high_H.tolist()}
                for gate, s in layer.items()
            }
            for layer in layers
        ],
    }


def _text_to_read(lanes: Lanes) -> np.ndarray:
    """Returns the ids of passages, one after the other.

    Documents too are read on, so that a unit is seen as it goes over their ends.
    """
    return passages(lanes, _READ_CHARACTERS).ids_NxL.ravel()


def _all_units(layers: Any, state: str) -> list[Unit]:
    return [
        (number, index, state)
        for number, layer in enumerate(layers)
        for index in range(layer.carry[state].shape[1])
    ]


def _tracking_units(params: Params, text: str | bytes) -> list[Section]:
    """Returns for each predicate that varies in the text the unit that tracks it."""
    found = []
    for name, predicate in interpret.PREDICATES.items():
        try:
            unit = interpret.find_units(params, text, predicate, count=1)[0]
        except ConfigError:
            continue  # it has one value in the whole text
        found.append({"predicate": name, **unit._asdict()})
    return sorted(found, key=lambda unit: -unit["score"])
