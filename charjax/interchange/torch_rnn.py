"""Checkpoints of torch-rnn: what the modules in its .t7 files mean.

    model.net.modules   LookupTable (V, E), then for each layer nn.LSTM or nn.VanillaRNN
                        and perhaps a Dropout, then View, Linear (V, H), View
    weight, bias        of a layer: (D + H, 4H) and (4H), gates in the order i, f, o, g
    model.idx_to_token  a character for each id, from 1
    val_loss_history    the losses in nats a character, at steps val_loss_history_it

https://github.com/jcjohnson/torch-rnn/blob/master/doc/modules.md
"""

import re
from typing import Any

from charjax.interchange.lua import (
    Found,
    count,
    from_ifog,
    history,
    last,
    module_list,
    size_of,
)
from charjax.interchange.named import params_of
from charjax.interchange.t7 import Object, T7Error, T7File, Table
from charjax.model import ModelSpec
from charjax.text.vocab import Vocab

_LAYERS = {"nn.LSTM": "lstm", "nn.VanillaRNN": "rnn"}
_PASSIVE = ("nn.Dropout", "nn.View")  # these change no number when a model is used


def is_checkpoint(root: Any) -> bool:
    """Returns whether a .t7 file's content is torch-rnn's."""
    return isinstance(root, Table) and isinstance(root.get(b"model"), Object)


def read(file: T7File, root: Table) -> Found:
    """Returns the model of a checkpoint.

    Args:
      file: the open file.
      root: what `file.read` returned.

    Raises:
      T7Error: it has other modules or sizes.
      CharjaxError: its weights or vocabulary are not a model's.
    """
    model = root[b"model"]
    modules = [
        module
        for module in module_list(model.get(b"net"))
        if module.class_name not in _PASSIVE
    ]
    names = [module.class_name for module in modules]
    kinds = set(names[1:-1])
    outer = names[:1] + names[-1:] == ["nn.LookupTable", "nn.Linear"]
    if not outer or len(kinds) != 1 or not kinds <= set(_LAYERS):
        raise T7Error(
            "its modules must be LookupTable, LSTM or VanillaRNN layers, and Linear; "
            f"got {', '.join(names)!r:.100}"
        )
    cell = _LAYERS[kinds.pop()]
    embedding, *layers, readout = modules
    arrays = {
        "embedding_VxE": file.array(embedding.get(b"weight"), "the LookupTable"),
        "readout_HxV": file.array(readout.get(b"weight"), "the Linear").T,
        "readout_bias_V": file.array(readout.get(b"bias"), "the Linear's bias"),
    }
    hidden_size = size_of(arrays["readout_HxV"], 0)
    for i, layer in enumerate(layers):
        weight = file.array(layer.get(b"weight"), f"layer {i + 1}")
        bias_GH = file.array(layer.get(b"bias"), f"the bias of layer {i + 1}")
        if cell == "lstm":
            weight, bias_GH = map(from_ifog, (weight, bias_GH))
        arrays[f"layers.{i}.input_DxGH"] = weight[:-hidden_size]
        arrays[f"layers.{i}.recurrent_HxGH"] = weight[-hidden_size:]
        arrays[f"layers.{i}.bias_GH"] = bias_GH
    embedding_size = size_of(arrays["embedding_VxE"], 1)
    spec = ModelSpec(cell, hidden_size, len(layers), embedding_size)
    vocab = vocab_of(_tokens(model.get(b"idx_to_token")))
    steps = history(root.get(b"val_loss_history_it"))
    return Found(
        params_of(spec, vocab, arrays),
        step=count(last(steps)),
        loss=last(history(root.get(b"val_loss_history"))),
    )


def vocab_of(tokens: list[str]) -> Vocab:
    r"""Returns the vocabulary of torch-rnn's tokens, in their order.

    A text that was read as bytes has tokens like `[195]` for those above 127.

    Raises:
      T7Error: a token is more than one character.
      TextError: one occurs twice.

    >>> vocab_of(["a", "é"]).symbols, vocab_of(["a", "[195]"]).symbols
    ('aé', b'a\xc3')
    """
    codes = [
        re.fullmatch(r"\[(1(?:2[89]|[3-9]\d)|2[0-4]\d|25[0-5])\]", t) for t in tokens
    ]
    if any(codes) and all(m or t.isascii() for t, m in zip(tokens, codes, strict=True)):
        tokens = [
            chr(int(m[1])) if m else t for t, m in zip(tokens, codes, strict=True)
        ]
        _require_characters(tokens)
        return Vocab("".join(tokens).encode("latin-1"))
    _require_characters(tokens)
    return Vocab("".join(tokens))


def _require_characters(tokens: list[str]) -> None:
    for token in tokens:
        if len(token) != 1:
            raise T7Error(
                f"its tokens must be characters; got {token!r:.60}, as of a model of "
                "words"
            )


def _tokens(table: Any) -> list[str]:
    tokens = table.items_in_order() if isinstance(table, Table) else []
    if not tokens or not all(isinstance(token, bytes) for token in tokens):
        raise T7Error("its idx_to_token must be a table of characters; got another")
    return [token.decode("utf-8", "replace") for token in tokens]
