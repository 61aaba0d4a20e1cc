"""The page in a real browser: it computes what charjax computes, and writes text."""

import base64
import dataclasses
import json

import jax
import numpy as np
import pytest

import charjax
from charjax.errors import CharjaxError
from charjax.interchange import html
from tests.browser import look, needed
from tests.models import make

VOCAB = charjax.Vocab("ab\u2028\U0001f600<'/script>&@")
PRIME = "ab\U0001f600</script>a"

COMPARE = """
const seen = document.body.dataset, prime = %s;
seen.engine = charjax.engine;
seen.logits = charjax.logits(prime).join();
seen.greedy = btoa(unescape(encodeURIComponent(charjax.sample(prime, 100, 0))));
const drawn = (seed) => charjax.sample(prime, 50, 0.8, seed);
seen.repeats = drawn(1) === drawn(1) && drawn(1) !== drawn(2);
"""


def computed(page, prime, folder):
    page, seen = look(page, COMPARE % json.dumps(prime).replace("</", "<\\/"), folder)
    seen["logits"] = np.array(list(map(float, seen["logits"].split(","))))
    seen["greedy"] = base64.b64decode(seen["greedy"]).decode()
    assert seen["repeats"] == "true"
    return seen


def without_webassembly(page):
    return page.replace("<body>", "<body><script>delete window.WebAssembly</script>")


def assert_same(seen, params, prime):
    ids = params.vocab.encode(prime)
    expected = np.asarray(charjax.apply(params, ids[None])[0][0, -1])
    np.testing.assert_allclose(seen["logits"], expected, atol=1e-4)
    text = charjax.sample(params, prime, 0, length=100)
    assert seen["greedy"] == (text if isinstance(text, str) else text.decode())


@needed
@pytest.mark.parametrize(("engine", "kind"), [
    ("WebAssembly", {"cell": "lstm", "zoneout": 0.3, "hidden_size": 33}),
    ("WebAssembly", {"cell": "gru", "embedding_size": 6, "tied": True}),
    ("JavaScript", {"cell": "gru_reset_before", "embedding_size": 3}),
    ("JavaScript", {"cell": "rnn", "num_layers": 1}),
])  # fmt: skip
def test_the_page_computes_the_models_logits_and_greedy_text(tmp_path, engine, kind):
    params = jax.tree.map(lambda w: 0.5 * w, make(3, VOCAB, **kind))
    page = html.render(params)
    page = without_webassembly(page) if engine == "JavaScript" else page
    seen = computed(page, PRIME, tmp_path)
    assert seen["engine"] == engine
    assert_same(seen, params, PRIME)


@needed
def test_weights_in_8_bits_are_the_nearest_of_255_levels_of_each_column(tmp_path):
    params = make(4, charjax.Vocab(bytes(range(200))), cell="lstm")

    def rounded(weights):
        if weights.ndim == 1:
            return weights
        level = np.abs(weights).max(axis=0) / 127
        return (np.round(weights / level) * level).astype("f4")

    narrow = jax.tree.map(rounded, jax.tree.map(np.asarray, params))
    prime = "Abc \x00é".encode()
    known = bytes(b for b in prime if b < 200).decode("utf-8", "ignore")
    seen = computed(html.render(params, int8=True), known, tmp_path)
    expected = charjax.apply(narrow, narrow.vocab.encode(known)[None])[0][0, -1]
    np.testing.assert_allclose(seen["logits"], expected, atol=1e-4)


@needed
def test_the_page_writes_coloured_text_and_shows_what_it_expects(tmp_path):
    hook = """
    const byId = (id) => document.getElementById(id), seen = document.body.dataset;
    byId("prime").value = "ab<i>z";
    byId("prime").dispatchEvent(new Event("input"));
    seen.note = byId("note").textContent;
    seen.rows = document.querySelectorAll("#next tr").length;
    byId("length").value = 300;
    byId("write").click();
    setTimeout(() => {
      seen.text = Array.from(byId("text").textContent).length;
      seen.elements = byId("text").children.length;
      seen.classes = [...new Set([...byId("text").children].map((n) => n.className))].sort();
      seen.markup = document.querySelectorAll("#text i, #next b").length;
      seen.after = byId("note").textContent;
      seen.width = document.documentElement.scrollWidth - innerWidth;
    }, 1000);
    """  # noqa: E501
    title = "<b>my</b> model"
    page = html.render(make(3, VOCAB), title=title)
    page, seen = look(page, hook, tmp_path, width=500)
    assert "model does not know them: z" in seen["note"]
    assert int(seen["rows"]) == 12
    assert int(seen["text"]) == 300 + len("ab<i>z")
    assert int(seen["elements"]) > 10
    assert seen["classes"].startswith("p")
    assert seen["classes"].endswith("prime")
    assert (seen["markup"], "300 characters" in seen["after"]) == ("0", True)
    assert int(seen["width"]) <= 0
    assert "&lt;b&gt;my&lt;/b&gt; model" in page


def test_the_page_of_the_default_model_in_8_bits_takes_less_than_a_megabyte():
    vocab = charjax.Vocab("".join(map(chr, range(32, 100))))
    for sizes in ({}, {"hidden_size": 192, "embedding_size": 192}):  # shakespeare_lstm
        sizes = dataclasses.asdict(charjax.ModelSpec()) | sizes
        page = html.render(make(0, vocab, **sizes), int8=True)
        assert len(page.encode()) < 1_000_000


def test_a_page_loads_nothing_and_holds_no_text_as_markup():
    page = html.render(make(0, VOCAB))
    assert page.count("</script>") == 2
    assert "default-src 'none'" in page
    assert not any(word in page for word in ("http://", "https://", "src=", "@import"))


def test_a_cell_that_the_page_lacks_is_refused(tmp_path):
    charjax.cells.register("of_the_user", charjax.cells.get("rnn"))
    params = make(0, VOCAB, cell="of_the_user")
    with pytest.raises(CharjaxError, match="must be one of lstm, gru"):
        html.write_html(params, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
