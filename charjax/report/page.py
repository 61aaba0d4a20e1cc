"""A report as one HTML file that needs no other: text here, charts in `page.js`."""

import base64
import html
import time
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from charjax.errors import CheckpointError, ConfigError
from charjax.report.collect import Report, Section, collect
from charjax.report.comparison import Comparison, figures
from charjax.report.history import plain_json
from charjax.storage.files import replacing
from charjax.units import bits, duration

NAME = "report.html"
_GENERATOR = '<meta name="generator" content="charjax">'

_SHOWN_CONTROLS = {"\n", "\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH JOINER}"}


def write(run: Path | str) -> Path:
    """Writes a run's report into its folder, whole or not at all.

    Args:
      run: the run's folder.

    Returns:
      The file, `report.html`.

    Raises:
      CheckpointError: it is no run's folder, has no sound checkpoint yet, or cannot be
        written to.
      ConfigError: its configuration or cell is not known, or it holds another
        `report.html`.

    Example:
      >>> from charjax import report
      >>> report.write("cv/shakespeare_lstm")  # doctest: +SKIP
      PosixPath('cv/shakespeare_lstm/report.html')
    """
    path = Path(run, NAME)
    _write(path, render(collect(run)))
    return path


def write_comparison(comparison: Comparison, path: Path | str) -> None:
    """Writes a comparison of runs to a file, whole or not at all.

    Args:
      comparison: what `charjax.report.compare` returned.
      path: the file; another page of charjax's is replaced.

    Raises:
      CheckpointError: the file cannot be written.
      ConfigError: another file has the name.

    Example:
      >>> from charjax import report
      >>> runs = report.compare(["cv/a", "cv/b"])  # doctest: +SKIP
      >>> report.write_comparison(runs, "compare.html")  # doctest: +SKIP
    """
    _write(Path(path), render_comparison(comparison))


def _write(path: Path, page: str) -> None:
    try:
        if path.exists() and not _is_ours(path):
            raise ConfigError(
                f"{path} is there and no page of charjax's; move it or choose another "
                "name"
            )
        with replacing(path) as file:
            file.write(page.encode("utf-8", "replace"))
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; choose another place"
        ) from None


def _is_ours(path: Path) -> bool:
    return path.is_file() and _GENERATOR.encode() in path.read_bytes()[:1000]


def render(report: Report) -> str:
    """Returns a report as an HTML page that loads nothing.

    Args:
      report: what `charjax.report.collect` returned.
    """
    run = report.run
    body = [
        _header(run, report.curves),
        _losses(report.curves),
        _advice(report.advice),
        _samples(report.samples),
        _temperatures(report.temperatures),
        _heldout(report.heldout),
        _cells(report.cells),
        _saturation(report.saturation),
        _configuration(report.config, run),
    ]
    data = {
        "curves": report.curves,
        "best": [run["best_epoch"], run["best_loss"]],
        "heldout": _packed_passages(report.heldout),
        "cells": _packed_cells(report.cells),
        "saturation": report.saturation,
    }
    return _page(f"{run['name']} – charjax report", "".join(body), data)


def render_comparison(comparison: Comparison) -> str:
    """Returns a comparison as an HTML page that loads nothing.

    Args:
      comparison: what `charjax.report.compare` returned.
    """
    runs = comparison.runs
    heads = [name for name, _ in figures(runs[0])] if runs else []
    fields = comparison.fields
    rows = [
        f'<tr><th scope="row"><i class="key" data-series="{number}"></i>'
        f"{text(run['name'])}</th>"
        + "".join(f"<td>{text(cell)}</td>" for _, cell in figures(run))
        + "".join(f"<td>{text(run['values'][field])}</td>" for field in fields)
        + "</tr>"
        for number, run in enumerate(runs)
    ]
    columns = "".join(
        f'<th scope="col">{text(name).replace(".", ".<wbr>")}</th>'
        for name in [*heads, *fields]
    )
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in comparison.notes)
    body = f"""
<header><p class="kind">charjax comparison</p>
<h1>{len(runs)} runs</h1>
<p class="lead">By best validation loss, in nats a character; of the configuration the
fields in which the runs differ.</p></header>
<section><div class="wide scroll"><table class="runs">
<thead><tr><th scope="col">run</th>{columns}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>{notes}</section>
<section><h2>Loss</h2>
<p>Validation loss as lines with points, training loss thin behind them. {_HOVER}</p>
<div class="choices" id="axis" role="group" aria-label="horizontal axis"></div>
<div class="wide" id="comparison"></div></section>
"""
    shown = [{"name": _shown(run["name"]), "curves": run["curves"]} for run in runs]
    return _page("charjax comparison", body, {"comparison": shown})


def text(value: object) -> str:
    r"""Returns a value as HTML text in which nothing is markup and all is visible.

    >>> text("</b> & \x07")
    '&lt;/b&gt; &amp; ␇'
    """
    return html.escape(_shown(value))


def _shown(value: object) -> str:
    return "".join(map(visible, str(value)))


def visible(character: str) -> str:
    r"""Returns a character, or what stands for it where it would not show.

    Control characters and those that turn the direction of the text around must not
    act on the page; newlines and joiners may.

    >>> visible("a"), visible("\t"), visible("\u202e")
    ('a', '␉', '[U+202E]')
    """
    if character in _SHOWN_CONTROLS or len(character) > 1:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
        return f"[U+{code:04X}]"
    return character


_HOVER = "Point at the chart, or tap it, to read values."


def _header(run: Section, curves: Section) -> str:
    spec = f"{run['cell']} {run['num_layers']} × {run['hidden_size']}"
    names = {"train": "training", "val": "validation", "test": "test"}
    total = sum(run["parameters"].values())
    splits = "".join(
        _fact(f"{names[name]} split", f"{size:,}", "characters")
        for name, size in run["splits"].items()
    )
    speed = "" if run["speed"] is None else f"{run['speed']:,.0f} characters a second"
    parts = "".join(
        f"<tr><th scope=row>{text(part)}</th><td>{size:,}</td>"
        f'<td><i class="bar" style="--part:{size / total:.4f}"></i></td></tr>'
        for part, size in run["parameters"].items()
    )
    state = "" if run["finished"] else " The run has not finished."
    own = (
        "<p class=note>The cell is of your own: put the config file that registers it "
        "in place of configs/default.py.</p>"
        if run["own_cell"]
        else ""
    )
    return f"""
<header><p class="kind">charjax report</p>
<h1>{text(run["name"])}</h1>
<p class="lead">{text(spec)}, {total:,} parameters, trained on
<b class="term">{text(run["text"])}</b> ({run["symbols"]:,} distinct characters) for
{run["steps"]:,} steps in {text(duration(run["seconds"]))}.{state}</p>
<div class="facts">{_loss_facts(run, curves)}
{_fact("time", duration(run["seconds"]), speed)}{splits}</div>
<h3>To repeat it</h3>
<div class="command"><pre id="command">{text(run["command"])}</pre>
<button type="button" data-copy="command">Copy</button></div>{own}
<h3>Parameters</h3>
<table class="parts"><tbody>{parts}
<tr class="sum"><th scope=row>all</th><td>{total:,}</td><td></td></tr></tbody></table>
</header>"""


def _loss_facts(run: Section, curves: Section) -> str:
    name = {"val": "validation", "train": "training"}[run["loss_of"]]
    loss = run["best_loss"]
    if loss is None:
        facts = _fact(f"{name} loss", "–", "not measured yet")
    else:
        facts = _fact(
            f"best {name} loss",
            f"{loss:.4f}",
            f"nats a character, {bits(loss):.3f} bits, at epoch "
            f"{run['best_epoch']:.2f}",
            "best",
        )
    if run["test_loss"] is not None:
        test = run["test_loss"]
        facts += _fact("test loss", f"{test:.4f}", f"nats, {bits(test):.3f} bits")
    if ngram := curves["ngram"]:
        facts += _fact(
            f"{ngram['order']}-gram model",
            f"{ngram['loss']:.4f}",
            f"nats, {bits(ngram['loss']):.3f} bits, on the same split",
        )
    return facts


def _fact(name: str, figure: str, unit: str = "", kind: str = "") -> str:
    return (
        f'<div class="fact {kind}"><span>{text(name)}</span><b>{text(figure)}</b>'
        f"<small>{text(unit)}</small></div>"
    )


def _losses(curves: Section) -> str:
    if not curves["train"]["loss"] and not curves["val"]["loss"]:
        return _missing("Loss", "There are no records in metrics.jsonl.")
    notes = []
    if curves["of"] != "val":
        notes.append("The run has no validation split: only training is shown.")
    if ngram := curves["ngram"]:
        notes.append(
            f"The dashed line is a {ngram['order']}-gram model, which counts what "
            f"followed the last {ngram['order'] - 1} characters in "
            f"{ngram['characters']:,} characters of the training text, on the same "
            "split."
        )
    else:
        notes.append("There is no n-gram model to compare with, for want of a split.")
    return f"""
<section><h2>Loss</h2>
<p>Nats a character over epochs. The ring marks the best checkpoint.
{text(" ".join(notes))} {_HOVER}</p>
<figure class="wide charts"><div id="loss"></div><div id="rate"></div>
<div id="norm"></div></figure></section>"""


def _advice(advice: list[Any]) -> str:
    if not advice:
        return _missing("What to try next", "The run has too few records to judge by.")
    changes = [item for item in advice if item.level == "try"]
    fine = [item for item in advice if item.level == "fine"]
    lines = "".join(
        f"<li><b>{text(item.rule)}</b><span>{text(item.text)}</span></li>"
        for item in changes
    )
    intro = (
        "Rules of thumb that practitioners go by, each with the numbers behind it."
        if changes
        else "No rule of thumb asks for a change."
    )
    rest = "".join(
        f"<li><b>{text(item.rule)}</b><span>{text(item.text)}</span></li>"
        for item in fine
    )
    more = (
        f"<details><summary>{len(fine)} more looked at, and fine</summary>"
        f'<ul class="advice fine">{rest}</ul></details>'
        if fine
        else ""
    )
    return (
        f"<section><h2>What to try next</h2><p>{intro}</p>"
        f'<ul class="advice">{lines}</ul>{more}</section>'
    )


def _samples(samples: list[Section]) -> str:
    if not samples:
        return _missing(
            "As it learned",
            "No samples were drawn (sample.length=0, or no validation).",
        )
    cards = "".join(
        _card(
            f"epoch {s['epoch']:.2f}",
            f"loss {s['loss']:.3f} · {duration(s['seconds'])}",
            s["sample"],
        )
        for s in samples
    )
    return f"""
<section><h2>As it learned</h2><p>Text drawn at validations along the training.</p>
<div class="wide cards">{cards}</div></section>"""


def _temperatures(temperatures: Section) -> str:
    cards = "".join(
        _card(f"temperature {t['temperature']:g}", "", t["text"])
        for t in temperatures["texts"]
    )
    prime = temperatures["prime"]
    begins = (
        f'begin with <q class="term">{text(prime)}</q>'
        if prime
        else "begin with a character drawn evenly"
    )
    return f"""
<section><h2>What it writes</h2>
<p>From the best checkpoint. A low temperature keeps to what is likely, a high one
takes more risks; all {begins}.</p>
<div class="wide cards">{cards}</div></section>"""


def _card(title: str, about: str, sample: str) -> str:
    return (
        f"<article><h4>{text(title)} <small>{text(about)}</small></h4>"
        f'<div class="text" dir="auto">{text(sample)}</div></article>'
    )


def _heldout(heldout: Section) -> str:
    if "missing" in heldout:
        return _missing("How sure it is", heldout["missing"])
    count = sum(len(p["characters"]) for p in heldout["passages"])
    return f"""
<section><h2>How sure it is</h2>
<p>{count:,} characters of the {heldout["split"]} split, coloured by the probability the
model gave each one before it came. Point at a character, or tap it, for the five it
thought likeliest. Each passage is read from the zero state.</p>
<div class="legend" id="legend-heldout"></div>
<div class="text long" id="heldout" dir="auto"></div></section>"""


def _cells(cells: Section) -> str:
    if "missing" in cells:
        return _missing("Cells at work", cells["missing"])
    left_out = (
        f" {cells['left_out']:,} of the units are left out for the size of the page."
        if cells["left_out"]
        else ""
    )
    none = (
        ""
        if cells["telling"]
        else " None of the patterns looked for occurs in this text."
    )
    return f"""
<section><h2>Cells at work</h2>
<p>What single units do as they read, after
<a href="https://arxiv.org/abs/1506.02078">Karpathy, Johnson and Fei-Fei (2015)</a>:
each character has the colour of a unit's state once it is read, on the scale of that
unit's largest. The buttons show the units whose state goes best with a pattern, of all
units over {cells["read"]:,} characters of the {cells["split"]} split, with the
correlation; any other can be chosen below. Layers are counted from 1, the lowest; units
from 0.{left_out}{none}</p>
<div class="choices" id="telling" role="group" aria-label="telling units"></div>
<div class="pick"><label>layer <select id="layer"></select></label>
<label>unit <select id="unit"></select></label>
<span class="stepper">
<button type="button" id="before" aria-label="unit before">‹</button>
<button type="button" id="after" aria-label="unit after">›</button></span>
<span id="about"></span></div>
<div class="legend" id="legend-cells"></div>
<div class="text long" id="cells" dir="auto"></div></section>"""


def _saturation(saturation: Section) -> str:
    if "missing" in saturation:
        return _missing("Gates", saturation["missing"])
    return f"""
<section><h2>Gates</h2>
<p>Each dot is a unit: how often its gate is shut (below 0.1) and how often it is open
(above 0.9), over {saturation["read"]:,} characters of the {saturation["split"]} split.
Dots near the upper left corner are gates that are nearly always open, near the lower
right nearly always shut; near the origin they are neither.</p>
<div class="legend" id="legend-layers"></div>
<div class="wide scatters" id="saturation"></div></section>"""


def _configuration(config: Section, run: Section) -> str:
    rows = "".join(
        f"<tr><th scope=row>{text(field)}</th><td>{text(repr(value))}</td></tr>"
        for field, value in config.items()
    )
    versions = ", ".join(f"{name} {v}" for name, v in run["versions"].items())
    saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["saved"]))
    return f"""
<section><h2>Configuration</h2>
<p>Best checkpoint <code>{text(run["best"])}</code>, saved {saved}.
{text(versions)}.</p>
<details><summary>All {len(config)} fields</summary>
<table class="fields"><tbody>{rows}</tbody></table></details></section>"""


def _missing(title: str, reason: str) -> str:
    return (
        f"<section><h2>{text(title)}</h2>"
        f'<p class="note">Not here: {text(reason)}</p></section>'
    )


def _packed_passages(heldout: Section) -> Section | None:
    """Returns the passages with whole numbers: 1/100 nats, and 1/1000 of p."""
    if "missing" in heldout:
        return None
    return {
        "passages": [
            {
                "characters": [visible(c) for c in p["characters"]],
                "nats": [
                    None if x is None else round(-100 * x) for x in p["log_probs"]
                ],
                "guesses": [
                    [[visible(c), round(1000 * q)] for c, q in guesses]
                    for guesses in p["guesses"]
                ],
            }
            for p in heldout["passages"]
        ]
    }


def _packed_cells(cells: Section) -> Section | None:
    """Returns the activations as base64 of int8, each unit on its own scale."""
    if "missing" in cells:
        return None
    values_TxU = cells["values_TxU"]
    scale_U = np.abs(values_TxU).max(axis=0)
    safe_U = np.where(scale_U > 0, scale_U, 1)
    bytes_UxT = np.round(values_TxU / safe_U * 127).astype(np.int8).T
    return {
        "characters": [visible(c) for c in cells["characters"]],
        "units": [[u["layer"], u["index"], u["state"]] for u in cells["units"]],
        "scale": [float(f"{scale:.4g}") for scale in scale_U],
        "telling": [
            [t["predicate"], t["layer"], t["index"], t["state"], t["score"], t["sign"]]
            for t in cells["telling"]
        ],
        "values": base64.b64encode(bytes_UxT.tobytes()).decode(),
    }


def _page(title: str, body: str, data: Section) -> str:
    files = resources.files("charjax.report")
    style = (files / "page.css").read_text("utf-8")
    script = (files / "page.js").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{_GENERATOR}
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>{body}</main>
<noscript><p class="note">The charts need JavaScript.</p></noscript>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">{embedded_json(data)}</script>
<script>
{script}</script>
</body>
</html>
"""


def embedded_json(value: object) -> str:
    r"""Returns JSON that nothing in it can end the script element of.

    >>> embedded_json(["</script>"])
    '["\\u003c/script\\u003e"]'
    """
    escaped = plain_json(value)
    for character in "<>&\u2028\u2029":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    return escaped
