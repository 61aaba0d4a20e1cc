"""What the units of a model do as it reads: states, gates, units that track a text."""

from charjax.interpret.activations import LayerActivations, activations
from charjax.interpret.gates import Saturation, gate_saturation
from charjax.interpret.predicates import PREDICATES
from charjax.interpret.units import MEASURES, Unit, find_units

__all__ = [
    "MEASURES",
    "PREDICATES",
    "LayerActivations",
    "Saturation",
    "Unit",
    "activations",
    "find_units",
    "gate_saturation",
]
