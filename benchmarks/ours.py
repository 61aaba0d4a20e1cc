"""charjax at work, by the functions that launch.py and charjax.sample call."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workers import Turn
from charjax.devices import keep_compilations
from charjax.unroll.precision import matmul_in

keep_compilations()  # as launch.py does


def text_of(num_symbols: int, length: int) -> str:
    """Returns random characters, every one of `num_symbols` at least once."""
    symbols = np.array([chr(33 + i) for i in range(num_symbols)])
    drawn = np.random.default_rng(0).integers(0, num_symbols, length)
    return "".join(symbols[np.concatenate([np.arange(num_symbols), drawn])])


def train(*, batch: int, length: int, steps: int, vocab: int, **config: Any) -> Turn:
    """Returns the work of training steps, from encoded text to losses on the host."""
    from charjax.config import check_config, default_config
    from charjax.training import setup

    with tempfile.TemporaryDirectory() as folder:
        text = text_of(vocab, batch * length * 40)
        Path(folder, "input.txt").write_text(text)
        full = default_config()
        full.data.update(dir=folder, batch_size=batch, seq_length=length)
        full.optimizer.name = "adam"
        for field, value in config.items():
            group, name = field.split("__")
            full[group][name] = value
        full = check_config(full)
        corpus = setup.open_text(full, lambda line: None)
        params = setup.first_params(full, corpus.vocab)
        plan = setup.make_plan(full, corpus, params)
        state = setup.first_state(plan, params)
        # In memory, since the text is deleted with its folder.
        windows = [plan.window(i, 8) for i in range(2)]

    def turn() -> None:
        nonlocal state
        for i in range(steps // 8):
            state, metrics = plan.advance(state, windows[i % 2], np.int32(8))
            np.asarray(metrics.loss_K)

    return turn


def peak(*, size: int, products: int, precision: str = "float32") -> Turn:
    """Returns the work of multiplying two square matrices `products` times."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    product = jax.jit(matmul_in(precision))

    def turn() -> None:
        for _ in range(products):
            product(a, a).block_until_ready()

    return turn


def evaluate(
    *,
    batch: int,
    length: int,
    vocab: int,
    hidden: int,
    layers: int,
    precision: str = "float32",
) -> Turn:
    """Returns the work of evaluating 20 chunks."""
    import charjax
    from charjax.text.streams import split_corpus

    text = text_of(vocab, batch * length * 24)
    symbols = charjax.Vocab.of(text)
    spec = charjax.ModelSpec(hidden_size=hidden, num_layers=layers)
    params = charjax.init(jax.random.key(0), spec, symbols)
    execution = charjax.Execution(precision=precision)
    lanes = split_corpus(
        symbols.encode(text[: batch * (length * 20 + 1)]),
        batch_size=batch,
        seq_length=length,
        train_frac=1.0,
        val_frac=0.0,
    ).train

    def turn() -> None:
        charjax.evaluate(params, lanes, execution=execution)

    return turn


def sample(
    *,
    vocab: int,
    hidden: int,
    layers: int,
    length: int,
    texts: int | None = None,
    cell: str = "lstm",
    precision: str = "float32",
    top_k: int = 0,
    top_p: float = 1.0,
) -> Turn:
    """Returns the work of drawing `length` characters for each of some texts."""
    import charjax

    symbols = charjax.Vocab.of(text_of(vocab, 0))
    spec = charjax.ModelSpec(cell=cell, hidden_size=hidden, num_layers=layers)
    params = charjax.init(jax.random.key(0), spec, symbols)
    execution = charjax.Execution(precision=precision)

    def turn() -> None:
        charjax.sample(  # pyright: ignore[reportCallIssue]
            params,
            length=length,
            num_samples=texts,  # pyright: ignore[reportArgumentType]
            top_k=top_k,
            top_p=top_p,
            execution=execution,
        )

    return turn
