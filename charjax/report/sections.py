"""The sections of a report's page as HTML; `page.js` draws the charts in them."""

import time
from collections.abc import Sequence

from charjax.report.advice import Advice
from charjax.report.markup import text
from charjax.report.read import Section
from charjax.units import duration, in_bits

HOVER = "Point at the chart, or tap it, to read values."

SCATTERS = """
<section><h2>What makes the difference</h2>
<p>Each dot is a run at its best loss. The line joins the runs of which none is smaller,
or quicker, and better. How much of the runs' order follows from one field alone is
measured by the ranks of their losses, corrected for chance.</p>
<div class="wide scatters" id="scatters"></div></section>
"""


def header(run: Section, curves: Section) -> str:
    """Returns the title, the figures, the command and the parameters by part."""
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
        "<p class=note>The run uses a cell of your own. Put the config file that "
        "registers it in the place of <code>default</code>.</p>"
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
<h3>Command</h3>
<div class="command"><pre id="command">{text(run["command"])}</pre>
<button type="button" data-copy="command">Copy</button></div>{own}
<h3>Parameters</h3>
<table class="parts"><tbody>{parts}
<tr class="sum"><th scope=row>total</th><td>{total:,}</td><td></td></tr></tbody></table>
</header>"""


def _loss_facts(run: Section, curves: Section) -> str:
    name = {"val": "validation", "train": "training"}[run["loss_of"]]
    loss, size = run["best_loss"], run["bytes_per_character"]
    if loss is None:
        facts = _fact(f"{name} loss", "–", "not measured yet")
    else:
        facts = _fact(
            f"best {name} loss",
            f"{loss:.4f}",
            f"nats a character, {_bits(loss, size)}, at epoch {run['best_epoch']:.2f}",
            "best",
        )
    if run["test_loss"] is not None:
        test = run["test_loss"]
        facts += _fact("test loss", f"{test:.4f}", f"nats, {_bits(test, size)}")
    if ngram := curves["ngram"]:
        facts += _fact(
            f"{ngram['order']}-gram model",
            f"{ngram['loss']:.4f}",
            f"nats, {_bits(ngram['loss'], size)}, on the same split",
        )
    return facts


def _bits(nats: float, bytes_per_character: float | None) -> str:
    found = in_bits(nats, bytes_per_character)
    per_byte = f" ({found['bits_per_byte']:.3f} a byte)" if len(found) > 1 else ""
    return f"{found['bits']:.3f} bits{per_byte}"


def _fact(name: str, figure: str, unit: str = "", kind: str = "") -> str:
    return (
        f'<div class="fact {kind}"><span>{text(name)}</span><b>{text(figure)}</b>'
        f"<small>{text(unit)}</small></div>"
    )


def losses(curves: Section) -> str:
    """Returns the places of the charts of loss, learning rate and gradient norm."""
    if not curves["train"]["loss"] and not curves["val"]["loss"]:
        return _missing("Loss", "metrics.jsonl has no records.")
    notes = []
    if curves["of"] != "val":
        notes.append("The run has no validation split, so only training is shown.")
    if ngram := curves["ngram"]:
        notes.append(
            f"The dashed line is the loss of a {ngram['order']}-gram model on the same "
            f"split. It predicts a character from the {ngram['order'] - 1} before it, "
            f"by counts in {ngram['characters']:,} characters of the training text."
        )
    else:
        notes.append(
            "No n-gram model is shown: it needs a split whose characters all count in "
            "the loss."
        )
    return f"""
<section><h2>Loss</h2>
<p>The loss is in nats a character. The ring marks the best checkpoint.
{text(" ".join(notes))} {HOVER}</p>
<figure class="wide charts"><div id="loss"></div><div id="rate"></div>
<div id="norm"></div></figure>{_other_predictors(curves["ngram"])}</section>"""


def _other_predictors(ngram: Section | None) -> str:
    """Returns a table of what was measured beside the model."""
    if not ngram:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{text(name)}</th><td>{loss:.4f} nats</td>"
        f"<td>{_bits(loss, ngram['bytes_per_character'])}</td></tr>"
        for name, loss in ngram["rows"]
    )
    return f"""
<h3>Other predictors</h3>
<p>Losses on the first {ngram["read"]:,} characters of the split, read one after the
other. A mixture's weights, and a model that learns while it reads, follow what was
read before.</p>
<table class="predictors"><tbody>{rows}</tbody></table>"""


def advice(verdicts: Sequence[Advice]) -> str:
    """Returns what to try next, and in a fold what looked fine."""
    if not verdicts:
        return _missing("What to try next", "The run has too few records to judge.")
    changes = [item for item in verdicts if item.level == "try"]
    fine = [item for item in verdicts if item.level == "fine"]
    intro = (
        "Common rules of thumb, with the numbers they were applied to."
        if changes
        else "No rule of thumb suggests a change."
    )
    rest = (
        f"<details><summary>{len(fine)} other checks found nothing to change</summary>"
        f'<ul class="advice fine">{_items(fine)}</ul></details>'
        if fine
        else ""
    )
    return (
        f"<section><h2>What to try next</h2><p>{intro}</p>"
        f'<ul class="advice">{_items(changes)}</ul>{rest}</section>'
    )


def _items(verdicts: Sequence[Advice]) -> str:
    return "".join(
        f"<li><b>{text(item.rule)}</b><span>{text(item.text)}</span></li>"
        for item in verdicts
    )


def accuracy(accuracy: Section | None) -> str:
    """Returns the right answers of a task by difficulty; nothing for another text."""
    if accuracy is None:
        return ""
    names = ("digits", "nesting", "questions")
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{row[name]}</td>" for name in names)
        + f"<td>{row['characters']:.1%}</td><td>{row['answers']:.1%}</td></tr>"
        for row in accuracy["rows"]
    )
    return f"""
<section><h2>Right answers</h2>
<p>Of held-out questions, each read from the zero state: how many characters of the
answers, and whole answers, are right, by the digits of the largest numbers and by the
operations of a program. A character is right if it is the likeliest after the question
and the right ones before it; the last one is the newline that ends the answer. An
answer is right if all of them are. After
<a href="https://arxiv.org/abs/1410.4615">Zaremba and Sutskever (2014)</a>.</p>
<table><thead><tr><th>digits</th><th>nesting</th><th>questions</th>
<th>characters right</th><th>answers right</th></tr></thead>
<tbody>{rows}</tbody></table></section>"""


def samples(samples: Sequence[Section]) -> str:
    """Returns the texts drawn during training."""
    if not samples:
        return _missing(
            "Samples during training",
            "None were drawn (sample.length is 0, or no validation was made).",
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
<section><h2>Samples during training</h2><p>Text drawn after some of the
validations.</p>
<div class="wide cards">{cards}</div></section>"""


def temperatures(temperatures: Section) -> str:
    """Returns the texts drawn from the best checkpoint."""
    if "missing" in temperatures:
        return _missing("Samples by temperature", temperatures["missing"])
    cards = "".join(
        _card(f"temperature {t['temperature']:g}", "", t["text"])
        for t in temperatures["texts"]
    )
    prime = temperatures["prime"]
    has_documents, begins = temperatures["documents"], ""
    if prime:
        each = "Each document" if has_documents else "Each"
        begins = f' {each} begins with <q class="term">{text(prime)}</q>.'
    elif not has_documents:
        begins = " Each begins with a character drawn uniformly."
    return f"""
<section><h2>Samples by temperature</h2>
<p>Text drawn from the best checkpoint. A low temperature gives likely text, a high one
varied text.{begins}</p>
<div class="wide cards">{cards}</div></section>"""


def _card(title: str, about: str, sample: str) -> str:
    return (
        f"<article><h4>{text(title)} <small>{text(about)}</small></h4>"
        f'<div class="text" dir="auto">{text(sample)}</div></article>'
    )


def heldout(heldout: Section) -> str:
    """Returns the place of the text coloured by probability."""
    if "missing" in heldout:
        return _missing("Predictions", heldout["missing"])
    count = sum(len(p["characters"]) for p in heldout["passages"])
    return f"""
<section><h2>Predictions</h2>
<p>{count:,} characters of the {heldout["split"]} split. The colour of each shows the
probability that the model gave it from the characters before. Point at a character, or
tap it, to see the five likeliest. Each passage is read from the zero state.</p>
<div class="legend" id="legend-heldout"></div>
<div class="text long" id="heldout" dir="auto"></div></section>"""


def cells(cells: Section) -> str:
    """Returns the place of the text coloured by a unit's activation."""
    if "missing" in cells:
        return _missing("Activations", cells["missing"])
    left_out = (
        f" {cells['left_out']:,} units are left out to keep the page small."
        if cells["left_out"]
        else ""
    )
    none = "" if cells["telling"] else " No known pattern occurs in this text."
    return f"""
<section><h2>Activations</h2>
<p>The state of one unit while the model reads, after
<a href="https://arxiv.org/abs/1506.02078">Karpathy, Johnson and Fei-Fei (2015)</a>.
The colour of a character shows the state after it was read, relative to the unit's
largest. Each button shows the unit that correlates best with a pattern, of all units,
over {cells["read"]:,} characters of the {cells["split"]} split. Any other unit can be
chosen below. Layers are numbered from 1, the lowest, and units from
0.{left_out}{none}</p>
<div class="choices" id="telling" role="group" aria-label="units that track a pattern">
</div>
<div class="pick"><label>layer <select id="layer"></select></label>
<label>unit <select id="unit"></select></label>
<span class="stepper">
<button type="button" id="before" aria-label="previous unit">‹</button>
<button type="button" id="after" aria-label="next unit">›</button></span>
<span id="about"></span></div>
<div class="legend" id="legend-cells"></div>
<div class="text long" id="cells" dir="auto"></div></section>"""


def saturation(saturation: Section) -> str:
    """Returns the places of the charts of gate saturation."""
    if "missing" in saturation:
        return _missing("Gate saturation", saturation["missing"])
    return f"""
<section><h2>Gate saturation</h2>
<p>Each dot is a unit. It shows how often the unit's gate is shut (below 0.1) and how
often it is open (above 0.9), over {saturation["read"]:,} characters of the
{saturation["split"]} split. Gates near the upper left corner are nearly always open,
near the lower right corner nearly always shut, and near the origin neither.</p>
<div class="legend" id="legend-layers"></div>
<div class="wide scatters" id="saturation"></div></section>"""


def configuration(config: Section, run: Section) -> str:
    """Returns every field, and which checkpoint the report is of."""
    rows = "".join(
        f"<tr><th scope=row>{text(field)}</th><td>{text(repr(value))}</td></tr>"
        for field, value in config.items()
    )
    versions = ", ".join(f"{name} {v}" for name, v in run["versions"].items())
    saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["saved"]))
    return f"""
<section><h2>Configuration</h2>
<p>Best checkpoint: <code>{text(run["best"])}</code>, saved {saved}, with
{text(versions)}.</p>
<details><summary>All {len(config)} fields</summary>
<table class="fields"><tbody>{rows}</tbody></table></details></section>"""


def _missing(title: str, reason: str) -> str:
    return (
        f"<section><h2>{text(title)}</h2>"
        f'<p class="note">Not available. {text(reason)}</p></section>'
    )
