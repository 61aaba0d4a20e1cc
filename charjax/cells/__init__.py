"""Recurrent cells: one file a cell, the contract they keep, and their names."""

from charjax.cells.base import Cell, Matmul
from charjax.cells.initializers import Initializers, initializers
from charjax.cells.registry import get, names, own_file, register

__all__ = [
    "Cell",
    "Initializers",
    "Matmul",
    "get",
    "initializers",
    "names",
    "own_file",
    "register",
]
