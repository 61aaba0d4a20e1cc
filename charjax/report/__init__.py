"""A run's folder as one page: what was trained, how it went, what the model knows.

`collect` gathers plain data from a run, `render` makes a page of it without any other
file, and `write` does both. `compare` and `render_comparison` do so for several runs.
"""

from charjax.report.advice import Advice, Facts, advise
from charjax.report.collect import Report, collect
from charjax.report.comparison import Comparison, compare, table
from charjax.report.page import render, render_comparison, write, write_comparison

__all__ = [
    "Advice",
    "Comparison",
    "Facts",
    "Report",
    "advise",
    "collect",
    "compare",
    "render",
    "render_comparison",
    "table",
    "write",
    "write_comparison",
]
