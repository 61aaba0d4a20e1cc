"""`charjax sample` and `charjax next`."""

import io
import os
import subprocess
import sys

import jax
import pytest

import charjax


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


def test_every_way_to_draw_reaches_the_library(cv, run):
    arguments = ["--min-p", "0.1", "--typical-p", "0.9", "--stop", "a", "--stop", "gh"]
    arguments += ["--repetition-penalty", "1.5", "--repetition-window", "9"]
    _, out, _ = run("sample", cv / "first", "--length", "300", *arguments)
    how = {"min_p": 0.1, "typical_p": 0.9, "stop": ["a", "gh"], "length": 300}
    how |= {"repetition_penalty": 1.5, "repetition_window": 9}
    assert out == charjax.sample(charjax.load(cv / "first"), **how) + "\n"
    _, out, _ = run("sample", cv / "first", "--match", "[a-d]{9}")
    assert out == charjax.sample(charjax.load(cv / "first"), match="[a-d]{9}") + "\n"


def test_the_likeliest_text_is_written_and_its_probability_is_said(cv, run):
    options = ["--prime", "abc", "--beam", "4", "--length", "5"]
    status, out, err = run("sample", cv / "first", *options)
    got = charjax.complete(charjax.load(cv / "first"), "abc", beam=4, length=5)
    assert status == 0
    assert out == f"abc{got.text}\n"
    assert f"log-probability {got.log_prob:.4f} nats" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beam", "4", "--top-k", "2"], "--beam must not come with --top-k"),
        (["--beam", "4", "--interactive"], "--beam must not come with --interactive"),
        (["--interactive", "--num-samples", "2"], "must not come with --num-samples"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(cv, run, arguments, message):
    status, out, err = run("sample", cv / "first", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def talk(cv, run, monkeypatch):
    """Types lines in a conversation: its status, output and errors."""

    def talk(*lines, name="first", options=()):
        typed = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(typed))
        return run("sample", cv / name, "--interactive", "--length", "9", *options)

    return talk


def test_a_conversation_goes_on_with_each_line(cv, talk):
    status, out, err = talk("abc", "d\\", "\\", options=["--stop", "\n"])
    assert (status, err) == (0, "")
    params, text, written = charjax.load(cv / "first"), "", ""
    for turn, given in enumerate(["abc\n", "d", ""]):
        if given and text and not text.endswith("\n"):
            given = "\n" + given
        text += given
        whole = charjax.sample(params, text, length=9, key=key_of(turn), stop="\n")
        drawn = whole[len(text) :]
        text += drawn
        written += drawn if drawn.endswith("\n") else drawn + "\n"
    assert out == written


def key_of(turn):
    return jax.random.fold_in(jax.random.key(0), turn)


def test_a_turn_can_be_taken_back_and_the_conversation_begun_anew(talk):
    plain = talk("abc")[1]
    turns = talk("abc", ":undo", "abc", ":reset", "abc", ":quit", "abc")[1]
    assert turns.startswith(plain)
    assert len(turns) >= 3 * len(plain) - 3
    assert "no turn to take back" in talk(":undo")[2]


def test_the_temperature_and_the_length_can_be_set(talk):
    cold = talk("abc", options=["--temperature", "0"])
    assert talk(":temperature 0", "abc") == cold
    assert talk(":temperature 0", ":length 5", "abc")[1][:5] == cold[1][:5]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":temperature", ":temperature must be followed by a number; got ''"),
        (":temperature -1", "temperature must be a finite number of 0 or more; got -1"),
        (":length x", ":length must be followed by a number; got 'x'"),
        (":nonsense", "unknown command :nonsense. Try :help."),
        ("xyz", "'x' (U+0078) at position 0 is not among"),
        ("::", "':' (U+003A) at position 0 is not among"),
    ],
)
def test_an_error_is_one_line_and_the_conversation_goes_on(talk, line, message):
    status, out, err = talk(line, "abc")
    assert status == 0
    assert message in err
    assert err.count("\n") == 1
    assert out == talk("abc")[1]


def test_help_lists_the_commands(talk):
    out = talk(":help")[1]
    names = (":temperature", ":length", ":undo", ":reset", ":help", ":quit")
    assert all(name in out for name in names)


def test_a_model_of_bytes_converses(cv):
    command = [sys.executable, "-m", "charjax", "sample", cv / "bytes", "--interactive"]
    command += ["--length", "6"]
    got = subprocess.run(command, input=b"\xc8\xff\n", capture_output=True, check=True)
    params = charjax.load(cv / "bytes")
    drawn = charjax.sample(params, b"\xc8\xff", length=6, key=key_of(0))[2:]
    assert got.stdout == drawn + b"\n"
