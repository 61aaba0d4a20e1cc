"""launch.py as a user runs it: flags, exit codes, Ctrl-C, a cell of the user's."""

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = "the quick brown fox jumps over the lazy dog. " * 60
SMALL = {
    "data.batch_size": 5,
    "data.seq_length": 20,
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "sample.length": 20,
    "train.report": False,
    "train.run_name": "run",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input.txt").write_text(TEXT)
    return tmp_path


def command(folder, *flags, config="configs/default.py", **fields):
    fields = (
        SMALL
        | {"data.dir": folder, "train.checkpoint_dir": folder / "cv"}
        | {name.replace("__", "."): value for name, value in fields.items()}
    )
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return [sys.executable, "launch.py", "--config", str(config), *overrides, *flags]


def launch(*arguments, **fields):
    return subprocess.run(
        command(*arguments, **fields),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_launch_shows_the_run_and_names_checkpoints_by_validation_loss(folder):
    done = launch(folder, train__max_epochs=1, train__print_every=10)
    assert done.returncode == 0, done.stderr
    for part in (
        "CPU", "2,700 characters, 28 distinct", "chunks    24 train, 2 val, 0 test",
        "parameters: layer 1", "loss", "bits/char", "chars/s", "left",
        "validation loss", "charjax sample",
    ):  # fmt: skip
        assert part in done.stdout
    assert "\x1b" not in done.stdout  # a pipe gets plain lines
    loss = re.search(r"validation loss (\d\.\d{4})", done.stdout)[1]
    assert (folder / "cv/run" / f"lm_lstm_epoch1.00_{loss}").is_dir()


def test_quiet_shows_the_result_alone_and_warnings_on_standard_error(folder):
    done = launch(folder, "--quiet", train__max_steps=8)
    assert done.returncode == 0, done.stderr
    best, how = done.stdout.splitlines()
    assert best.startswith(f"best checkpoint: {folder}/cv/run/lm_lstm_epoch")
    assert how == f"sample from it:  charjax sample {folder}/cv/run"
    assert done.stderr.startswith("warning   Only 26 chunks")
    assert done.stderr.count("\n") == 1


def test_a_terminal_gets_a_live_display_and_is_sound_after_ctrl_c(folder):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 90))
    long = command(folder, train__max_epochs=100_000, train__print_every=10)
    plain = {"NO_COLOR", "TERM"}
    environment = {k: v for k, v in os.environ.items() if k not in plain}
    process = subprocess.Popen(
        long, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave,
        env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    shown, stopping = "", False
    with contextlib.suppress(OSError):  # how a pseudo-terminal says that it ends
        while more := os.read(master, 1 << 16):
            shown += more.decode(errors="replace")
            if not stopping and shown.count("validation") > 2 and "| " in shown:
                stopping = True
                process.send_signal(signal.SIGINT)
    os.close(master)
    assert process.wait(timeout=60) == 130, shown
    for part in ("of 100000.00  step", "chars/s", " left", "training ", "best "):
        assert part in shown
    show, hide = "\x1b[?25h", "\x1b[?25l"  # the cursor
    assert shown.rfind(show) > shown.rfind(hide) > 0
    last = shown[shown.rfind(show) :]
    assert "the same command continues" in last
    assert last.count("\x1b") == 1


def read_until(process, text):
    """Returns the first line that holds a text, and fails where the output ends."""
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r}")


def test_ctrl_c_saves_and_the_same_command_continues(folder):
    long = command(folder, train__max_epochs=100_000, train__print_every=10)
    process = subprocess.Popen(long, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    read_until(process, "loss")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in out
    step = re.search(r"stopped at step ([\d,]+)", out)[1]
    process = subprocess.Popen(long, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert read_until(process, "resumed").endswith(f"step {step}\n")
    read_until(process, "loss")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


SLOW_SAVES = """
import time
from charjax import checkpoint, default_config

def save(*args, **fields):
    print("saving", flush=True)
    time.sleep(60)

checkpoint.save = save
get_config = default_config
"""


def test_a_second_process_is_refused_and_a_second_signal_ends_the_first_at_once(folder):
    config = folder / "slow_saves.py"
    config.write_text(SLOW_SAVES)
    fields = {"train__max_epochs": 100_000, "train__print_every": 10}
    fields |= {"train__eval_every": 10**9}
    first = subprocess.Popen(
        command(folder, config=config, **fields),
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    read_until(first, "loss")
    second = launch(folder, config=config, **fields)
    assert second.returncode == 2
    assert second.stderr.startswith("launch.py: error: ")
    assert second.stderr.count("\n") == 1
    for part in (folder / "cv/run", f"process {first.pid} on {os.uname().nodename}"):
        assert str(part) in second.stderr
    first.send_signal(signal.SIGINT)
    read_until(first, "saving")
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=30)
    assert first.returncode == 143
    assert "stopped at once" in out


def test_a_cell_registered_by_a_config_file_trains(folder):
    readme = (ROOT / "README.md").read_text()
    code = re.search(
        r'```python\n("""A recurrent cell of one gate.*?)```', readme, re.S
    )
    config = folder / "my_cell.py"
    config.write_text(code[1])
    done = launch(folder, config=config, train__max_steps=8)
    assert done.returncode == 0, done.stderr
    assert list((folder / "cv/run").glob("lm_my_cell_epoch*"))


def test_a_wrong_command_is_one_line_with_the_name_of_the_program():
    done = subprocess.run(
        [sys.executable, "launch.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("launch.py: error: ")
    assert "--config shakespeare_lstm" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_ends_the_run_quietly_and_saved(folder):
    words = command(folder, train__max_epochs=100_000, train__print_every=1)
    shell = f"{shlex.join(map(str, words))} | head -12; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (141, "")
    assert " loss " in done.stdout
    assert list((folder / "cv/run").glob("lm_lstm_epoch*"))


def test_a_run_without_output_streams_trains_and_finishes(folder):
    words = shlex.join(map(str, command(folder, "--quiet", train__max_steps=4)))
    done = subprocess.run(
        ["bash", "-c", f"{words} >&- 2>&-"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert (folder / "cv/run/summary.json").exists()
    lines = (folder / "cv/run/metrics.jsonl").read_text().splitlines()
    assert all(line.startswith("{") for line in lines)  # no text of a library


def test_the_last_line_samples_from_a_cell_of_your_own(folder, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(
        "import charjax\n"
        "from charjax.cells.base import sigmoid\n"
        "rnn = charjax.cells.get('rnn')\n"
        "def step(params, h, z, matmul):\n"
        "    h = sigmoid(z + matmul(h, params.recurrent_HxGH))\n"
        "    return h, h\n"
        "charjax.cells.register('own', rnn._replace(step=step))\n"
        "def get_config():\n"
        "    config = charjax.default_config()\n"
        "    config.model.cell = 'own'\n"
        "    return config\n"
    )
    done = launch(folder, "--quiet", config=config, train__max_steps=2)
    line = done.stdout.splitlines()[-1].removeprefix("sample from it:  charjax ")
    sample = [sys.executable, "-m", "charjax", *line.split(), "--length", "5"]
    subprocess.run(sample, cwd=ROOT, check=True)
