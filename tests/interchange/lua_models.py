"""Checkpoints as torch-rnn and char-rnn write them, and what these compute of them.

Built from the sources of torch-rnn (LanguageModel.lua, LSTM.lua, VanillaRNN.lua),
char-rnn (model/LSTM.lua, GRU.lua, RNN.lua) and nngraph (node.lua, gmodule.lua).
"""

import numpy as np

from tests.interchange.t7_writer import Function, Node, Obj, table
from tests.oracles.recurrence import sigmoid

SYMBOLS = "ab\nc é"
V, E, H = len(SYMBOLS), 3, 4


def weights(seed):
    noise = np.random.default_rng(seed)
    return lambda *shape: noise.normal(size=shape).astype("f4")


def torch_rnn(kind="lstm", dropout=0.0, seed=0, tokens=SYMBOLS, **fields):
    """The table that `torch.save` gets in torch-rnn's train.lua."""
    draw, gates = weights(seed), {"lstm": 4, "rnn": 1}[kind]
    class_name = {"lstm": "nn.LSTM", "rnn": "nn.VanillaRNN"}[kind]
    rnns = [
        Obj(
            class_name, input_dim=size, hidden_dim=H, remember_states=True,
            weight=draw(size + H, gates * H), bias=draw(gates * H),
        )
        for size in (E, H)
    ]  # fmt: skip
    modules = [Obj("nn.LookupTable", weight=draw(V, E))]
    for rnn in rnns:
        modules += [rnn] + [Obj("nn.Dropout", p=dropout)] * (dropout > 0)
    linear = Obj("nn.Linear", weight=draw(V, H), bias=draw(V))
    modules += [Obj("nn.View"), linear, Obj("nn.View")]
    model = Obj(
        "nn.LanguageModel",
        idx_to_token=table(tokens), rnns=table(rnns), model_type=kind,
        net=Obj("nn.Sequential", modules=table(modules), train=True),
    )  # fmt: skip
    return {
        "model": model,
        "opt": {"model_type": kind, "callback": Function()},
        "val_loss_history": table([2.5, 1.75]),
        "val_loss_history_it": table([1000, 2000]),
    } | fields


def torch_rnn_scores(checkpoint, ids):
    """The scores after each id, by the loops of LSTM.lua and VanillaRNN.lua."""
    modules = checkpoint["model"]["net"]["modules"].values()
    [lookup] = [m for m in modules if m.class_name == "nn.LookupTable"]
    [linear] = [m for m in modules if m.class_name == "nn.Linear"]
    x_TxD = lookup["weight"][ids].astype("f8")
    for rnn in checkpoint["model"]["rnns"].values():
        h, c, outputs = np.zeros(H), np.zeros(H), []
        for x in x_TxD:
            a = np.concatenate([x, h]) @ rnn["weight"] + rnn["bias"]
            if rnn.class_name == "nn.LSTM":
                i, f, o = (sigmoid(a[k * H : (k + 1) * H]) for k in range(3))
                c = f * c + i * np.tanh(a[3 * H :])
                h = o * np.tanh(c)
            else:
                h = np.tanh(a)
            outputs.append(h)
        x_TxD = np.array(outputs)
    return x_TxD @ linear["weight"].T + linear["bias"]


def node(module, *inputs, **data):
    """The data of an nngraph.Node: `mapindex` has its inputs, both ways."""
    mapindex = Node(table(inputs)) | {before: i for i, before in enumerate(inputs, 1)}
    fields = {"annotations": {}, "mapindex": mapindex} | data
    return Node(fields if module is None else fields | {"module": module})


def g_module(inputs, outputs):
    """An nn.gModule; `innode` lists the inputs, and each input reads it."""
    inside = node(None, data={})
    for i, data in enumerate(inputs, 1):
        inside["mapindex"] |= {i: data, data: i}
        data["mapindex"] |= {1: inside, inside: 1}
    outside, nodes, waiting = node(None, *outputs), {}, []
    waiting = [outside]
    while waiting:
        data = waiting.pop()
        if data not in nodes:
            nodes[data] = Obj("nngraph.Node", data=data, id=len(nodes), children=Node())
            waiting += [d for k, d in data["mapindex"].items() if isinstance(k, int)]
    for data, own in nodes.items():  # the forward graph: a child reads its parent
        for key, before in data["mapindex"].items():
            if isinstance(key, int):
                children = nodes[before]["children"]
                children |= {len(children) // 2 + 1: own, own: len(children) // 2 + 1}
    forward = table(nodes.values())
    graph = Obj("graph.Graph", nodes=forward)
    return Obj(
        "nn.gModule", fg=graph, forwardnodes=forward, verbose=False,
        innode=nodes[inside], outnode=nodes[outside],
    )  # fmt: skip


def char_rnn(kind="lstm", dropout=0.0, seed=0, symbols="ab\nc", **fields):
    """The table that `torch.save` gets in char-rnn's train.lua, layers and all."""
    draw, size = weights(seed), len(symbols)

    def linear(x, columns, rows):
        weight, bias = draw(rows, columns), draw(rows)
        return node(Obj("nn.Linear", weight=weight, bias=bias), x)

    def small(name, *inputs):
        return node(Obj(name), *inputs)

    build = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[kind]
    first, inputs, outputs = node(Obj("nn.Identity")), [], []
    x, columns = small("OneHot", first), size
    for _ in range(2):
        states = [node(Obj("nn.Identity")) for _ in range(2 if kind == "lstm" else 1)]
        new = build(x, states, columns, linear, small)
        x = small("nn.Dropout", new[-1]) if dropout else new[-1]
        inputs, outputs, columns = inputs + states, outputs + new, H
    log_probs = small("nn.LogSoftMax", linear(x, H, size))
    vocab = {
        bytes([b]) if isinstance(b, int) else b: i for i, b in enumerate(symbols, 1)
    }
    rnn = g_module([first, *inputs], [*outputs, log_probs])
    return {
        "protos": {"rnn": rnn, "criterion": Obj("nn.ClassNLLCriterion")},
        "opt": {"model": kind, "rnn_size": H, "num_layers": 2},
        "vocab": vocab, "val_losses": {1000: 2.5, 2000: 1.75}, "val_loss": 1.75,
        "i": 2000, "epoch": 4.5,
    } | fields  # fmt: skip


def _lstm(x, states, columns, linear, small):
    c, h = states
    sums = small("nn.CAddTable", linear(x, columns, 4 * H), linear(h, H, 4 * H))
    split = node(
        None, small("nn.SplitTable", small("nn.Reshape", sums)), nSplitOutputs=4
    )
    i, f, o, g = (node(None, split, selectindex=k) for k in (1, 2, 3, 4))
    i, f, o = (small("nn.Sigmoid", gate) for gate in (i, f, o))
    written = small("nn.CMulTable", i, small("nn.Tanh", g))
    next_c = small("nn.CAddTable", small("nn.CMulTable", f, c), written)
    return [next_c, small("nn.CMulTable", o, small("nn.Tanh", next_c))]


def _gru(x, states, columns, linear, small):
    [h] = states

    def gate():
        both = linear(x, columns, H), linear(h, H, H)
        return small("nn.Sigmoid", small("nn.CAddTable", *both))

    update, reset = gate(), gate()
    inner = linear(small("nn.CMulTable", reset, h), H, H)
    n = small("nn.Tanh", small("nn.CAddTable", linear(x, columns, H), inner))
    kept = small("nn.AddConstant", small("nn.MulConstant", update))
    products = small("nn.CMulTable", update, n), small("nn.CMulTable", kept, h)
    return [small("nn.CAddTable", *products)]


def _rnn(x, states, columns, linear, small):
    both = linear(x, columns, H), linear(states[0], H, H)
    return [small("nn.Tanh", small("nn.CAddTable", *both))]


def char_rnn_log_probs(checkpoint, ids):
    """The log-probabilities after each id, by running the graph node by node."""
    graph = checkpoint["protos"]["rnn"]
    size, inside = len(checkpoint["vocab"]), graph["innode"]["data"]
    inputs = [d for k, d in inside["mapindex"].items() if isinstance(k, int)]
    outputs = graph["outnode"]["data"]["mapindex"]
    states, found = [np.zeros(H)] * (len(inputs) - 1), []
    for id_ in ids:
        values = dict(zip(inputs, [np.eye(size)[id_], *states], strict=True))
        after = [
            _run(data, values) for k, data in outputs.items() if isinstance(k, int)
        ]
        states = after[:-1]
        found.append(after[-1])
    return np.array(found)


def _run(data, values):
    if data in values:
        return values[data]
    x = [_run(d, values) for k, d in data["mapindex"].items() if isinstance(k, int)]
    if "selectindex" in data:
        result = x[0][data["selectindex"] - 1]
    elif "nSplitOutputs" in data:
        result = x[0]
    else:
        result = _MODULES[data["module"].class_name](data["module"], *x)
    values[data] = result
    return result


_MODULES = {
    "OneHot": lambda m, x: x,
    "nn.Dropout": lambda m, x: x,
    "nn.Linear": lambda m, x: m["weight"].astype("f8") @ x + m["bias"],
    "nn.Sigmoid": lambda m, x: sigmoid(x),
    "nn.Tanh": lambda m, x: np.tanh(x),
    "nn.CAddTable": lambda m, x, y: x + y,
    "nn.CMulTable": lambda m, x, y: x * y,
    "nn.MulConstant": lambda m, x: -x,
    "nn.AddConstant": lambda m, x: 1 + x,
    "nn.Reshape": lambda m, x: x.reshape(4, H),
    "nn.SplitTable": lambda m, x: list(x),
    "nn.LogSoftMax": lambda m, x: x - np.log(np.exp(x).sum()),
}
