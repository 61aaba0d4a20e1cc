"""The programs for JAX alone, run by a process that cannot import charjax."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from jax import export

import charjax
from charjax.errors import CharjaxError
from charjax.interchange import write_stablehlo
from tests.models import make

pytest.importorskip("flatbuffers")

TEXT = "bad cab</\U0001f600"


@pytest.fixture(scope="module")
def params():
    vocab = charjax.Vocab("abcd \U0001f600</")
    return make(1, vocab, cell="lstm", embedding_size=3, zoneout=0.1)


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "programs"
    write_stablehlo(params, folder)
    return folder


def run(folder, *commands):
    """Runs the folder's script in one process, in which charjax cannot be imported."""
    code = (
        "import json, runpy, sys; sys.modules['charjax'] = None\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = words; runpy.run_path(words[0], run_name='__main__')\n"
    )
    words = json.dumps([[str(folder / "run.py"), *command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", code, words],
        capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return done.stdout


def test_they_write_and_score_what_charjax_does_without_it(params, folder):
    options = ["--length", "60", "--temperature", "0.7", "--seed", "5"]
    text = charjax.sample(params, TEXT, 0.7, length=60, seed=5)
    (folder.parent / "text.txt").write_text(text, encoding="utf-8")
    nats = charjax.score(params, text).nats
    score = ["score", str(folder.parent / "text.txt")]
    out = run(folder, ["sample", TEXT, *options], score)
    assert out == f"{text}\n{nats:.4f} nats/char\n"


def test_they_are_for_cpu_cuda_and_tpu_and_hold_no_kernel_of_this_machine(folder):
    for name in ("sample", "score"):
        raw = (folder / f"{name}.stablehlo").read_bytes()
        program = export.deserialize(bytearray(raw))
        assert program.platforms == ("cpu", "cuda", "tpu")
        targets = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
        assert targets <= {"shape_assertion", "cu_threefry2x32_ffi"}  # JAX's own


def test_the_files_beside_them_are_the_model(params, folder):
    about = json.loads((folder / "model.json").read_text("utf-8"))
    assert charjax.Vocab.from_json(about["vocab"]) == params.vocab
    with np.load(folder / "weights.npz") as weights:
        np.testing.assert_array_equal(weights["readout_bias_V"], params.readout_bias_V)


def test_a_folder_that_exists_is_left_alone(params, folder):
    before = sorted(folder.iterdir())
    with pytest.raises(CharjaxError, match="must be a new name"):
        write_stablehlo(params, folder)
    with pytest.raises(CharjaxError, match="cannot be written"):
        write_stablehlo(params, folder / "no" / "such")
    assert sorted(folder.iterdir()) == before
