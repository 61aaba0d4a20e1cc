"""Output of all commands to closed, full, broken, narrow and terminal streams."""

import dataclasses
import io
import json
import subprocess
import sys

import pytest

import charjax
from charjax.cli import main
from tests.cli.conftest import save

HOSTILE = "lstm\x1b]0;title\x07\x1b[31m"


@pytest.fixture(scope="module")
def commands(cv, tmp_path_factory):
    """A command line for each verb, all of which succeed and print something."""
    folder = tmp_path_factory.mktemp("text")
    text = folder / "text.txt"
    text.write_text("abc abc\n" * 200)
    (folder / "input.txt").write_text("abc abc\n" * 200)
    small = {
        "data.dir": folder, "data.batch_size": 2, "data.seq_length": 8,
        "model.hidden_size": 4, "model.num_layers": 1, "train.max_steps": 2,
        "train.report": False, "train.checkpoint_dir": folder / "cv",
    }  # fmt: skip
    fields = [f"--config.{name}={value}" for name, value in small.items()]
    lines = [
        ["train", "--config=default", "--config.train.run_name=run", *fields],
        ["sample", cv / "first", "--length", "5"],
        ["sample", cv / "bytes", "--length", "5", "--num-samples", "2"],
        ["next", cv / "first"],
        ["score", cv / "first", text],
        ["novel", text, text],
        ["inspect", cv / "first"],
        ["list", cv],
        ["report", folder / "cv" / "run"],
        ["compare", folder / "cv" / "run"],
        ["recipes"],
        ["completion", "zsh"],
        ["train", "--help"],
        ["--version"],
    ]
    return [[str(word) for word in line] for line in lines]


# Runs command lines in one process, each with a fresh standard output.
CHILD = """
import json, os, sys
import charjax.report
from charjax.cli import main

charjax.report.write = lambda path: path  # it prints nothing itself
how, lines, results = sys.argv[1], json.loads(sys.argv[2]), []
for line in lines:
    sys.stdout = None
    os.close(1)
    if how == "broken":
        read, write = os.pipe()
        if write != 1:  # where the lowest free number was the other one's
            read = os.dup(read) if read == 1 else read
            os.dup2(write, 1)
            os.close(write)
        os.close(read)
        sys.stdout = os.fdopen(1, "w", closefd=False)
    results.append(main(line))
sys.stderr.write(json.dumps(results))
"""


def statuses(how, commands):
    child = [sys.executable, "-c", CHILD, how, json.dumps(commands)]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    return json.loads(done.stderr)  # which fails where there is more, such as an error


def test_a_closed_standard_output_is_as_good_as_dev_null(commands):
    assert statuses("closed", commands) == [0] * len(commands)


def test_a_reader_that_has_left_ends_every_command_quietly_with_141(commands):
    assert statuses("broken", commands) == [141] * len(commands)


class Narrow(io.TextIOWrapper):
    """A standard output of an encoding, that may be a terminal."""

    def __init__(self, encoding, is_terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding)
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


def printed(monkeypatch, arguments, encoding="utf-8", is_terminal=False):
    stream = Narrow(encoding, is_terminal)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main([str(argument) for argument in arguments]) == 0
        return stream.text()


@pytest.fixture(scope="module")
def greek(tmp_path_factory):
    return save(tmp_path_factory.mktemp("\u03b4") / "cv", "run", symbols="\u03b1\u03b2")


def test_what_an_encoding_lacks_is_escaped(greek, monkeypatch, tmp_path):
    text = tmp_path / "text"
    text.write_text("\u03b1\u03b2\u03b1", "utf-8")
    for arguments in (
        ["sample", greek, "--length", "20"],
        ["next", greek],
        ["inspect", greek],
        ["list", greek.parent],
    ):
        wide = printed(monkeypatch, arguments)
        narrow = printed(monkeypatch, arguments, "ascii")
        assert wide != narrow
        assert narrow == wide.encode("ascii", "backslashreplace").decode()
    printed(monkeypatch, ["score", greek, text], "ascii")
    printed(monkeypatch, ["recipes"], "ascii")


def test_a_terminal_sees_no_control_characters_and_a_pipe_sees_them_all(
    monkeypatch, tmp_path
):
    path = save(tmp_path, "run", symbols="a\t\x1b\x9b\n")
    command = ["sample", path, "--length", "60"]
    text = charjax.sample(charjax.load(path), length=60) + "\n"
    assert printed(monkeypatch, command) == text
    shown = text.replace("\t", "    ")
    shown = shown.replace("\x1b", "\ufffd").replace("\x9b", "\ufffd")
    assert printed(monkeypatch, command, is_terminal=True) == shown != text


def test_a_terminal_sees_the_characters_that_bytes_spell(monkeypatch, tmp_path):
    path = save(tmp_path, "run", symbols=bytes([0x41, 0xC3, 0xA9, 0x1B]))
    command = ["sample", path, "--length", "60"]
    raw = charjax.sample(charjax.load(path), length=60)
    shown = raw.decode("utf-8", "replace").replace("\x1b", "\ufffd") + "\n"
    assert "\u00e9" in shown
    assert printed(monkeypatch, command, is_terminal=True) == shown


def test_nothing_that_a_checkpoint_holds_reaches_the_terminal_as_a_command(
    monkeypatch, run, tmp_path
):
    path = save(tmp_path, "run")
    read = charjax.checkpoint.read(path)
    spec = read.spec | {"cell": HOSTILE}
    hostile = dataclasses.replace(read, spec=spec)
    entries = [(path, hostile), (path, charjax.CheckpointError(HOSTILE))]
    monkeypatch.setattr("charjax.checkpoint.listing", lambda root: entries)
    status, out, err = run("list", tmp_path)
    assert (status, err) == (0, "")
    assert out.count("lstm\ufffd") == 2  # in the row, and in what is damaged
    assert "\x1b" not in out
    assert "\x07" not in out


def test_an_error_names_what_a_user_typed_without_its_control_characters(run):
    status, _, err = run("list", "no\x1b[31m/such\nfolder")
    assert status == 2
    assert "\x1b" not in err
    assert err.count("\n") == 1
