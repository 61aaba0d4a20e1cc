"""Reading a model from a file of any kind that `charjax import` takes."""

import json
import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charjax.errors import CharjaxError, ConfigError
from charjax.interchange import char_rnn, named, torch_rnn, torch_state
from charjax.interchange.files import needed, refused, require_file
from charjax.interchange.lua import Found, last, numbers
from charjax.interchange.t7 import T7Error, T7File
from charjax.text.vocab import Vocab

_PICKLED = (".pt", ".pth")
_MAX_VOCAB = 1 << 25  # bytes of a JSON file


def read_model(file: Path | str, vocab: Path | str | None = None) -> Found:
    """Returns the model that a file holds.

    It is told by the file's name what it holds:

        .safetensors   what `charjax export --safetensors` or `--torch` writes, or a
                       state dict of PyTorch
        .pt, .pth      a state dict as `torch.save` writes it; read with PyTorch, which
                       unpickles nothing but arrays
        .t7            a checkpoint of torch-rnn or char-rnn

    Args:
      file: its path.
      vocab: for a state dict that does not say which characters its ids mean: a JSON
        file of `{"encoding": "utf-8", "symbols": "abc"}`, of these under `vocab`, or of
        torch-rnn's `idx_to_token`. By default a file of the same name that ends in
        `.json`, if there is one.

    Raises:
      CheckpointError: it holds no such model; the message says why.
      ConfigError: a package is missing.

    Example:
      >>> read_model("checkpoint_1000.t7").params  # doctest: +SKIP
    """
    file = Path(file)
    require_file(file)
    if file.suffix not in (".t7", named.SUFFIX, *_PICKLED):
        endings = ", ".join((named.SUFFIX, *_PICKLED, ".t7"))
        raise refused(file, f"its name must end in one of {endings}")
    if file.suffix == ".t7":
        return _read_t7(file)
    if file.suffix == named.SUFFIX:
        arrays, about = named.read_arrays(file)
    else:
        arrays, about = _read_pickled(file), {}
    if not about:
        about = {"vocab": _vocab_beside(file, vocab)}
    try:
        return Found(_params_of(arrays, about), loss=last(numbers(about.get("loss"))))
    except CharjaxError as error:
        raise refused(file, str(error).rstrip(".")) from None


def _params_of(arrays: named.Arrays, about: Mapping[str, Any]) -> Any:
    """Returns the model of arrays that have charjax's names or PyTorch's."""
    if not torch_state.is_state(arrays):
        return named.params_of(*named.spec_and_vocab(about), arrays)
    spec, arrays = torch_state.model_of(arrays)
    vocab = about.get("vocab")
    if not isinstance(vocab, dict):
        raise ConfigError("its vocabulary must be given. Try --vocab FILE.json")
    return named.params_of(spec, Vocab.from_json(vocab), arrays)


def _read_t7(file: Path) -> Found:
    with open(file, "rb") as opened:
        empty = not file.stat().st_size  # which cannot be mapped
        content = (
            b"" if empty else mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        )
    try:
        reader = T7File(content)
        root = reader.read()
        for kind in (torch_rnn, char_rnn):
            if kind.is_checkpoint(root):
                return kind.read(reader, root)
        raise T7Error("it must be a checkpoint of torch-rnn or char-rnn")
    except (CharjaxError, T7Error) as error:
        raise refused(file, str(error).rstrip(".")) from None


def _read_pickled(file: Path) -> named.Arrays:
    """Returns a state dict that `torch.save` wrote, as NumPy arrays."""
    if not zipfile.is_zipfile(file):
        raise refused(file, "it must be a file of torch.save, from PyTorch 1.6 on")
    try:
        with zipfile.ZipFile(file) as opened:
            size = sum(entry.file_size for entry in opened.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise refused(file, str(error)) from None
    if size > file.stat().st_size:  # torch.save compresses nothing
        raise refused(file, f"its {size:,} bytes must not be compressed")
    torch = needed("torch", "https://pytorch.org, or saving it as .safetensors")
    try:
        state = torch.load(file, "cpu", weights_only=True)
        return {str(name): value.numpy() for name, value in dict(state).items()}
    except Exception as error:  # all kinds
        reason = " ".join(str(error).split())
        raise refused(file, f"it must be a state dict; {reason:.100}") from None


def _vocab_beside(file: Path, vocab: Path | str | None) -> Any:
    """Returns the vocabulary in a JSON file, as `Vocab.from_json` takes it."""
    path = file.with_suffix(".json") if vocab is None else Path(vocab)
    if vocab is None and not path.is_file():
        return None
    require_file(path)
    if path.stat().st_size > _MAX_VOCAB:
        raise refused(path, f"it must have at most {_MAX_VOCAB:,} bytes")
    try:
        plain = json.loads(path.read_text("utf-8"))
        plain = plain.get("vocab", plain)
        tokens = plain.get("idx_to_token")
        if tokens is None:
            return plain
        in_order = [str(tokens[str(i)]) for i in range(1, len(tokens) + 1)]
        return torch_rnn.vocab_of(in_order).to_json()
    except (CharjaxError, ValueError, RecursionError, AttributeError, LookupError,
            TypeError) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise refused(
            path, f"it must be JSON of a vocabulary; got {reason:.100}"
        ) from None
