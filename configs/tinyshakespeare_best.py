"""A larger LSTM on tinyshakespeare in char-rnn's lanes: the text of char_rnn.py.

python launch.py --config configs/tinyshakespeare_best.py
    charjax train --config tinyshakespeare_best
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.train.run_name = "tinyshakespeare_best"
    config.data.name = "tinyshakespeare"
    config.data.random_offset = True

    config.model.hidden_size = 320
    config.model.embedding_size = 320
    config.model.dropout_mode = "locked"
    config.model.dropout = 0.3
    config.model.embedding_dropout = 0.3

    config.train.max_epochs = 30
    return config
