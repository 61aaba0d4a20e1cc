"""The page of a report: what is in it, and what nothing in a text can do to it."""

import base64
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import charjax
from charjax import checkpoint, report
from charjax.cli import main
from charjax.report import collect, render
from charjax.report.markup import embedded_json, visible
from tests.report.conftest import embedded, reseal

ESCAPES = "a\x1b[2J\nb\u202e"


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


def test_a_page_shows_no_control_character_of_a_file(copy):
    [(_, record)] = checkpoint.listing(copy)
    reseal(copy, versions=record.versions | {ESCAPES: ESCAPES})
    page = report.render(collect(copy))
    assert not {c for c in page if not c.isprintable()} - {"\n", "\u200d", "\u200c"}
    assert page.count("[U+202E]") >= 2


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
    assert page.count("Not available. The text cannot be read") == 3
    assert data.curves["ngram"] is None
    assert f"{run.best_loss:.4f}" in page


def test_a_finished_run_has_its_report_and_the_command_writes_it_again(run, capsys):
    page = run.path / "report.html"
    before = page.read_text(encoding="utf-8")
    assert f"{run.best_loss:.4f}" in before
    assert main(["report", str(run.path)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text(encoding="utf-8") == before


def test_after_a_run_its_page_is_written_and_named(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").unlink(missing_ok=True)
    sent = []
    report.after_run(tmp_path / "copy", sent.append)
    page = tmp_path / "copy" / "report.html"
    assert sent == [{"kind": "note", "text": f"report    {page}"}]
    assert f"{run.best_loss:.4f}" in page.read_text(encoding="utf-8")
    written = page.stat().st_mtime_ns
    report.after_run(tmp_path / "copy", sent.append)
    assert len(sent) == 1, "the page was as new as the run's end"
    assert page.stat().st_mtime_ns == written
    os.utime(page, (0, 0))  # of an earlier end of the run
    report.after_run(tmp_path / "copy", sent.append)
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RuntimeError("no room\x1b[2J\nat all"), "no room\N{REPLACEMENT CHARACTER}[2J"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_report_that_fails_is_a_warning(failure, reason, tmp_path, monkeypatch):
    def fail(path):
        raise failure

    monkeypatch.setattr(report.page, "write", fail)
    sent = []
    report.after_run(tmp_path, sent.append)
    text = f"no report ({reason}); charjax report {tmp_path} writes it"
    assert sent == [{"kind": "warning", "text": text}]
