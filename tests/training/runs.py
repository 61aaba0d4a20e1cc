"""A small run, and what tests do with it."""

import signal

import jax
import numpy as np

import charjax

TEXT = "the quick brown fox jumps over the lazy dog. " * 41


def make_config(folder, **fields):
    """A run of 3 epochs of 16 steps on a text of 18 chunks."""
    config = charjax.default_config()
    config.data.update(dir=str(folder / "text"), batch_size=5, seq_length=20)
    config.data.update(train_frac=0.89, val_frac=0.06)
    config.model.update(hidden_size=8, num_layers=1, dropout=0.2)
    config.optimizer.warmup_steps = 5
    config.train.update(max_epochs=3, print_every=4, checkpoint_dir=str(folder / "cv"))
    config.train.update(run_name="run", steps_per_dispatch=4, report=False)
    config.sample.length = 10
    for field, value in fields.items():
        group, name = field.split("__")
        config[group][name] = value
    return config


def quiet(config):
    return charjax.train(config, sinks=())


def weights_of(path):
    return jax.tree.map(np.asarray, charjax.load(path, which="latest"))


def untimed(records):
    timing = {"seconds", "seconds_left", "chars_per_second"}
    return [{k: v for k, v in r.items() if k not in timing} for r in records]


def assert_same_end(run, whole):
    """Compares records and last weights, bit for bit."""
    assert untimed(run.history) == untimed(whole.history)
    jax.tree.map(
        np.testing.assert_array_equal, weights_of(run.path), weights_of(whole.path)
    )


class Killed(BaseException):
    """Ends a run at once, as no error of a sink does."""


class StopAt:
    """A sink that sends a signal when the losses up to that step arrive."""

    def __init__(self, step, signum=signal.SIGINT):
        self.step, self.signum = step, signum

    def __call__(self, record):
        if (record["kind"], record.get("step")) == ("train", self.step):
            signal.raise_signal(self.signum)
