"""The registry of recurrent cells, by the name that a config gives them."""

import inspect

from charjax.cells import (
    gru,
    gru_reset_before,
    lstm,
    min_gru,
    min_lstm,
    multiplicative_lstm,
    multiplicative_rnn,
    peephole_lstm,
    rg_lru,
    rnn,
    slstm,
)
from charjax.cells.base import Cell
from charjax.errors import ConfigError, did_you_mean

_CELLS: dict[str, Cell] = {
    "rnn": rnn.cell,
    "lstm": lstm.cell,
    "gru": gru.cell,
    "gru_reset_before": gru_reset_before.cell,
    "multiplicative_rnn": multiplicative_rnn.cell,
    "multiplicative_lstm": multiplicative_lstm.cell,
    "peephole_lstm": peephole_lstm.cell,
    "min_gru": min_gru.cell,
    "min_lstm": min_lstm.cell,
    "rg_lru": rg_lru.cell,
    "slstm": slstm.cell,
}
_BUILT_IN = frozenset(_CELLS)


def register(name: str, cell: Cell) -> None:
    """Registers a cell under a name, so that a config can choose it.

    Args:
      name: a Python identifier. The names of the cell's checkpoints contain it.
      cell: the cell's functions.

    Raises:
      ConfigError: the name is not an identifier, or another cell has it.

    Example:
      >>> import charjax
      >>> charjax.cells.register("plain", charjax.cells.get("rnn"))
    """
    if not name.isidentifier():
        raise ConfigError(
            f"a cell's name must be an identifier; got {name!r}. Try 'my_cell'."
        )
    if _CELLS.get(name, cell) != cell:
        raise ConfigError(
            f"a cell's name must be free; another cell is already registered as "
            f"{name!r}. Try another name."
        )
    _CELLS[name] = cell


def get(name: str) -> Cell:
    """Returns the cell registered under a name.

    Raises:
      ConfigError: there is none; the message lists the registered names.
    """
    if name not in _CELLS:
        raise ConfigError(
            f"model.cell must be one of {', '.join(names())}; got {name!r}."
            f"{did_you_mean(name, names())} A cell of your own must be registered "
            "first: import the file that does so (--import FILE.py)."
        )
    return _CELLS[name]


def own_file(name: str) -> str | None:
    """Returns the file that defines a user's cell, None for a built-in cell.

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
