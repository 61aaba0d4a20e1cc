"""Errors, exit statuses and signals of all commands."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import charjax
from tests.cli.conftest import save

ROOT = Path(__file__).parent.parent.parent


def test_prepare_encodes_a_folder_under_data(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "input.txt").write_text("abcabc")
    status, out, _ = run("prepare", "mine")
    assert status == 0
    assert "6 characters, 3 distinct" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["sample"], ["next", "--top", "0"]])
def test_output_that_takes_no_more_is_one_line(cv, arguments):
    command = [sys.executable, "-m", "charjax", *arguments, cv / "first"]
    with open("/dev/full", "w") as full:
        out = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert out.returncode == 2
    assert out.stderr == b"charjax: error: standard output: No space left on device\n"


def test_an_imported_file_may_register_the_cell_of_a_checkpoint(tmp_path):
    cell_file = tmp_path / "my_cell.py"
    cell_file.write_text(
        "import charjax\n"
        "charjax.cells.register('from_a_file', charjax.cells.get('rnn'))\n"
    )
    make = (
        "import sys, jax, charjax, numpy as np\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import my_cell\n"
        "from charjax import checkpoint\n"
        "spec = charjax.ModelSpec(cell='from_a_file', hidden_size=4)\n"
        "params = charjax.init(jax.random.key(0), spec, charjax.Vocab('ab'))\n"
        f"checkpoint.save({str(tmp_path / 'run')!r}, params, {{}}, step=1, epoch=1.0,"
        " loss=1.0, loss_of='val', config={}, progress={})\n"
    )
    subprocess.run([sys.executable, "-c", make], check=True)
    command = [sys.executable, "-m", "charjax"]
    sample = ["sample", str(tmp_path / "run"), "--length", "5"]
    without = subprocess.run(
        [*command, *sample], capture_output=True, text=True, check=False
    )
    assert without.returncode == 2
    assert "--import FILE.py" in without.stderr
    assert without.stderr.count("\n") == 1
    subprocess.run([*command, "--import", str(cell_file), *sample], check=True)


@pytest.mark.parametrize(("arguments", "message"), [
    (["sample", "{cv}/first", "--prime", "aXb"], "'X' .U.0058. at position 1"),
    (["sample", "{cv}/first", "--temperature", "-1"], "temperature"),
    (["sample", "{cv}/first", "--temperature", "nan"], "temperature"),
    (["sample", "{cv}/first", "--length", "-3"], "length"),
    (["sample", "{cv}/fist"], "near it: .*first"),
    (["sample", "{cv}/first", "--prime-file", "no/such/file"], "no/such/file"),
    (["next", "{cv}/first", "--top", "-2"], "--top must be at least 0; got -2"),
    (["score", "{cv}/first", "no/such/file"], "no/such/file"),
    (["inspect", "{cv}/none/at/all"], "not there"),
    (["list", "{cv}/none"], "no checkpoint below"),
    (["prepare", "no_such_set"], "no_such_set"),
    (["--import", "no/file.py", "list"], "--import must be an existing Python file"),
    (["list", "{cv}", "--no-such-option"], "unrecognized arguments: --no-such-option"),
    (["sample"], "required: path.*Try charjax sample --help"),
    (["sample", "{cv}", "--length", "x"], "--length: invalid int value: 'x'"),
    ([], "required: VERB"),
])  # fmt: skip
def test_bad_input_is_one_line_and_status_two(cv, run, arguments, message):
    status, _, err = run(*[argument.format(cv=cv) for argument in arguments])
    assert status == 2
    assert err.startswith("charjax: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_a_flipped_byte_is_found_before_anything_is_sampled(run, tmp_path):
    path = save(tmp_path, "run")
    file = max(
        (path / "arrays").rglob("*"), key=lambda p: p.is_file() * os.path.getsize(p)
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    status, out, err = run("sample", path)
    assert (status, out) == (2, "")
    assert "damaged" in err
    sound = save(tmp_path, "run", loss=9.0)
    for command in (["sample", "--length", "5"], ["next"], ["score"], ["inspect"]):
        text = [str(tmp_path / "text")] if command == ["score"] else []
        (tmp_path / "text").write_text("abc")
        arguments = [command[0], tmp_path / "run", *text, *command[1:]]
        status, _, err = run(*arguments)
        assert (status, err.count("\n")) == (2, 1)
        status, out, err = run(*arguments, "--fallback")
        assert status == 0
        assert f"took {sound}" in err
        assert "damaged" in err


def test_the_version_and_the_help_end_with_status_zero(run):
    assert run("--version") == (0, f"charjax {charjax.__version__}\n", "")
    status, out, _ = run("--help")
    assert status == 0
    for verb in ("train", "sample", "list", "compare", "recipes", "completion"):
        assert re.search(rf"^    {verb} ", out, re.MULTILINE)


def test_an_error_in_an_imported_file_is_one_line_with_its_place(cv, run, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import math\n\nmath.no_such_function\n")
    status, out, err = run("--import", file, "list", cv)
    assert (status, out) == (2, "")
    assert err.startswith(f"charjax: error: {file}, line 3: AttributeError: ")
    assert err.count("\n") == 1


def test_an_imported_file_does_not_hide_a_module_of_its_name(cv, run, tmp_path):
    import json

    file = tmp_path / "json.py"
    file.write_text("raise_nothing = 1\n")
    assert run("--import", file, "list", cv)[0] == 0
    assert sys.modules["json"] is json


def test_ctrl_c_is_status_130_without_a_traceback(run, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("charjax.cli.recipes.list_recipes", interrupted)
    assert run("recipes") == (130, "", "")


SWALLOWED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except BaseException:
    pass
time.sleep(30)
"""


@pytest.mark.parametrize("command", [
    ["launch.py", "--config", "configs/default.py"],
    ["-m", "charjax", "sample", "cv"],
], ids=["launch.py", "charjax"])  # fmt: skip
def test_ctrl_c_while_libraries_are_imported_ends_at_once(command, tmp_path):
    # A library that swallows the KeyboardInterrupt raised while it is imported.
    (tmp_path / "jax.py").write_text(SWALLOWED)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_program_that_ignores_ctrl_c_goes_on_ignoring_it(run):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run("recipes")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_leaves_the_signal_handler_as_it_was(run):
    before = signal.getsignal(signal.SIGINT)
    run("recipes")
    run("no_such_verb")
    assert signal.getsignal(signal.SIGINT) is before
