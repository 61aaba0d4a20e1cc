"""`charjax lr`: the learning-rate range test of a configuration."""

import argparse

import numpy as np

from charjax.cli.output import say, warn
from charjax.cli.train import config_of
from charjax.devices import keep_compilations
from charjax.training.rates import find_rate

_ROWS, _WIDTH = 25, 50


def show_rates(args: argparse.Namespace) -> None:
    """Prints the loss at each rate as a curve, and the rate that it suggests."""
    config = config_of(args)
    keep_compilations(warn)
    found = find_rate(
        config, lowest=args.low, highest=args.high, num_steps=args.steps, say=say
    )
    rows = np.unique(np.linspace(0, len(found.rates) - 1, _ROWS).round().astype(int))
    low, high = float(found.losses.min()), float(found.losses.max())
    say(f"{'rate':>8}  {'loss':>7}")
    for rate, loss in zip(found.rates[rows], found.losses[rows], strict=True):
        bar = "#" * round(_WIDTH * (loss - low) / max(high - low, 1e-9))
        say(f"{rate:8.1e}  {loss:7.4f}  {bar}")
    say(f"suggestion: --config.optimizer.learning_rate={found.suggestion:.1e}")
