"""More cells as NumPy loops over time, written from the equations of their papers.

Each returns the outputs `h_TxBxH`, and the gates `TxBxH` by name.
"""

import numpy as np

from tests.oracles.recurrence import sigmoid


def stacked(outputs, gates):
    names = gates[0] if gates else ()
    return np.stack(outputs), {n: np.stack([g[n] for g in gates]) for n in names}


def multiplicative_rnn(params, x_TxBxD, h):
    """Sutskever et al. (2011), equations 8 and 9, with a bias."""
    outputs, dense = [], params.dense
    for x in x_TxBxD:
        h_next = []
        for b in range(len(x)):
            diagonal = np.diag(x[b] @ params.input_DxH)
            m = diagonal @ (h[b] @ params.recurrent_HxH)
            a = x[b] @ dense.input_DxGH + m @ dense.recurrent_HxGH + dense.bias_GH
            h_next.append(np.tanh(a))
        h = np.stack(h_next)
        outputs.append(h)
    return stacked(outputs, [])


def multiplicative_lstm(params, x_TxBxD, c, h):
    """Krause et al. (2016), section 3."""
    outputs, gates, dense = [], [], params.dense
    for x in x_TxBxD:
        m = (x @ params.input_DxH) * (h @ params.recurrent_HxH)
        a = x @ dense.input_DxGH + m @ dense.recurrent_HxGH + dense.bias_GH
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
        c = f * c + i * np.tanh(g)
        h = np.tanh(c) * o
        outputs.append(h)
        gates.append({"input": i, "forget": f, "output": o})
    return stacked(outputs, gates)


def peephole_lstm(params, x_TxBxD, c, h):
    """Graves (2013), equations 7 to 11; W_ci, W_cf and W_co are diagonal matrices."""
    outputs, gates = [], []
    W_ci, W_cf, W_co = (np.diag(p) for p in np.split(params.peepholes_3H, 3))
    for x in x_TxBxD:
        a = x @ params.input_DxGH + h @ params.recurrent_HxGH + params.bias_GH
        a_i, a_f, a_c, a_o = np.split(a, 4, axis=1)
        i = sigmoid(a_i + c @ W_ci)
        f = sigmoid(a_f + c @ W_cf)
        c = f * c + i * np.tanh(a_c)
        o = sigmoid(a_o + c @ W_co)
        h = o * np.tanh(c)
        outputs.append(h)
        gates.append({"input": i, "forget": f, "output": o})
    return stacked(outputs, gates)


def slstm(params, x_TxBxD, ratio, log_n, h):
    """Beck et al. (2024), equations 8 to 17, with the stabiliser m carried as there."""
    outputs, gates = [], []
    m = np.zeros_like(h)
    n = np.exp(log_n)
    c = ratio * n
    for x in x_TxBxD:
        a = x @ params.input_DxGH + h @ params.recurrent_HxGH + params.bias_GH
        i, f, z, o = np.split(a, 4, axis=1)
        f, z, o = sigmoid(f), np.tanh(z), sigmoid(o)
        m_next = np.maximum(np.log(f) + m, i)
        i = np.exp(i - m_next)
        f_stable = np.exp(np.log(f) + m - m_next)
        m = m_next
        c = f_stable * c + i * z
        n = f_stable * n + i
        h = o * c / n
        outputs.append(h)
        gates.append({"input": i / n, "forget": f, "output": o})
    return stacked(outputs, gates)


def min_gru(params, x_TxBxD, h):
    """Feng et al. (2024), section 3.1."""
    outputs, gates = [], []
    for x in x_TxBxD:
        z, new = np.split(x @ params.input_DxGH + params.bias_GH, 2, axis=1)
        z = sigmoid(z)
        h = (1 - z) * h + z * new
        outputs.append(h)
        gates.append({"update": z})
    return stacked(outputs, gates)


def min_lstm(params, x_TxBxD, h):
    """Feng et al. (2024), section 3.2."""
    outputs, gates = [], []
    for x in x_TxBxD:
        f, i, new = np.split(x @ params.input_DxGH + params.bias_GH, 3, axis=1)
        f, i = sigmoid(f), sigmoid(i)
        h = f / (f + i) * h + i / (f + i) * new
        outputs.append(h)
        gates.append({"forget": f, "input": i})
    return stacked(outputs, gates)


def rg_lru(params, x_TxBxD, h):
    """De et al. (2024), equations 1 to 4, after a linear layer."""
    outputs, gates, c = [], [], 8
    W_a, W_x = np.split(params.gates_Hx2H, 2, axis=1)
    b_a, b_x = np.split(params.gate_bias_2H, 2)
    for x in x_TxBxD:
        y = x @ params.input_DxH + params.bias_H
        r, i = sigmoid(y @ W_a + b_a), sigmoid(y @ W_x + b_x)
        a = sigmoid(params.decay_H) ** (c * r)
        h = a * h + np.sqrt(1 - a**2) * (i * y)
        outputs.append(h)
        gates.append({"recurrence": r, "input": i})
    return stacked(outputs, gates)


def norm(a, gain, bias):
    mean = a.mean(axis=-1, keepdims=True)
    return gain * (a - mean) / np.sqrt(a.var(axis=-1, keepdims=True) + 1e-5) + bias


def layer_norm_lstm(params, x_TxBxD, c, h):
    """Ba et al. (2016), equations 20 and 21, without the norm of the memory."""
    outputs, gates, dense = [], [], params.cell
    (gain_x, gain_h), (bias_x, bias_h) = params.gains, params.biases
    for x in x_TxBxD:
        a = norm(x @ dense.input_DxGH, gain_x, bias_x) + dense.bias_GH
        a += norm(h @ dense.recurrent_HxGH, gain_h, bias_h)
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
        gates.append({"input": sigmoid(i), "forget": sigmoid(f), "output": sigmoid(o)})
    return stacked(outputs, gates)


def mogrifier_lstm(params, x_TxBxD, c, h):
    """Melis et al. (2020), equations 1 and 2, for any number of rounds."""
    outputs, gates, lstm = [], [], params.cell
    rounds = len(params.gate_input) + len(params.gate_state)
    for x in x_TxBxD:
        for i in range(1, rounds + 1):
            if i % 2:
                x = 2 * sigmoid(h @ params.gate_input[(i - 1) // 2]) * x
            else:
                h = 2 * sigmoid(x @ params.gate_state[i // 2 - 1]) * h
        a = x @ lstm.input_DxGH + h @ lstm.recurrent_HxGH + lstm.bias_GH
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
        gates.append({"input": sigmoid(i), "forget": sigmoid(f), "output": sigmoid(o)})
    return stacked(outputs, gates)
