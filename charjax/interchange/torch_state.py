"""A model's weights as the state dict of PyTorch's modules, and back.

    embedding.weight        (V, E)   torch.nn.Embedding; none for one-hot characters
    rnn.weight_ih_l0, ...   (GH, D)  torch.nn.LSTM, GRU or RNN, by layer
    readout.weight, .bias   (V, H)   torch.nn.Linear

The order of the gates is the same in both. A gate has two biases in PyTorch: the first
is charjax's and the second zero, but for the bias inside the GRU's reset gate. On the
way back they are added, so both ways every logit keeps its bits.

https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

README.md has the lines of PyTorch that sample from it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from charjax.errors import ConfigError
from charjax.interchange.named import Arrays, arrays_of, write_arrays
from charjax.model import ModelSpec, Params

_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_RNN = re.compile(r"(.*?)(weight|bias)_(ih|hh)_l(\d{1,4})")


def write_torch(params: Params, file: Path | str, *, loss: float | None = None) -> None:
    """Writes a state dict for PyTorch: `safetensors.torch.load_file` reads it.

    Args:
      params: the model; its cell is lstm, gru or rnn.
      file: a new file, whose name ends in `.safetensors`.
      loss: its validation loss in nats a character, if that is known.

    Raises:
      ConfigError: PyTorch has no such cell, there is such a file, or the package
        safetensors is missing.
      CheckpointError: it cannot be written.

    Example:
      >>> import charjax
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> write_torch(params, "torch.safetensors")  # doctest: +SKIP
    """
    write_arrays(Path(file), state_of(params), params, loss)


def state_of(params: Params) -> Arrays:
    """Returns a model's weights by PyTorch's names.

    Raises:
      ConfigError: PyTorch has no such cell.
    """
    spec, arrays = params.spec, arrays_of(params)
    if spec.cell not in _GATES or spec.zoneout:
        got = f"{spec.cell} with zoneout" if spec.zoneout else spec.cell
        raise ConfigError(
            f"the cell must be one of PyTorch's, {', '.join(_GATES)}; got {got}. Try "
            "--safetensors or --stablehlo."
        )
    embedding_VxE = arrays.get("embedding_VxE")
    state = {} if embedding_VxE is None else {"embedding.weight": embedding_VxE}
    for i in range(spec.num_layers):
        bias_GH = arrays[f"layers.{i}.bias_GH"]
        second_GH = np.zeros_like(bias_GH)
        if spec.cell == "gru":
            second_GH[2 * spec.hidden_size :] = arrays[f"layers.{i}.reset_bias_H"]
        state[f"rnn.weight_ih_l{i}"] = arrays[f"layers.{i}.input_DxGH"].T
        state[f"rnn.weight_hh_l{i}"] = arrays[f"layers.{i}.recurrent_HxGH"].T
        state[f"rnn.bias_ih_l{i}"] = bias_GH
        state[f"rnn.bias_hh_l{i}"] = second_GH
    readout_HxV = arrays.get("readout_HxV")
    tied = embedding_VxE if readout_HxV is None else readout_HxV.T
    assert tied is not None
    return state | {"readout.weight": tied, "readout.bias": arrays["readout_bias_V"]}


def is_state(arrays: Mapping[str, Any]) -> bool:
    """Returns whether arrays by name are those of a recurrent module of PyTorch."""
    return any(_RNN.fullmatch(name) for name in arrays)


def model_of(state: Mapping[str, np.ndarray]) -> tuple[ModelSpec, Arrays]:
    """Returns a model's spec and its arrays by charjax's names.

    The modules may have any names: they are told by their shapes. A cell of one gate is
    taken for a tanh RNN; a state dict does not say if it was of `relu`.

    Args:
      state: a state dict of one embedding or none, one recurrent module and one
        read-out.

    Raises:
      ConfigError: it is something else.
    """
    rnn, rest = {}, {}
    for name, array in state.items():
        match = _RNN.fullmatch(name)
        (rnn if match else rest)[match.group(2, 3, 4) if match else name] = array
    layers = [_matrix(rnn, "hh", i) for i in range(len({key[2] for key in rnn}))]
    hidden_size = layers[0].shape[1]
    gates = layers[0].shape[0] / max(hidden_size, 1)
    if len(rnn) != 4 * len(layers) or gates not in _GATES.values():
        raise ConfigError(
            "the recurrent module must be one torch.nn.LSTM, GRU or RNN with biases, "
            f"in one direction; got {len(rnn)} arrays of {len(layers)} layers"
        )
    cell = next(name for name, number in _GATES.items() if number == gates)
    arrays = _outer(rest, input_size=_matrix(rnn, "ih", 0).shape[1])
    for i in range(len(layers)):
        arrays |= _layer(rnn, i, cell, hidden_size)
    embedding = arrays.get("embedding_VxE")
    spec = ModelSpec(
        cell,
        hidden_size,
        len(layers),
        0 if embedding is None else embedding.shape[1],
        tied="readout_HxV" not in arrays,
    )
    return spec, arrays


def _layer(rnn: Mapping[Any, np.ndarray], i: int, cell: str, size: int) -> Arrays:
    """Returns the weights of one layer by charjax's names."""
    first_GH, second_GH = rnn["bias", "ih", str(i)], rnn["bias", "hh", str(i)]
    arrays = {
        f"layers.{i}.input_DxGH": _matrix(rnn, "ih", i).T,
        f"layers.{i}.recurrent_HxGH": _matrix(rnn, "hh", i).T,
    }
    if cell == "gru":
        arrays[f"layers.{i}.reset_bias_H"] = second_GH[2 * size :]
        second_GH = np.where(np.arange(len(second_GH)) < 2 * size, second_GH, 0)
    return arrays | {f"layers.{i}.bias_GH": first_GH + second_GH.astype(first_GH.dtype)}


def _matrix(rnn: Mapping[Any, np.ndarray], kind: str, i: int) -> np.ndarray:
    """Returns a matrix of a layer, after a check that its biases fit."""
    matrix = rnn.get(("weight", kind, str(i)))
    biases = [rnn.get(("bias", other, str(i))) for other in ("ih", "hh")]
    if matrix is None or matrix.ndim != 2 or not matrix.size:
        raise ConfigError(f"layer {i} must have two matrices; got another")
    if any(bias is None or bias.shape != matrix.shape[:1] for bias in biases):
        raise ConfigError(f"layer {i} must have two biases of its gates; got others")
    return matrix


def _outer(rest: Mapping[str, np.ndarray], input_size: int) -> Arrays:
    """Returns the embedding, if there is one, and the read-out, by charjax's names."""
    biased = [name.removesuffix(".bias") for name in rest if name.endswith(".bias")]
    lone = [name for name in rest if name.removesuffix(".weight") not in biased]
    lone = [name for name in lone if not name.endswith(".bias")]
    weight = rest.get(f"{biased[0]}.weight") if len(biased) == 1 else None
    if weight is None or len(lone) > 1:
        raise ConfigError(
            "there must be one embedding at most, and one read-out with its bias; got "
            f"{', '.join(sorted(rest))!r:.100}"
        )
    arrays = {"readout_bias_V": rest[f"{biased[0]}.bias"], "readout_HxV": weight.T}
    if lone:
        embedding_VxE = rest[lone[0]]
        arrays["embedding_VxE"] = embedding_VxE
        if embedding_VxE.ndim != 2 or embedding_VxE.shape[1] != input_size:
            raise ConfigError(
                f"the embedding must have {input_size} columns; got "
                f"{list(embedding_VxE.shape)!r:.60}"
            )
        if np.array_equal(embedding_VxE, weight):
            del arrays["readout_HxV"]
    return arrays
