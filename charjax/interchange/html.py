"""A model as one HTML page that samples in a browser and loads nothing.

The weights are in the page as base64: float32, or int8 with one float32 scale for each
column, which is the input of one unit. Biases stay float32. `model.js` runs them.
"""

import base64
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from charjax.checkpoint.formats import stored_spec
from charjax.errors import ConfigError
from charjax.interchange.files import require_suffix, write_new
from charjax.interchange.named import Arrays, arrays_of
from charjax.model import Params
from charjax.report.markup import embedded_json, text

CELLS = ("lstm", "gru", "gru_reset_before", "rnn")


def write_html(
    params: Params, file: Path | str, *, int8: bool = False, title: str = "a model"
) -> None:
    """Writes a page that samples from a model in any browser, without a network.

    Its greedy text is that of `charjax.sample`; drawn text comes from a random number
    generator of its own.

    Args:
      params: the model; its cell is one of charjax's own.
      file: a new file, whose name ends in `.html`.
      int8: whether the weights take 8 bits instead of 32, which cost the models
        that were measured less than 0.001 nats a character.
      title: of the page.

    Raises:
      ConfigError: the page cannot run the cell, or there is such a file.
      CheckpointError: it cannot be written.

    Example:
      >>> import charjax
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> write_html(params, "page.html", int8=True)  # doctest: +SKIP
    """
    path = Path(file)
    require_suffix(path, ".html", "a page")
    page = render(params, int8=int8, title=title).encode("utf-8", "replace")
    write_new(path, lambda opened: opened.write(page))


def render(params: Params, *, int8: bool = False, title: str = "a model") -> str:
    """Returns the page that `write_html` writes.

    Raises:
      ConfigError: the page cannot run the cell.
    """
    spec, vocab, arrays = params.spec, params.vocab, arrays_of(params)
    if spec.cell not in CELLS:
        raise ConfigError(
            f"the cell must be one of {', '.join(CELLS)} for a page; got "
            f"{spec.cell!r}. Try --stablehlo."
        )
    kind = "8-bit weights" if int8 else "32-bit weights"
    total = sum(array.size for array in arrays.values())
    files = resources.files("charjax.interchange")
    values = {
        "TITLE": text(title),
        "MODEL": f"{spec.cell} {spec.num_layers} × {spec.hidden_size}, {total:,} "
        f"parameters, {len(vocab):,} characters, {kind}",
        "STYLE": (files / "sampler.css").read_text("utf-8"),
        "DATA": embedded_json(
            {
                "spec": stored_spec(spec),
                "encoding": vocab.encoding,
                "codes": list(map(int, _codes(vocab.symbols))),
                "arrays": _packed(arrays, int8=int8),
            }
        ),
        "SCRIPT": "".join(
            (files / name).read_text("utf-8") for name in ("model.js", "sampler.js")
        ),
    }
    page = (files / "sampler.html").read_text("utf-8")
    parts = page.split("@")  # what is put in may hold the mark itself
    return "".join(values.get(part, part) for part in parts)


def _codes(symbols: str | bytes) -> list[int]:
    return list(symbols) if isinstance(symbols, bytes) else list(map(ord, symbols))


def _packed(arrays: Arrays, *, int8: bool) -> dict[str, Any]:
    return {name: _packed_array(array, int8=int8) for name, array in arrays.items()}


def _packed_array(array: np.ndarray, *, int8: bool) -> dict[str, Any]:
    packed: dict[str, Any] = {"shape": list(array.shape)}
    if not int8 or array.ndim == 1:
        return packed | {"values": _base64(array)}
    scales = np.abs(array).max(axis=0) / np.float32(127)
    safe = np.where(scales > 0, scales, 1)
    values = np.rint(array / safe).astype(np.int8)
    return packed | {"values": _base64(values), "scales": _base64(scales)}


def _base64(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()
