"""`charjax sample` and `charjax next`."""

import os
import subprocess
import sys

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
