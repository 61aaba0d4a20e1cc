"""PyTorch at the same work, with the fast options that it offers."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from benchmarks.workers import Turn

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def has_bfloat16() -> bool:
    """Returns whether PyTorch's LSTM runs in bfloat16 on this CPU."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


class CharModel(nn.Module):
    """One-hot characters, recurrent layers, a linear read-out."""

    def __init__(self, cell: str, vocab: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.vocab = vocab
        self.recurrent = LAYERS[cell](vocab, hidden, layers)
        self.readout = nn.Linear(hidden, vocab)

    def forward(self, ids_TxB: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Returns the logits, time-major, and the state after the last character."""
        x = nn.functional.one_hot(ids_TxB, self.vocab).float()
        h_TxBxH, state = self.recurrent(x, state)
        return self.readout(h_TxBxH), state


def detached(state: Any) -> Any:
    """Returns the state cut off from the graph of earlier chunks."""
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return state.detach()


def train(
    *,
    cell: str,
    vocab: int,
    hidden: int,
    layers: int,
    batch: int,
    length: int,
    steps: int,
    bfloat16: bool = False,
) -> Turn:
    """Returns the work of training steps, truncated back-propagation through time."""
    torch.manual_seed(0)
    net = CharModel(cell, vocab, hidden, layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
    ids_LxB = torch.randint(vocab, (8 * length + 1, batch))
    state = None

    def step(i: int) -> None:
        nonlocal state
        first = i % 8 * length
        x_TxB = ids_LxB[first : first + length]
        y_TxB = ids_LxB[first + 1 : first + length + 1]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits_TxBxV, state = net(x_TxB, state)
            loss = nn.functional.cross_entropy(
                logits_TxBxV.reshape(-1, vocab), y_TxB.reshape(-1)
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0, foreach=True)
        optimizer.step()
        state = detached(state)
        loss.item()

    def turn() -> None:
        for i in range(steps):
            step(i)

    return turn


def sample(*, vocab: int, hidden: int, layers: int, length: int, module: str) -> Turn:
    """Returns the work of drawing characters from nn.LSTM or nn.LSTMCell."""
    torch.manual_seed(0)
    net = CharModel("lstm", vocab, hidden, layers).eval()
    inputs = [vocab] + [hidden] * (layers - 1)
    cells = [nn.LSTMCell(size, hidden).eval() for size in inputs]
    rows = torch.eye(vocab)

    def by_layer() -> None:
        x, state = torch.zeros(1, 1, dtype=torch.long), None
        for _ in range(length):
            logits_1x1xV, state = net(x, state)
            x = torch.multinomial(torch.softmax(logits_1x1xV[0], -1), 1)

    def by_cell() -> None:
        x = torch.zeros(1, dtype=torch.long)
        states: list[Any] = [None] * layers
        for _ in range(length):
            h = rows[x]
            for i, cell in enumerate(cells):
                states[i] = cell(h, states[i])
                h = states[i][0]
            x = torch.multinomial(torch.softmax(net.readout(h), -1), 1)[0]

    draw = by_layer if module == "LSTM" else by_cell

    def turn() -> None:
        with torch.inference_mode():
            draw()

    return turn
