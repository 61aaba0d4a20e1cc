"""Dynamic evaluation of a plain RNN as slow loops, from its equations alone."""

import numpy as np


def evaluate(w, stats, ids, *, rule, chunk_length, rate, decay, epsilon):
    """Returns log_probs_TxV and the last weights.

    Weights and root mean squares are dicts: `W_VxH U_HxH b_H R_HxV c_V`.
    """
    trained = {name: value.astype(np.float64) for name, value in w.items()}
    w = {name: value.copy() for name, value in trained.items()}
    h, log_probs = np.zeros(len(w["b_H"])), []
    for first in range(0, len(ids), chunk_length):
        chunk = ids[first : first + chunk_length]
        states = [h]
        for x in chunk:
            h = np.tanh(w["W_VxH"][x] + h @ w["U_HxH"] + w["b_H"])
            logits = h @ w["R_HxV"] + w["c_V"]
            log_probs.append(logits - np.log(np.exp(logits).sum()))
            states.append(h)
        targets = ids[first + 1 : first + 1 + chunk_length]
        if len(targets) < chunk_length:
            break
        g = _gradient(w, chunk, targets, states, log_probs[-chunk_length:])
        w = _step(w, trained, g, stats, rule, rate, decay, epsilon)
    return np.array(log_probs), w


def _gradient(w, chunk, targets, states, log_probs):
    """The gradient of the chunk's mean loss by backpropagation through time."""
    g = {name: np.zeros_like(value) for name, value in w.items()}
    dh_later = 0.0
    for t in reversed(range(len(chunk))):
        dlogits = np.exp(log_probs[t]) / len(chunk)
        dlogits[targets[t]] -= 1 / len(chunk)
        h, last_h = states[t + 1], states[t]
        g["R_HxV"] += np.outer(h, dlogits)
        g["c_V"] += dlogits
        dz = (w["R_HxV"] @ dlogits + dh_later) * (1 - h**2)
        g["W_VxH"][chunk[t]] += dz
        g["U_HxH"] += np.outer(last_h, dz)
        g["b_H"] += dz
        dh_later = w["U_HxH"] @ dz
    return g


def _step(w, trained, g, stats, rule, rate, decay, epsilon):
    if rule == "sgd":
        return {n: w[n] - rate * g[n] + decay * (trained[n] - w[n]) for n in w}
    total = sum(float(r.sum()) for r in stats.values())
    mean = total / sum(r.size for r in stats.values())
    new = {}
    for n in w:
        r = stats[n].astype(np.float64) / mean
        back = np.minimum(decay * r, 1) * (trained[n] - w[n])
        new[n] = w[n] - rate * g[n] / (mean * (r + epsilon)) + back
    return new
