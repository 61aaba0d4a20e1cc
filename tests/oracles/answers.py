"""The loss of an LSTM over the targets that count, one by one, in NumPy."""

import numpy as np

from tests.oracles.recurrence import lstm


def counted_nats(params, x_TxB, y_TxB, counts_TxB, smoothing=0.0):
    """The mean of `-log p` over the targets that count, from the zero state.

    For one layer of an LSTM on one-hot characters, with float64 weights.
    """
    V, H = params.layers[0].input_DxGH.shape[0], params.readout_HxV.shape[0]
    zero_BxH = np.zeros((x_TxB.shape[1], H))
    h_TxBxH = lstm(params.layers[0], np.eye(V)[x_TxB], zero_BxH, zero_BxH)
    total, number = 0.0, 0
    for t, b in zip(*np.nonzero(counts_TxB), strict=True):
        logits_V = h_TxBxH[t, b] @ params.readout_HxV + params.readout_bias_V
        log_probs_V = logits_V - np.log(np.exp(logits_V).sum())
        target_V = (1 - smoothing) * np.eye(V)[y_TxB[t, b]] + smoothing / V
        total -= target_V @ log_probs_V
        number += 1
    return total / number
