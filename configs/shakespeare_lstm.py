"""An LSTM of 2 x 192 units on Shakespeare's plays: the recipe to start with.

    python launch.py --config configs/shakespeare_lstm.py
    charjax train --config shakespeare_lstm

Two epochs of 4.8 million characters reach a validation loss of 1.2558 nats a character
(1.812 bits) in 1 min 52 s, on two cores of an AMD EPYC with AVX-512. A Kneser-Ney model
of order 8 is at 1.3344 (in the report of the run).
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.data.seq_length = 100
    config.model.hidden_size = 192
    config.model.embedding_size = 192

    config.train.max_epochs = 2
    config.train.eval_every = 0.25
    return config
