"""Checkpoints of char-rnn: what the graph of modules in its .t7 files means.

    protos.rnn     an nn.gModule: its `outnode` has the outputs as inputs, in order
                   c_1, h_1, ..., log-probabilities (h_1, ... alone for GRU and RNN)
    data.mapindex  of a node: the `data` of the nodes that it reads, in order
    data.module    what it computes of them: an nn.Linear (weight (out, in), bias) or
                   one of the small modules below; without one it passes things on
    vocab          the id of each character, from 1: bytes of the text

A layer computes pairs of Linear modules, of the layer below and of its own last output.
They are found by walking back from the layer's output: one pair in an RNN and in an
LSTM, with gates in the order i, f, o, g, and three in a GRU.

This follows char-rnn's and nngraph's sources. No file that char-rnn itself wrote was at
hand.

https://github.com/karpathy/char-rnn/tree/master/model, https://github.com/torch/nngraph
"""

from typing import Any, NamedTuple

import numpy as np

from charjax.interchange.lua import (
    Found,
    count,
    from_ifog,
    history,
    last,
    numbers,
    size_of,
)
from charjax.interchange.named import Arrays, params_of
from charjax.interchange.t7 import Object, T7Error, T7File, Table
from charjax.model import ModelSpec
from charjax.text.vocab import Vocab

_CELLS = {b"lstm": "lstm", b"gru": "gru_reset_before", b"rnn": "rnn"}
_LINEAR = "nn.Linear"
_SMALL = {
    "", "OneHot", "nn.Identity", "nn.Dropout", "nn.Tanh", "nn.Sigmoid", "nn.CAddTable",
    "nn.CMulTable", "nn.AddConstant", "nn.MulConstant", "nn.Reshape", "nn.SplitTable",
    "nn.Narrow", "nn.LogSoftMax",
}  # fmt: skip
# A layer's own modules are about 20, and an LSTM has two outputs a layer.
_MOST_MODULES, _MOST_INPUTS = 200, 1000
_PASSES_ON = ("", "OneHot", "nn.Identity", "nn.Dropout")


def is_checkpoint(root: Any) -> bool:
    """Returns whether a .t7 file's content is char-rnn's."""
    return isinstance(root, Table) and isinstance(root.get(b"protos"), Table)


def read(file: T7File, root: Table) -> Found:
    """Returns the model of a checkpoint.

    Args:
      file: the open file.
      root: what `file.read` returned.

    Raises:
      T7Error: it has other modules or sizes.
      CharjaxError: its weights or vocabulary are not a model's.
    """
    options = root.get(b"opt")
    name = options.get(b"model", b"lstm") if isinstance(options, Table) else b"lstm"
    if name not in _CELLS:
        raise T7Error(f"opt.model must be lstm, gru or rnn; got {name!r:.60}")
    cell, graph = _CELLS[name], root[b"protos"].get(b"rnn")
    outputs = _inputs(_data(graph, b"outnode"))
    inputs = _inputs(_data(graph, b"innode"))
    num_states = 2 if cell == "lstm" else 1  # of a layer, the output last
    if not inputs or len(outputs) < 2 or (len(outputs) - 1) % num_states:
        raise T7Error(f"its outputs must be the states of {cell} layers; got others")
    states = outputs[num_states - 1 : -1 : num_states]
    arrays = _readout(file, outputs[-1])
    for i, state in enumerate(states):
        below = states[i - 1] if i else inputs[0]
        if cell == "gru_reset_before":
            layer = _gru(file, state, below)
        else:
            layer = _dense(file, state, below, is_lstm=cell == "lstm")
        arrays |= {f"layers.{i}.{field}": array for field, array in layer.items()}
    spec = ModelSpec(cell, size_of(arrays["readout_HxV"], 0), len(states))
    losses = [*history(root.get(b"val_losses")), *numbers(root.get(b"val_loss"))]
    return Found(
        params_of(spec, _vocab(root.get(b"vocab")), arrays),
        step=count(root.get(b"i")),
        epoch=float(*numbers(root.get(b"epoch"))),
        loss=last(losses),
    )


def _readout(file: T7File, output: Table) -> Arrays:
    linears = _linears_before(output)
    if len(linears) != 1:
        raise T7Error(f"it must have one read-out; got {len(linears)}")
    weight, bias = _weights(file, linears[0])
    return {"readout_HxV": weight.T, "readout_bias_V": bias}


def _dense(file: T7File, state: Table, below: Table, *, is_lstm: bool) -> Arrays:
    """Returns the weights of an LSTM or RNN layer."""
    pair = _pair(file, _linears_before(state), below)
    arrays = {
        "input_DxGH": pair.input_GHxD.T,
        "recurrent_HxGH": pair.recurrent_GHxH.T,
        "bias_GH": pair.bias_GH,
    }
    return {n: from_ifog(a) for n, a in arrays.items()} if is_lstm else arrays


def _gru(file: T7File, state: Table, below: Table) -> Arrays:
    """Returns the weights of a GRU layer.

    Its output is `u * n + (1 - u) * h`, where charjax has u and 1 - u in each other's
    places, so the signs of u's weights change. As modules:

        u * n   CMulTable of a Sigmoid and a Tanh
        n       Tanh of CAddTable of the Linears of x and of r * h
        r * h   CMulTable of a Sigmoid and the last output
    """
    product = _with_input(_inputs(state), "nn.Tanh")
    update = _input_of(product, "nn.Sigmoid")
    both = _inputs(_input_of(_input_of(product, "nn.Tanh"), "nn.CAddTable"))
    gated = _with_input(both, "nn.CMulTable")
    reset = _input_of(_input_of(gated, "nn.CMulTable"), "nn.Sigmoid")
    r = _pair(file, _linears_before(reset), below)
    u = _pair(file, _linears_before(update), below)
    n = _pair(file, both, below)
    return {
        "input_DxGH": np.concatenate([r.input_GHxD, -u.input_GHxD, n.input_GHxD]).T,
        "recurrent_Hx2H": np.concatenate([r.recurrent_GHxH, -u.recurrent_GHxH]).T,
        "candidate_HxH": n.recurrent_GHxH.T,
        "bias_GH": np.concatenate([r.bias_GH, -u.bias_GH, n.bias_GH]),
    }


class _Pair(NamedTuple):
    """The weights of one Linear of a layer's input and one of its last output."""

    input_GHxD: np.ndarray
    recurrent_GHxH: np.ndarray
    bias_GH: np.ndarray


def _pair(file: T7File, linears: list[Table], below: Table) -> _Pair:
    of_input = [node for node in linears if _reads(node, below)]
    others = [node for node in linears if not _reads(node, below)]
    if len(of_input) != 1 or len(others) != 1:
        raise T7Error("a gate must have one Linear of its input and one of its output")
    (w, b), (u, c) = _weights(file, of_input[0]), _weights(file, others[0])
    if b.shape != c.shape or len(w) != len(u):
        raise T7Error("the Linears of a gate must be of one size; got two")
    return _Pair(w, u, b + c)


def _weights(file: T7File, node: Table) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weight, a matrix, and the bias of a Linear."""
    if _class_of(node) != _LINEAR:
        raise T7Error(f"a sum must be of Linears; got {_class_of(node)!r:.60}")
    weight, bias = (
        file.array(node[b"module"].get(name), f"a Linear's {name.decode()}")
        for name in (b"weight", b"bias")
    )
    size_of(weight, 0)
    return weight, bias


def _linears_before(node: Table) -> list[Table]:
    """Returns the Linears that a node depends on without another one between."""
    found, seen, waiting = [], {node}, [node]
    while waiting:
        if len(seen) > _MOST_MODULES:
            raise T7Error(f"a layer must be of up to {_MOST_MODULES} modules; got more")
        node = waiting.pop()
        if _class_of(node) == _LINEAR:
            found.append(node)
            continue
        if (kind := _class_of(node)) not in _SMALL:
            raise T7Error(f"its modules must be char-rnn's; got {kind!r:.60}")
        fresh = [before for before in _inputs(node) if before not in seen]
        seen.update(fresh)
        waiting += fresh
    return found


def _reads(linear: Table, below: Table) -> bool:
    """Returns whether a Linear reads a node, through what only passes it on."""
    node, num_passed = linear, 0
    while node is not below:
        inputs = _inputs(node)
        passes_on = node is linear or _class_of(node) in _PASSES_ON
        if not passes_on or len(inputs) != 1 or num_passed > _MOST_MODULES:
            return False
        num_passed += 1
        node = inputs[0]
    return True


def _input_of(node: Table, class_name: str) -> Table:
    """Returns the one input of a node that is of a class."""
    found = [before for before in _inputs(node) if _class_of(before) == class_name]
    if len(found) != 1:
        raise T7Error(f"a GRU must have one {class_name} there; got {len(found)}")
    return found[0]


def _with_input(nodes: list[Table], class_name: str) -> Table:
    """Returns the one of some nodes that reads a module of a class."""
    found = [node for node in nodes if class_name in map(_class_of, _inputs(node))]
    if len(found) != 1:
        raise T7Error(f"a GRU must have one {class_name} read there; got {len(found)}")
    return found[0]


def _inputs(node: Table) -> list[Table]:
    """Returns the nodes that a node reads, in order."""
    index = node.get(b"mapindex")
    inputs = index.items_in_order() if isinstance(index, Table) else []
    if len(inputs) > _MOST_INPUTS:
        raise T7Error(f"a module must read up to {_MOST_INPUTS} others; got more")
    return [before for before in inputs if isinstance(before, Table)]


def _class_of(node: Table) -> str:
    """Returns the class of a node's module; an empty string without one."""
    module = node.get(b"module")
    return module.class_name if isinstance(module, Object) else ""


def _data(graph: Any, name: bytes) -> Table:
    """Returns the data of one of the two outer nodes of a graph."""
    node = graph.get(name) if isinstance(graph, Object) else None
    data = node.get(b"data") if isinstance(node, Object) else None
    if not isinstance(data, Table):
        raise T7Error("protos.rnn must be an nn.gModule with its nodes; got another")
    return data


def _vocab(table: Any) -> Vocab:
    """Returns the vocabulary: of bytes where a character is above 127."""
    entries = table.items() if isinstance(table, Table) else ()
    tokens = {i: c for c, i in entries if type(i) is float and isinstance(c, bytes)}
    in_order = [tokens.get(float(i)) for i in range(1, len(tokens) + 1)]
    if not tokens or None in in_order:
        raise T7Error("vocab must give each character an id from 1; got another table")
    joined = b"".join(filter(None, in_order))
    if len(joined) == len(in_order) and not joined.isascii():
        return Vocab(joined)
    try:
        text = joined.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if len(text) != len(in_order):
        raise T7Error("vocab must be of characters; got words, or no UTF-8")
    return Vocab(text)
