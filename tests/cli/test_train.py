"""`charjax train`: how a configuration is put together, and its one-line errors."""

import re
import signal
from pathlib import Path

import pytest

import charjax
from charjax import report
from charjax.cli import arguments, main, train
from charjax.config import default_config, flatten

ROOT = Path(__file__).parent.parent.parent
TEXT = "the quick brown fox jumps over the lazy dog. " * 60


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to train in, but for a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_text.txt").write_text(TEXT)
    (tmp_path / "data" / "fox").mkdir(parents=True)
    (tmp_path / "data" / "fox" / "input.txt").write_text(TEXT)
    return tmp_path


SMALL = [
    "--config.data.batch_size=5", "--config.data.seq_length=20",
    "--config.model.hidden_size=8", "--config.model.num_layers=1",
    "--config.sample.length=10", "--config.train.max_steps=4",
]  # fmt: skip


def config_of(*argv):
    return train.config_of(arguments.parse(["train", *argv], "charjax"))


def changed(*argv):
    default = flatten(default_config())
    return {k: v for k, v in flatten(config_of(*argv)).items() if v != default[k]}


def test_a_text_alone_is_trained_with_the_defaults(folder):
    assert changed("my_text.txt") == {"data.name": "my_text.txt"}
    assert changed("shakespeare") == {}


def test_a_text_replaces_that_of_the_config_file(folder):
    file = folder / "own.py"
    file.write_text("def get_config():\n    return {'data': {'dir': 'elsewhere'}}\n")
    assert changed("my_text.txt", "--config", "own.py") == {"data.name": "my_text.txt"}
    assert changed("--config", "own.py") == {"data.dir": "elsewhere"}


def test_fields_are_set_after_the_config_file_wherever_they_are_written(folder):
    recipe = changed("--config", "shakespeare_lstm")
    assert recipe["model.hidden_size"] == 192
    more = ["--config.model.cell=gru", "--config.model.hidden_size", "64"]
    expected = recipe | {"model.cell": "gru", "model.hidden_size": 64}
    assert changed("--config=shakespeare_lstm", *more) == expected
    assert changed(*more, "--config=shakespeare_lstm") == expected
    assert changed(more[0], "--config=shakespeare_lstm", *more[1:]) == expected


def test_a_field_is_written_in_any_way_that_a_flag_is():
    for words in (
        ["--config.train.tensorboard", "--noconfig.train.report", "x"],
        ["x", "-config.train.tensorboard=true", "--config.train.report=false"],
        ["--config.train.tensorboard=1", "x", "--config.train.report=F"],
    ):
        config = config_of(*words)
        assert (config.data.name, config.train.tensorboard) == ("x", True)
        assert config.train.report is False
    assert config_of("x", "--config.sample.prime=--the").sample.prime == "--the"
    assert config_of("x", "--config.sample.prime", "the").sample.prime == "the"
    assert config_of("x", "--config.sample.prime=").sample.prime == ""


@pytest.mark.parametrize("name", ["char_rnn", "default", "shakespeare_lstm"])
def test_a_recipe_is_found_by_name_and_by_path_from_any_folder(folder, name):
    path = ROOT / "configs" / f"{name}.py"
    assert changed("--config", name) == changed("--config", str(path))


def test_a_word_after_a_colon_is_handed_to_get_config(folder):
    (folder / "own.py").write_text(
        "def get_config(size):\n    return {'model': {'hidden_size': int(size)}}\n"
    )
    assert changed("--config=own.py:7") == {"model.hidden_size": 7}
    assert changed("--config=warpeace:45k")["model.hidden_size"] == 45
    assert changed("--config=warpeace") == changed("--config=warpeace:122k")


def test_help_lists_every_field_with_its_default_and_help(capsys):
    assert main(["train", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for name, field in charjax.fields.FIELDS.items():
        start = out.index(f"--config.{name} ")
        entry = out[start:].split(" --config.")[0]
        assert field.help in entry
        if field.default not in ("", True, False):
            assert f"[{field.default}]" in entry
        for choice in field.rule.choices if field.rule else ():
            assert choice in entry


def test_a_run_in_an_empty_folder_is_named_after_text_and_cell(folder, run):
    status, out, err = run("train", "my_text.txt", *SMALL)
    assert (status, err) == (0, "")
    (made,) = (folder / "cv").iterdir()
    assert made.name == "my_text_lstm"
    assert f"report    {Path('cv/my_text_lstm/report.html')}\n" in out
    assert (made / "report.html").is_file()
    assert list(made.glob("lm_lstm_epoch*"))


def test_the_page_of_a_finished_run_is_written_once_and_only_if_it_is_missing(
    folder, run, monkeypatch
):
    written = []

    def write(path):
        written.append(path)
        page = path / "report.html"
        page.write_text("a page")
        return page

    monkeypatch.setattr("charjax.report.page.write", write)
    words = ["train", "fox", *SMALL]
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0  # which finds the run finished
    assert len(written) == 1
    (written[0] / "report.html").unlink()
    assert "report    " in run(*words)[1]
    assert len(written) == 2


def test_a_report_that_fails_is_a_warning_and_a_signal_stops_it(
    folder, run, monkeypatch
):
    words = ["train", "fox", *SMALL, "--config.train.report=false"]
    assert run(*words)[0] == 0
    path = folder / "cv" / "fox_lstm"
    records = []

    def fails(path):
        raise OSError("no room")

    monkeypatch.setattr("charjax.report.page.write", fails)
    report.after_run(path, records.append)
    text = f"no report (no room); charjax report {path} writes it"
    assert records == [{"kind": "warning", "text": text}]

    def interrupted(path):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not stopped")

    monkeypatch.setattr("charjax.report.page.write", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(charjax.Stopped, match=r"charjax report .* writes") as stopped:
        report.after_run(path, records.append)
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(records) == 1


CONFIGS = {
    "none.py": "def get_config():\n    pass\n",
    "number.py": "def get_config():\n    return 3\n",
    "nothing.py": "import math\n",
    "group.py": "def get_config():\n    return {'model': 3}\n",
    "range.py": "def get_config():\n    return {'train': {'max_epochs': 0}}\n",
    "name.py": "\ndef get_config():\n    return no_such_name\n",
    "syntax.py": "def get_config(:\n",
    "type.py": "def get_config():\n    return 'a' + 1\n",
    "argument.py": "def get_config(size):\n    return {}\n",
    "exits.py": "import sys\nsys.exit('bye')\n",
    "import.py": "import no_such_module\n",
}


@pytest.mark.parametrize(("flags", "message"), [
    (["--config.model.hiden_size=3"], "Did you mean 'model.hidden_size'"),
    (["--config.learning_rate=3"], "Did you mean 'optimizer.learning_rate'"),
    (["--config.model.hidden_size=three"], "must be an integer; got 'three'. Try 128"),
    (["--config.model.hidden_size"], "expected one argument"),
    (["--config.model.cell=lstmm"], "got 'lstmm'. Did you mean 'lstm'?"),
    (["--config.model=4"], "model must be set field by field"),
    (["--config.model.cell=gru_reset_before", "--config.model.kernel=native"],
     "not available"),
    (["--config.sample.prime=\u00e9"], "the model knows; got '\u00e9'"),
    (["--config.data.dir=a\0b"], "data.dir must be text without a NUL character"),
    (["--config.optimizer.clip_mode=both"], "clip_mode must be one of norm, value"),
    (["--config.optimizer.grad_clip=inf"], "grad_clip must be a finite number"),
    (["--config.train.eval_every=nan"], "eval_every must be a finite number"),
    (["--config.train.max_epochs=0"], "max_epochs must be at least 1; got 0. Try 50"),
    (["--no_such_flag=1"], "unrecognized arguments: --no_such_flag=1"),
    (["fox", "more"], "unrecognized arguments: more"),
    (["fox"], "the text must be given once"),
    (["--config.data.dir=", "--config.data.name=none_such"], "none_such"),
    (["--config.data.train_frac=1.5"], "must be in [0, 1]; got 1.5"),
    (["--config.data.batch_size=500"], "must have a chunk"),
    (["--config.train.init_from=no/where"], "no/where: not there"),
    (["--config", "configs/none.py"], "one of char_rnn, default, learning_to_"),
    (["--config", "elsewhere/shakespeare_ltsm.py"], "Did you mean 'shakespeare_lstm'"),
    (["--config", "none.py"], "none.py: a configuration must be a ConfigDict"),
    (["--config", "number.py"], "got 3"),
    (["--config", "nothing.py"], "nothing.py must define get_config()"),
    (["--config", "group.py"], "model must be a group of fields; got 3"),
    (["--config", "range.py"], "max_epochs must be at least 1; got 0"),
    (["--config", "name.py"], "name.py, line 3: NameError: name 'no_such_name'"),
    (["--config", "syntax.py"], "syntax.py: SyntaxError: "),
    (["--config", "type.py"], "type.py, line 2: TypeError: "),
    (["--config", "argument.py"], "TypeError: get_config() missing 1 required"),
    (["--config", "exits.py"], "exits.py, line 2: SystemExit: bye"),
    (["--config", "import.py"], "line 1: ModuleNotFoundError: No module named"),
])  # fmt: skip
def test_a_wrong_command_is_one_line_and_writes_no_run(folder, capsys, flags, message):
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
    words = ["--config=default", "--config.data.name=fox", *SMALL, *flags]
    status = main(["train", *words], prog="launch.py")
    _, err = capsys.readouterr()
    assert status == 2
    assert err.startswith("launch.py: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (folder / "cv").exists()


def test_neither_a_text_nor_a_config_says_what_to_try(run):
    status, out, err = run("train")
    assert (status, out) == (2, "")
    assert re.search("my_text.txt or .*--config shakespeare_lstm", err)
    assert err.count("\n") == 1


def test_a_refused_command_does_not_hinder_the_corrected_one(folder, run):
    words = ["train", "fox", *SMALL, "--config.train.report=false"]
    assert run(*words, "--config.data.batch_size=500")[0] == 2
    assert run(*words)[0] == 0


def test_memory_that_runs_out_is_one_line_with_what_to_make_smaller(
    folder, run, monkeypatch
):
    import jax

    def full(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr("charjax.training.run.train", full)
    status, _, err = run("train", "fox")
    assert status == 2
    assert "model.hidden_size" in err
    assert err.count("\n") == 1
