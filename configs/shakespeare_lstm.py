"""An LSTM on Shakespeare's plays: what charjax trains by default.

python launch.py --config configs/shakespeare_lstm.py
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.model.hidden_size = 192

    config.optimizer.learning_rate = 1e-2
    config.optimizer.warmup_steps = 100

    config.train.max_epochs = 2
    config.train.eval_every = 0.25
    return config
