"""One small run on a text that would like to be markup, and its report."""

import json
import re
import shutil

import pytest

import charjax
from charjax import checkpoint, report
from charjax.storage.sealed import seal, unseal

TEXT = (
    'He said "<script>alert(1)</script>" & left.\n\n'
    "NAME:\n\tשלום עולם </script> <b>\u202eevil\u202c\u2028 <!-- x (y [z]) \x07\n"
) * 60


def make_config(folder, **fields):
    config = charjax.default_config()
    config.data.update(dir=str(folder / "text"), batch_size=5, seq_length=20)
    config.data.update(train_frac=0.8, val_frac=0.2)
    config.model.update(hidden_size=8, num_layers=1)
    config.optimizer.update(warmup_steps=5, learning_rate=1e-2)
    config.train.update(max_epochs=1, eval_every=0.25, print_every=2)
    config.train.update(run_name="a b", checkpoint_dir=str(folder / "cv"))
    config.sample.length = 30
    config.train.update(fields)
    return config


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run with its report.html."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "text").mkdir()
    (folder / "text" / "input.txt").write_text(TEXT, encoding="utf-8")
    run = charjax.train(make_config(folder, report=False), sinks=())
    report.after_run(run.path, lambda record: None)
    return run


@pytest.fixture(scope="session")
def data(run):
    return report.collect(run.path)


def reseal(run, **changes):
    """Changes a run's only checkpoint as its writer could have."""
    [path] = {path for path, _ in checkpoint.listing(run)}
    file = path / checkpoint.MANIFEST
    plain = unseal(file.read_bytes())
    file.write_bytes(seal(plain | changes))


def with_config(run, group, **fields):
    """Returns a run's configuration with some fields changed, as JSON has it."""
    identity = json.loads((run / "config.json").read_text())
    identity["config"][group] |= fields
    return identity


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run with its best checkpoint only."""
    path = tmp_path / "copy"
    shutil.copytree(run.path, path)
    for other, _ in checkpoint.listing(path):
        if other.name != run.best.name:
            shutil.rmtree(other)
    return path


def embedded(page):
    return json.loads(
        re.search(r'application/json" id="data">(.*?)</script>', page, re.S)[1]
    )
