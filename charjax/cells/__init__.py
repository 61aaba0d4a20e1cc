"""The registry of recurrent cells, by the name that a config gives them."""

import inspect

from charjax.cells import gru, gru_reset_before, lstm, rnn
from charjax.cells.base import Cell, Initializers, Matmul
from charjax.errors import ConfigError, did_you_mean

__all__ = [
    "Cell",
    "Initializers",
    "Matmul",
    "get",
    "names",
    "own_file",
    "register",
]

_CELLS: dict[str, Cell] = {
    "rnn": rnn.cell,
    "lstm": lstm.cell,
    "gru": gru.cell,
    "gru_reset_before": gru_reset_before.cell,
}
_BUILT_IN = frozenset(_CELLS)


def register(name: str, cell: Cell) -> None:
    """Makes a cell known under a name, so that a config can choose it.

    Args:
      name: a Python identifier; checkpoints of the cell carry it in their names.
      cell: the cell's functions.

    Raises:
      ConfigError: the name is no identifier, or another cell has it.

    Example:
      >>> import charjax
      >>> charjax.cells.register("plain", charjax.cells.get("rnn"))
    """
    if not name.isidentifier():
        raise ConfigError(
            f"a cell's name is an identifier such as 'my_cell', not {name!r}"
        )
    if _CELLS.get(name, cell) != cell:
        raise ConfigError(f"another cell is already registered as {name!r}; rename one")
    _CELLS[name] = cell


def get(name: str) -> Cell:
    """Returns the cell of that name.

    Raises:
      ConfigError: no cell has it; the message lists those there are.
    """
    if name not in _CELLS:
        raise ConfigError(
            f"unknown cell {name!r}; known are {', '.join(names())}."
            f"{did_you_mean(name, names())} A cell of your own must be registered "
            "first: import its file (on the command line: charjax --import FILE.py ...)"
        )
    return _CELLS[name]


def own_file(name: str) -> str | None:
    """Returns the file that defines a cell of the user's, None for a built-in one.

    Raises:
      ConfigError: no cell has the name.

    Example:
      >>> from charjax import cells
      >>> cells.own_file("lstm") is None
      True
    """
    if name in _BUILT_IN:
        return None
    for function in map(inspect.unwrap, filter(None, get(name))):
        code = getattr(function, "__code__", None)
        if code and not function.__module__.startswith("charjax."):
            return code.co_filename
    return "FILE.py"


def names() -> list[str]:
    """Returns the registered names, sorted."""
    return sorted(_CELLS)
