"""Models in and out: files that other programs read, and files that others wrote.

    out   a page that samples in a browser      `html`
          programs for JAX without charjax      `stablehlo`
          weights by name                       `named`
          weights as torch.nn takes them        `torch_state`
    in    the last two, torch-rnn, char-rnn     `reading`

Nothing that comes from a file is run, and no file takes more memory than it has bytes.
"""

from charjax.interchange.html import write_html
from charjax.interchange.importing import import_model
from charjax.interchange.named import write_safetensors
from charjax.interchange.reading import Found, read_model
from charjax.interchange.stablehlo import write_stablehlo
from charjax.interchange.torch_state import write_torch

__all__ = [
    "Found",
    "import_model",
    "read_model",
    "write_html",
    "write_safetensors",
    "write_stablehlo",
    "write_torch",
]
