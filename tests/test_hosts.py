"""Several processes train one model: as one does, and none of them leaves alone."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import charjax
from charjax import hosts
from charjax.cli import main
from charjax.cli.arguments import parse
from charjax.errors import ConfigError
from tests.training.runs import untimed

# Lanes of the second process take more bytes a character than those of the first.
TEXT = "the quick brown fox jumps. " * 20 + "the quick bröwn föx jumps. " * 20

# Each of two processes trains a run to its end, another that a signal to the second
# process stops, and goes on with that.
TRAIN = """
import json, os, signal, sys
from charjax import hosts

folder, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
hosts.start(f"127.0.0.1:{port}", 2, process)
import charjax
from tests.test_hosts import make_config

pids = folder + "/pid"
if process == 1:
    open(pids, "w").write(str(os.getpid()))


def signal_the_other(record):
    if record["kind"] == "train" and record["step"] == 6:
        os.kill(int(open(pids).read()), signal.SIGTERM)


charjax.train(make_config(folder, "whole"), sinks=())
try:
    charjax.train(make_config(folder, "stopped"), sinks=[signal_the_other])
except charjax.Stopped as stopped:
    print("stopped", stopped.signum, charjax.checkpoint.read(
        charjax.checkpoint.find(folder + "/stopped", "latest")).step)
charjax.train(make_config(folder, "stopped"), sinks=())
try:
    charjax.train(make_config(folder, "whole", seed=1), sinks=())
except charjax.ConfigError as error:
    print("refused", "another configuration" in str(error))
"""


def make_config(folder, name, **train):
    config = charjax.default_config()
    config.data.update(dir=str(folder), batch_size=8, seq_length=10)
    config.data.update(train_frac=0.7, val_frac=0.2)  # and a test split
    config.model.update(hidden_size=8, num_layers=1, dropout=0.3)
    config.train.update(checkpoint_dir=str(folder), report=False, max_epochs=2)
    config.train.update(print_every=1, eval_every=5, steps_per_dispatch=2)
    config.train.update(run_name=name, reset_rate=0.2, **train)
    config.sample.length = 5
    return config


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input.txt").write_text(TEXT, "utf-8")
    return tmp_path


def lines_of(path):
    return list(map(json.loads, (path / "metrics.jsonl").read_text().splitlines()))


def test_two_processes_train_as_one_and_stop_together(folder):
    command = [sys.executable, "-c", TRAIN, str(folder), str(free_port())]
    both = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True)
        for i in (0, 1)
    ]
    said = [one.communicate(timeout=300)[0].splitlines() for one in both]
    assert [one.returncode for one in both] == [0, 0]
    said = [[x for x in lines if "Gloo" not in x] for lines in said]
    assert said[0] == said[1]
    word, signum, step = said[0][0].split()
    assert (word, int(signum)) == ("stopped", signal.SIGTERM)
    assert 6 <= int(step) <= 12
    assert said[0][1:] == ["refused True"]
    whole = lines_of(folder / "whole")
    assert untimed(whole) == untimed(lines_of(folder / "stopped"))
    alone = charjax.train(make_config(folder, "alone"), sinks=())
    for key in ("loss", "bits_per_byte", "step", "kind"):
        values = [[r[key] for r in run] for run in (whole, alone.history)]
        if key in ("loss", "bits_per_byte"):
            np.testing.assert_allclose(*values, rtol=1e-5)
        else:
            assert values[0] == values[1]
    assert {r["kind"] for r in whole} == {"train", "val", "test"}


def test_a_process_whose_other_is_killed_ends_soon_and_says_so_in_one_line(folder):
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "charjax", "train", "--quiet", str(folder)]
    fields = {"data.batch_size": 8, "data.seq_length": 10, "model.hidden_size": 8,
              "train.max_epochs": 1000, "train.checkpoint_dir": folder / "cv",
              "train.print_every": 1}  # fmt: skip
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    command += ["--coordinator", address, "--processes", "2", "--process"]
    leader, other = (
        subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True)
        for i in (0, 1)
    )
    metrics = folder / "cv" / f"{folder.name}_lstm" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.2)
    other.kill()
    other.communicate()
    started = time.monotonic()
    said = leader.communicate(timeout=60)[1]
    assert time.monotonic() - started < 15
    assert leader.returncode == 2
    assert (
        said.strip()
        .splitlines()[-1]
        .startswith("charjax: error: the processes must all go on; another one failed")
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--processes", "2", "--coordinator", "a:1"], "must be given together"),
        (["--coordinator", "a:1"], "must be given together"),
        (["--processes", "2", "--process", "0"], "must be given together"),
        (["--coordinator", "a:1", "--processes", "2", "--process", "2"], "from 0 to 1"),
        (["--coordinator", "a", "--processes", "2", "--process", "0"], "Try a:4321"),
        (["--coordinator", "a:1", "--processes", "0", "--process", "0"], "at least 1"),
        (["--distributed"], "the processes must find each other"),
    ],
)  # fmt: skip
def test_wrong_flags_are_one_line(flags, said, folder, capsys):
    assert main(["train", str(folder), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_lanes_that_processes_cannot_share_are_refused(monkeypatch):
    import jax

    from charjax.parallel import make_mesh

    monkeypatch.setattr(hosts, "count", lambda: 3)
    with pytest.raises(
        ConfigError, match=r"divide data.batch_size, 50; got 3. Try .*48"
    ):
        make_mesh(jax.devices()[0], 1, 50)


def blocks_of_readme(language):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)


def test_the_job_scripts_in_the_readme_are_valid():
    (script,) = blocks_of_readme("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (manifest,) = blocks_of_readme("yaml")
    jobset = yaml.safe_load(manifest)
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    line = container["command"][-1].replace("$JOB_COMPLETION_INDEX", "1")
    by_slurm, by_flags = (
        parse(shlex.split(command.removeprefix("srun "))[1:], "charjax")
        for command in (script.splitlines()[-1], line)
    )
    assert by_slurm.distributed
    assert (by_flags.processes, by_flags.process) == (2, 1)
    assert job["parallelism"] == job["completions"] == by_flags.processes
