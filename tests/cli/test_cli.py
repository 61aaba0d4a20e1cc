"""The command line, on a small untrained model, and its one-line errors."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import charjax
from charjax import checkpoint
from charjax.cli import main
from charjax.training.folder import write_summary

SYMBOLS = "\n abcdefgh"


def save(folder, name, symbols=SYMBOLS, loss=1.5, step=10):
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
        config=charjax.default_config().to_dict(),
        progress={"val": [] if loss is None else [[step, loss]]},
    )


@pytest.fixture(scope="module")
def cv(tmp_path_factory):
    """A folder of two runs; the better checkpoint is not the later one."""
    folder = tmp_path_factory.mktemp("cv")
    save(folder, "first", loss=1.25, step=10)
    save(folder, "first", loss=1.75, step=20)
    save(folder, "second", loss=1.5, step=30)
    save(folder, "bytes", symbols=bytes(range(200, 256)), loss=2.5)
    return folder


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_sample_streams_the_text_that_the_library_draws(cv, run):
    options = ["--prime", "abc", "--temperature", "0.8", "--length", "40"]
    status, out, _ = run("sample", cv / "first", *options, "--seed", "3")
    params = charjax.load(cv / "first")
    assert status == 0
    assert out == charjax.sample(params, "abc", 0.8, length=40, seed=3) + "\n"


def test_sample_takes_the_best_or_the_latest_of_a_run_and_the_best_of_a_tree(cv, run):
    def text(*arguments):
        return run("sample", *arguments, "--length", "30")[1]

    best = cv / "first" / "lm_lstm_epoch1.00_1.2500"
    latest = cv / "first" / "lm_lstm_epoch2.00_1.7500"
    assert text(cv) == text(cv / "first") == text(best)
    assert text(cv / "first", "--which", "latest") == text(latest) != text(best)


def test_sample_draws_several_texts_as_one_batch(cv, run):
    _, out, _ = run("sample", cv / "first", "--num-samples", "2", "--length", "5")
    params = charjax.load(cv / "first")
    one, two = charjax.sample(params, length=5, num_samples=2)
    assert out == f"=== 1\n{one}\n=== 2\n{two}\n"


def test_a_prime_from_a_file_equals_one_from_the_line(cv, run, tmp_path):
    file = tmp_path / "prime.txt"
    file.write_text("abc\n")
    by_file = run("sample", cv / "first", "--prime-file", file, "--length", "9")
    by_line = run("sample", cv / "first", "--prime", "abc\n", "--length", "9")
    assert by_file == by_line


def test_a_model_of_bytes_writes_them_raw(cv):
    command = [sys.executable, "-m", "charjax", "sample", cv / "bytes"]
    out = subprocess.run([*command, "--length", "20"], capture_output=True, check=True)
    params = charjax.load(cv / "bytes")
    assert out.stdout == charjax.sample(params, length=20) + b"\n"


def test_a_prime_of_raw_bytes_reaches_a_model_of_bytes(cv):
    command = [sys.executable, "-m", "charjax", "sample", str(cv / "bytes")]
    command = [os.fsencode(part) for part in [*command, "--length", "5", "--prime"]]
    out = subprocess.run([*command, b"\xf0\xc8"], capture_output=True, check=True)
    params = charjax.load(cv / "bytes")
    assert out.stdout == charjax.sample(params, b"\xf0\xc8", length=5) + b"\n"


def test_a_reader_that_leaves_early_ends_the_stream_quietly(cv):
    command = f"{sys.executable} -m charjax sample {cv}/first --length 200000"
    shell = f"set -o pipefail; {command} | head -c 10"
    out = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    assert out.stderr == b""
    assert len(out.stdout) == 10


def test_next_lists_the_likeliest_characters_first(cv, run):
    _, out, _ = run("next", cv / "first", "--prime", "abc", "--top", "3")
    table = charjax.next_chars(charjax.load(cv / "first"), "abc")
    rows = [f"{p:8.4%}  {c!r}" for c, p in list(table.items())[:3]]
    assert out.splitlines() == rows


def test_score_prints_what_the_library_says(cv, run, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abc abc")
    _, out, _ = run("score", cv / "first", file)
    score = charjax.score(charjax.load(cv / "first"), "abc abc")
    assert f"{score.nats:.4f}" in out
    assert f"{score.bits:.4f}" in out
    assert f"{score.perplexity:.4f}" in out


def test_list_of_a_folder_is_a_row_a_run_by_its_lowest_loss(cv, run):
    write_summary(cv / "first", {"best": "a", "best_loss": 1.25, "test_loss": None})
    header, *rows = (line.split() for line in run("list", cv)[1].splitlines())
    total = f"{sum(charjax.num_parameters(charjax.load(cv / 'first')).values()):,}"
    assert header[:6] == ["loss", "bits", "of", "epoch", "step", "finished"]
    assert rows[0] == (
        f"1.2500 1.803 val 2.00 20 yes lstm 2 x 6 {total} {cv}/first".split()
    )
    assert [row[0] for row in rows] == ["1.2500", "1.5000", "2.5000"]
    assert [row[5] for row in rows] == ["yes", "no", "no"]
    assert [row[-1] for row in rows] == [
        f"{cv}/{n}" for n in ("first", "second", "bytes")
    ]


def test_list_of_a_run_is_a_row_a_checkpoint_the_lowest_loss_first(cv, run):
    _, *rows = (line.split() for line in run("list", cv / "first")[1].splitlines())
    assert [row[0] for row in rows] == ["1.2500", "1.7500"]
    assert [row[-1] for row in rows] == [
        f"{cv}/first/lm_lstm_epoch1.00_1.2500",
        f"{cv}/first/lm_lstm_epoch2.00_1.7500",
    ]


@pytest.mark.parametrize("root", ["", "run"])
def test_list_names_what_is_damaged_and_what_has_no_loss(run, tmp_path, root):
    broken = save(tmp_path, "run")
    (broken / "checkpoint.json").write_text("{}")
    save(tmp_path, "run", loss=None, step=20)
    _, out, _ = run("list", tmp_path / root)
    assert out.count("damaged: ") == out.count(str(broken)) == 1
    assert "      -       -  val       2.00         20" in out


def test_inspect_shows_parameters_config_and_losses(cv, run):
    status, out, _ = run("inspect", cv / "first")
    params = charjax.load(cv / "first")
    total = sum(charjax.num_parameters(params).values())
    assert status == 0
    for part in (f"{total:,}", "model.cell = 'lstm'", "1.2500 nats", "10 symbols"):
        assert part in out
    assert re.search(r"^kernel +(native|scan)", out, re.MULTILINE)


def test_novel_shows_the_share_of_new_substrings(run, tmp_path):
    (tmp_path / "sampled").write_text("abx")
    (tmp_path / "training").write_text("abc")
    _, out, _ = run("novel", tmp_path / "sampled", tmp_path / "training")
    rows = [line.split() for line in out.splitlines()]
    assert rows[:4] == [
        ["length", "novel"], ["1", "33.33%"], ["2", "50.00%"], ["3", "100.00%"]
    ]  # fmt: skip


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
    (["next", "{cv}/first", "--top", "-2"], "--top: expected 0 .* or more, got -2"),
    (["score", "{cv}/first", "no/such/file"], "no/such/file"),
    (["inspect", "{cv}/none/at/all"], "not there"),
    (["list", "{cv}/none"], "no checkpoint below"),
    (["prepare", "no_such_set"], "no_such_set"),
    (["--import", "no/file.py", "list"], "no Python file"),
])  # fmt: skip
def test_bad_input_is_one_line_and_status_two(cv, run, arguments, message):
    import re

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
