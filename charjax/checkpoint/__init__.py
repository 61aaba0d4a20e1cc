"""Checkpoints: written whole or not at all, checked before they are used.

    cv/shakespeare_lstm/                  a run
      lm_lstm_epoch0.95_2.0681/           a checkpoint: its cell, epoch and loss
        checkpoint.json                   the `Manifest`, sealed by a sha256 of itself
        arrays/params, arrays/training    Orbax: the weights; what training needs beside
      .tmp-PID-NAME/                      being written or deleted; `sweep` clears it
      .damaged-NAME/                      damaged, and set aside by its own run

Orbax loads flipped bytes without an error, so the manifest holds the sha256 of every
file below `arrays/`. A digest of each file covers the leaves and also Orbax's own index
and metadata. It is compared before Orbax reads anything.

A checkpoint may be a link to a folder elsewhere. It is listed, loaded and resumed from
like any other, and never deleted.
"""

from charjax.checkpoint.choosing import CHOICES, Entry, find, listing
from charjax.checkpoint.files import ARRAYS, GROUPS, StrPath
from charjax.checkpoint.formats import FORMAT, SPEC_FIELDS
from charjax.checkpoint.keeping import examine, prune, set_aside, sweep
from charjax.checkpoint.loading import Verified, load, restore, verify
from charjax.checkpoint.manifest import MANIFEST, Manifest, read, spec_of
from charjax.checkpoint.saving import save

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
    "prune",
    "read",
    "restore",
    "save",
    "set_aside",
    "spec_of",
    "sweep",
    "verify",
]
