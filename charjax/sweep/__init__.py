"""Sweeps: many runs that differ in some fields, most of them stopped early.

    trials.py    which runs: fields, their values, names of folders
    halving.py   which run goes on next, by the losses so far
    work.py      one process's work on a sweep

and, without a folder,

    stack.py     runs whose numbers differ, trained in one compiled step
    differing.py     these numbers

A sweep's whole state is its folder of ordinary runs, and a run is held by its lock. So
any number of processes, on any machines that see the folder, may work on one sweep;
what one leaves when it is killed another takes up.
"""

import importlib
from typing import TYPE_CHECKING, Any

from charjax.sweep.trials import Choice, Sweep, Trial, make_sweep, parse_choice
from charjax.sweep.work import Standing, standings, work

if TYPE_CHECKING:
    from charjax.sweep.stack import Member, stacked

__all__ = [
    "Choice",
    "Member",
    "Standing",
    "Sweep",
    "Trial",
    "make_sweep",
    "parse_choice",
    "stacked",
    "standings",
    "work",
]


def __getattr__(name: str) -> Any:
    if name not in ("Member", "stacked"):
        raise AttributeError(f"module 'charjax.sweep' has no attribute {name!r}")
    # Imported when first used: a sweep's own process needs no training libraries.
    return getattr(importlib.import_module("charjax.sweep.stack"), name)
