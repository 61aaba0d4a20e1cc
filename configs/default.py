"""Every field with its default: what the other configs start from.

python launch.py --config configs/default.py
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.train.run_name = "default"
    return config
