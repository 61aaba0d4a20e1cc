"""Trains a model: `python launch.py --config configs/shakespeare_lstm.py`.

It is `charjax train`, from a clone. Any field can be set (`--config.model.cell=gru`);
the same command continues a stopped run.
"""

import sys

from charjax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], prog="launch.py"))
