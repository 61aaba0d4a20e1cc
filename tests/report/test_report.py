"""What a report gathers, against the library's own functions; and the page of it."""

import base64
import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

import charjax
from charjax import report
from charjax.cli import main
from charjax.config import flatten
from charjax.report import collect, render
from charjax.report.collect import command
from charjax.report.page import embedded_json, visible
from tests.report.conftest import TEXT, make_config

ROOT = Path(__file__).parent.parent.parent


def test_the_report_has_the_runs_own_losses_and_samples(run, data):
    assert data.run["best_loss"] == run.best_loss
    val = [r for r in run.history if r["kind"] == "val"]
    assert data.curves["val"]["loss"] == [r["loss"] for r in val]
    assert [s["sample"] for s in data.samples] == [r["sample"] for r in val]
    train = [r["loss"] for r in run.history if r["kind"] == "train"]
    np.testing.assert_allclose(data.curves["train"]["loss"], train)


@pytest.mark.filterwarnings("ignore:the load_module")  # in ml_collections
def test_the_command_sets_every_field_as_the_run_had_it(data, monkeypatch):
    words = shlex.split(data.run["command"].replace("\\\n", ""))
    assert words[:2] == ["python", "launch.py"]
    words[3] = str(ROOT / words[3])
    monkeypatch.setattr(sys, "argv", words[1:])  # where overrides are looked for
    values = flags.FlagValues()
    flag = config_flags.DEFINE_config_file("config", flag_values=values)
    values(words[1:])
    assert flatten(flag.value) == data.config


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_command_holds_characters_that_do_not_show():
    config = charjax.default_config()
    config.sample.prime = "it's\ta \\ \x07 \u202e\xe9"
    words = command(config, "run").replace("python launch.py", "printf '%s|'")
    assert words.replace("\n", "").isprintable()
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=True,
        env={"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert f"--config.sample.prime={config.sample.prime}|" in done.stdout


def test_held_out_characters_have_the_probabilities_that_score_gives(run, data):
    for passage in data.heldout["passages"]:
        text = "".join(passage["characters"])
        assert text in TEXT
        scored = charjax.score(run.params, text).log_probs
        np.testing.assert_allclose(passage["log_probs"][1:], scored[1:], atol=1e-4)


def test_the_guesses_are_the_likeliest_next_characters(run, data):
    passage = data.heldout["passages"][0]
    for place in (1, 7, 19):
        before = "".join(passage["characters"][:place])
        table = charjax.next_chars(run.params, before)
        expected = list(table.items())[:5]
        guesses = passage["guesses"][place]
        np.testing.assert_allclose(
            [p for _, p in guesses], [p for _, p in expected], atol=1e-4
        )
        assert guesses[0][0] == expected[0][0]


def embedded(page):
    return json.loads(
        re.search(r'application/json" id="data">(.*?)</script>', page, re.S)[1]
    )


def test_packed_activations_are_those_of_the_model_to_an_eighth_bit(run, data):
    packed = embedded(render(data))["cells"]
    units, length = packed["units"], len(packed["characters"])
    assert len({tuple(unit) for unit in units}) == len(units)
    raw = np.frombuffer(base64.b64decode(packed["values"]), np.int8)
    values_UxT = raw.reshape(len(units), length) / 127
    text = "".join(data.cells["characters"])
    (layer,) = charjax.interpret.activations(run.params, text)
    for (number, index, state), scale, values in zip(
        units, packed["scale"], values_UxT, strict=True
    ):
        assert number == 0
        expected = layer.carry[state][:, index]
        assert scale == pytest.approx(np.abs(expected).max(), rel=1e-3)
        np.testing.assert_allclose(values * scale, expected, atol=scale / 200 + 1e-6)


def test_the_standard_error_is_that_of_the_mean_over_stretches_of_text(run):
    from charjax.report.collect import _standard_error
    from charjax.text import open_corpus, split_corpus

    config = make_config(run.path.parent.parent)
    corpus = open_corpus(config.data.dir)
    lanes = split_corpus(
        corpus.ids, batch_size=5, seq_length=20, train_frac=0.8, val_frac=0.2
    ).val
    K = lanes.num_chunks
    ids_BxL = lanes.window(0, K * 20 + 1)
    logits_BxLxV, _ = charjax.apply(run.params, ids_BxL[:, :-1])
    log_probs = jax.nn.log_softmax(logits_BxLxV)
    nats_BxL = -np.take_along_axis(
        np.asarray(log_probs), ids_BxL[:, 1:, None].astype(int), axis=-1
    )[..., 0]
    # Five lanes are fewer than eight stretches: each is cut in two.
    half = 20 * -(-K // 2)
    means = np.array([[lane[:half].mean(), lane[half:].mean()] for lane in nats_BxL])
    expected = np.sqrt(np.square(means - means.mean()).sum() / 9 / 10)
    assert _standard_error(run.params, lanes) == pytest.approx(expected, rel=1e-4)
    one = dataclasses.replace(lanes, num_chunks=1)
    assert _standard_error(run.params, one) is None


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.inside and self.inside[-1][1].get("class") == "text":
            self.texts.append(data)


def test_no_character_of_a_text_is_markup(data):
    hostile = '</div></script><script>alert("x")</script><b>&amp;\u2028\u202e\x00'
    shown = data._replace(
        run=data.run | {"name": hostile, "text": hostile, "command": hostile},
        samples=[data.samples[0] | {"sample": hostile}],
        config=data.config | {"sample.prime": hostile},
        advice=[data.advice[0]._replace(text=hostile)],
    )
    elements = Elements(render(shown))
    assert elements.tags == Elements(render(data._replace(
        samples=data.samples[:1], advice=data.advice[:1]
    ))).tags  # fmt: skip
    assert elements.tags.count("script") == 2
    drawn = "".join(elements.texts)
    assert '</div></script><script>alert("x")</script><b>&amp;' in drawn
    assert "[U+2028][U+202E]␀" in drawn


def test_embedded_json_is_the_value_without_a_character_of_markup():
    value = {"a": "</script><!--&\u2028\u2029שלום"}
    page = embedded_json(value)
    assert json.loads(page) == value
    assert not set(page) & set("<>&\u2028\u2029")


def test_characters_that_would_not_show_are_made_visible():
    assert [visible(c) for c in "a\n\x00\x7f\x85\u200f\u200d"] == [
        "a", "\n", "␀", "␡", "[U+0085]", "[U+200F]", "\u200d"
    ]  # fmt: skip


def test_a_page_is_small_and_loads_nothing(data):
    page = render(data)
    assert len(page.encode()) < 2_000_000
    assert "default-src 'none'" in page
    assert not re.search(r"(src=|@import|url\((?!#)|fetch\()", page)


def test_what_is_missing_is_said_in_its_section(run, tmp_path):
    for file in run.path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    identity = json.loads((run.path / "config.json").read_text())
    identity["config"]["data"]["dir"] = str(tmp_path / "gone")
    (tmp_path / "config.json").write_text(json.dumps(identity))
    data = collect(tmp_path)
    for section in (data.heldout, data.cells, data.saturation):
        assert "gone" in section["missing"]
    page = render(data)
    assert page.count("Not here: The text cannot be read") == 3
    assert data.curves["ngram"] is None
    assert f"{run.best_loss:.4f}" in page


def test_a_text_that_changed_is_not_taken_for_the_runs(run, tmp_path):
    (tmp_path / "input.txt").write_text("another text " * 100)
    (tmp_path / "run").mkdir()
    for file in run.path.iterdir():
        (tmp_path / "run" / file.name).symlink_to(file)
    (tmp_path / "run" / "config.json").unlink()
    identity = json.loads((run.path / "config.json").read_text())
    identity["config"]["data"]["dir"] = str(tmp_path)
    (tmp_path / "run" / "config.json").write_text(json.dumps(identity))
    data = collect(tmp_path / "run")
    assert "no longer the text of this run" in data.heldout["missing"]


def test_a_finished_run_has_its_report_and_the_command_writes_it_again(run, capsys):
    page = run.path / "report.html"
    before = page.read_text(encoding="utf-8")
    assert f"{run.best_loss:.4f}" in before
    assert main(["report", str(run.path)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text(encoding="utf-8") == before


def test_a_file_of_the_users_is_not_overwritten(run, tmp_path, capsys):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert main(["compare", str(run.path), "--output", str(mine)]) == 2
    assert "no page of charjax's" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_report_that_cannot_be_written_fails_no_run(run, tmp_path, monkeypatch):
    def fail(path):
        raise RuntimeError("no room\nat all")

    monkeypatch.setattr(report, "write", fail)
    config = make_config(
        run.path.parent.parent, checkpoint_dir=str(tmp_path), max_steps=2
    )
    notes = []
    done = charjax.train(config, sinks=[lambda record: notes.append(record)])
    assert done.best.exists()
    texts = [record["text"] for record in notes if record["kind"] == "warning"]
    assert any(t.startswith("no report (no room);") for t in texts)


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "found no config.json" in err
    assert err.count("\n") == 1


def test_compare_sets_the_best_first_with_the_fields_that_differ(run, tmp_path, capsys):
    folder = run.path.parent.parent
    config = make_config(folder, checkpoint_dir=str(tmp_path), max_steps=4)
    config.train.report = False
    other = charjax.train(config, sinks=())
    out = tmp_path / "compare.html"
    arguments = ["compare", str(other.path), str(run.path), "--output", str(out)]
    assert main(arguments) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head.strip())[-2:] == ["train.max_steps", "run"]
    # Both folders have the same name, so each is named by its path.
    best, worst = sorted([run, other], key=lambda r: r.best_loss)
    assert rows[0].strip().startswith(f"{best.best_loss:.4f}")
    assert rows[0].endswith(str(best.path))
    assert rows[1].endswith(str(worst.path))
    assert main([*arguments[:-1], str(tmp_path)]) == 2
    assert "no page of charjax's" in capsys.readouterr().err
    page = out.read_text(encoding="utf-8")
    assert f"{worst.best_loss:.4f}" in page
    runs = embedded(page)["comparison"]
    assert [r["name"] for r in runs] == [str(best.path), str(worst.path)]


def test_runs_of_a_cell_that_is_not_registered_are_compared_too(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "own")
    config = tmp_path / "own" / "config.json"
    config.write_text(config.read_text().replace('"cell": "lstm"', '"cell": "mine"'))
    comparison = report.compare([run.path, tmp_path / "own"])
    assert comparison.fields == ["model.cell"]
    assert comparison.runs[1]["values"] == {"model.cell": "mine"}
