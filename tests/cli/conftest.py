"""Small untrained models on disk, and a command line run in this process."""

import jax
import numpy as np
import pytest

import charjax
from charjax import checkpoint
from charjax.cli import main

SYMBOLS = "\n abcdefgh"


def save(folder, name, symbols=SYMBOLS, loss=1.5, step=10, **data):
    config = charjax.default_config()
    config.data.update(data)
    spec = charjax.ModelSpec(hidden_size=6)
    params = charjax.init(jax.random.key(step), spec, charjax.Vocab(symbols))
    return checkpoint.save(
        folder / name,
        params,
        {"step": np.int32(step)},
        step=step,
        epoch=step / 10,
        loss=loss,
        loss_of="val",
        config=config.to_dict(),
        progress={"val": [] if loss is None else [[step, loss]]},
    )


@pytest.fixture(scope="session")
def cv(tmp_path_factory):
    """A folder of three runs; the better checkpoint is not the later one."""
    folder = tmp_path_factory.mktemp("cv")
    save(folder, "first", loss=1.25, step=10)
    save(folder, "first", loss=1.75, step=20)
    save(folder, "second", loss=1.5, step=30)
    save(folder, "bytes", symbols=bytes(range(200, 256)), loss=2.5)
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command: its exit status, output and errors."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run
