"""Checkpoints: written whole or not at all, checked before they are used.

    cv/shakespeare_lstm/                  a run
      lm_lstm_epoch0.95_2.0681/           a checkpoint: its cell, epoch and loss
        checkpoint.json                   the `Manifest`, sealed by a sha256 of itself
        arrays/params, arrays/training    Orbax: the weights; what training needs beside
        dynamic.stats                     what was computed from it (see `derived`)
      .tmp-PID-NAME/                      being written or deleted; `sweep` clears it
      .damaged-NAME/                      damaged, and set aside by its own run

Orbax loads flipped bytes without an error, so the manifest holds the sha256 of every
file below `arrays/`. A digest of each file covers the leaves and also Orbax's own index
and metadata. It is compared before Orbax reads anything.

A checkpoint may be a link to a folder elsewhere. It is listed, loaded and resumed from
like any other, and never deleted.
"""

from charjax.checkpoint.choosing import CHOICES, find, listing
from charjax.checkpoint.derived import load_derived, save_derived
from charjax.checkpoint.files import ARRAYS, GROUPS, StrPath
from charjax.checkpoint.finding import Entry
from charjax.checkpoint.formats import FORMAT, SPEC_FIELDS
from charjax.checkpoint.keeping import examine, prune, set_aside, sweep
from charjax.checkpoint.loading import Verified, load, restore, verify
from charjax.checkpoint.manifest import MANIFEST, Manifest, read, spec_of
from charjax.checkpoint.saving import save
from charjax.checkpoint.trees import template

__all__ = [
    "ARRAYS",
    "CHOICES",
    "FORMAT",
    "GROUPS",
    "MANIFEST",
    "SPEC_FIELDS",
    "Entry",
    "Manifest",
    "StrPath",
    "Verified",
    "examine",
    "find",
    "listing",
    "load",
    "load_derived",
    "prune",
    "read",
    "restore",
    "save",
    "save_derived",
    "set_aside",
    "spec_of",
    "sweep",
    "template",
    "verify",
]
