"""Every field with its default: the base of the other recipes.

    python launch.py --config configs/default.py
    charjax train --config default

`charjax train --help` lists the fields.
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.train.run_name = "default"
    return config
