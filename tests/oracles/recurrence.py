"""Cells as plain NumPy loops over time, from their equations alone."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn(params, x_TxBxD, h):
    outputs = []
    for x in x_TxBxD:
        h = np.tanh(x @ params.input_DxGH + h @ params.recurrent_HxGH + params.bias_GH)
        outputs.append(h)
    return np.stack(outputs)


def lstm(params, x_TxBxD, c, h):
    outputs = []
    for x in x_TxBxD:
        a = x @ params.input_DxGH + h @ params.recurrent_HxGH + params.bias_GH
        i, f, g, o = np.split(a, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def gru(params, x_TxBxD, h):
    outputs = []
    for x in x_TxBxD:
        a = x @ params.input_DxGH + params.bias_GH
        x_r, x_u, x_n = np.split(a, 3, axis=1)
        h_r, h_u, h_n = np.split(h @ params.recurrent_HxGH, 3, axis=1)
        r, u = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
        n = np.tanh(x_n + r * (h_n + params.reset_bias_H))
        h = (1 - u) * n + u * h
        outputs.append(h)
    return np.stack(outputs)


def gru_reset_before(params, x_TxBxD, h):
    outputs = []
    for x in x_TxBxD:
        a = x @ params.input_DxGH + params.bias_GH
        x_r, x_u, x_n = np.split(a, 3, axis=1)
        h_r, h_u = np.split(h @ params.recurrent_Hx2H, 2, axis=1)
        r, u = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
        n = np.tanh(x_n + (r * h) @ params.candidate_HxH)
        h = (1 - u) * n + u * h
        outputs.append(h)
    return np.stack(outputs)
