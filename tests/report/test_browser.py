"""The page in a real browser: it draws without an error, and answers the pointer."""

from charjax import report
from tests import browser

pytestmark = browser.needed

HOOK = """
addEventListener("load", () => {
  const tip = document.getElementById("tip"), seen = document.body.dataset;
  const point = (node, kind, share) => {
    const box = node.getBoundingClientRect();
    node.dispatchEvent(new PointerEvent(kind, { bubbles: true,
      clientX: box.left + box.width * share, clientY: box.top + box.height / 2 }));
    return tip.hidden ? "" : tip.textContent;
  };
  const first = (selector) => document.querySelector(selector);
  const paths = (id) => document.querySelectorAll(id + " svg path.line").length;
  seen.width = document.documentElement.scrollWidth - innerWidth;
  if (first("#comparison")) {
    seen.paths = paths("#comparison");
    seen.hover = point(first("#comparison svg"), "pointermove", 0.9);
    first("#axis button:nth-child(3)").click();
    seen.minutes = paths("#comparison");
    seen.runs = document.querySelectorAll("#scatters circle").length;
    seen.run = point(first("#scatters circle"), "pointerover", 0.5);
    return;
  }
  seen.paths = [paths("#loss"), paths("#rate"), paths("#norm")].join();
  seen.hover = point(first("#loss svg"), "pointermove", 1);
  const letters = document.querySelectorAll("#heldout i");
  seen.letters = letters.length;
  seen.guesses = point(letters[5], "pointerover", 0.5);
  seen.tapped = point(letters[6], "pointerdown", 0.5);
  const colours = () => [...document.querySelectorAll("#cells i")].map((i) =>
    i.className + i.style.getPropertyValue("--a")).join();
  const before = colours();
  first("#after").click();
  seen.recoloured = before !== colours();
  seen.dots = document.querySelectorAll("#saturation circle").length;
  seen.dot = point(first("#saturation circle"), "pointerover", 0.5);
});
"""


def look(page, folder, width=1280):
    return browser.look(page, HOOK, folder, width)


def test_the_report_draws_and_answers_the_pointer(run, data, tmp_path):
    page, seen = look(report.render(data), tmp_path)
    assert seen["paths"] == "2,1,1"
    last = data.curves["val"]["loss"][-1]
    assert f"validation{last:.4f}" in seen["hover"]
    assert f"best {run.best_loss:.4f}" in page
    passages = data.heldout["passages"]
    assert int(seen["letters"]) == sum(len(p["characters"]) for p in passages)
    best = passages[0]["guesses"][5][0][1]
    assert (f"{best:.1%}" if best < 0.0995 else f"{best:.0%}") in seen["guesses"]
    assert seen["tapped"] != ""
    assert seen["recoloured"] == "true"
    assert int(seen["dots"]) == 3 * 8
    assert "layer 1, unit 0" in seen["dot"]
    assert int(seen["width"]) <= 0


def test_a_narrow_page_does_not_scroll_sideways(data, tmp_path):
    _, seen = look(report.render(data), tmp_path, width=500)
    assert int(seen["width"]) <= 0


def test_the_comparison_draws_each_run_on_each_axis_and_by_each_field(run, tmp_path):
    first, second = report.compare([run.path, run.path]).runs
    first |= {"values": {"model.cell": "lstm"}}
    second |= {"values": {"model.cell": "<b>"}, "seconds": 2 * first["seconds"]}
    comparison = report.Comparison([first, second], ["model.cell"], [])
    _, seen = look(report.render_comparison(comparison), tmp_path)
    assert seen["paths"] == seen["minutes"] == "4"
    assert f"{run.history[-1]['loss']:.4f}" in seen["hover"]
    assert seen["runs"] == "4"
    assert f"model.celllstmloss{run.best_loss:.4f}" in seen["run"]
