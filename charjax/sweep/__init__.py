"""Sweeps: many runs that differ in some fields, most of them stopped early.

    trials.py     which runs: fields, their values, names of folders
    halving.py    which run goes on next, by the losses so far
    work.py       one process's work on a sweep
    stack.py      without a folder: runs that one compiled step trains together
    differing.py  the numbers in which these may differ

A sweep's whole state is its folder of ordinary runs, and a run is held by its lock. So
any number of processes, on any machines that see the folder, may work on one sweep;
what one leaves when it is killed another takes up.
"""

from charjax.sweep.stack import Member, stacked
from charjax.sweep.trials import Choice, Sweep, Trial, make_sweep, parse_choice
from charjax.sweep.work import Standing, standings, work

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
