"""A run's folder as one page: what was trained, how it went, what the model predicts.

`collect` returns plain data about a run, `render` makes an HTML page of it that loads
nothing, and `write` does both. `compare` and `render_comparison` do so for several
runs. `after_run` writes the page of a run that has just finished. `dynamic_for` reads a
run's training text, to make its model ready to learn while it reads, and `ngram_for`
to count it; `heldout_text` returns what the model was validated on. `paired` compares
two scores of one text.
"""

from charjax.report.advice import Advice, Facts, advise
from charjax.report.after import after_run
from charjax.report.collect import Report, collect
from charjax.report.comparison import Comparison, compare, table
from charjax.report.counting import ngram_for
from charjax.report.heldout import heldout_text
from charjax.report.learning import dynamic_for
from charjax.report.page import render, render_comparison, write, write_comparison
from charjax.report.paired import Paired, paired

__all__ = [
    "Advice",
    "Comparison",
    "Facts",
    "Paired",
    "Report",
    "advise",
    "after_run",
    "collect",
    "compare",
    "dynamic_for",
    "heldout_text",
    "ngram_for",
    "paired",
    "render",
    "render_comparison",
    "table",
    "write",
    "write_comparison",
]
