"""Every field with its default: what the other configs start from.

python launch.py --config configs/default.py
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    return default_config()
