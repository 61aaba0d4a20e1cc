"""LSTMs on War and Peace at the sizes of Karpathy, Johnson and Fei-Fei (2015).

    python launch.py --config configs/warpeace.py
    charjax train --config warpeace
    charjax train --config warpeace:45k

The text is read as bytes, in lanes of which 80% train, 10% validate and 10% test, in
chunks of 100 x 100. The sizes are those of the paper (https://arxiv.org/abs/1506.02078):
the most units of a two-layer LSTM with at most that many parameters. The paper's losses
are its best of each size, recalled and not read again. `375k` was trained with
`model.dtype=bfloat16`, the others in float32.

| size | units | epochs | validation loss | the paper |
| --- | --- | --- | --- | --- |
| `45k` | 45 | 20 | 1.3350 | 1.373 |
| `122k` (the default) | 83 | 20 | 1.1930 | 1.226 |
| `375k` | 159 | 16 | 1.0884 | 1.137 |
| `1270k` | 307 | 10 | 1.0582 | 1.077 |
"""

from charjax.config import Config, default_config
from charjax.errors import check_choice

# By size: units, dropout, learning rate, weight decay, epochs.
_RECIPES = {
    "45k": (45, 0.0, 0.067, 0.01, 20),
    "122k": (83, 0.0, 0.05, 0.01, 20),
    "375k": (159, 0.0, 0.036, 0.05, 16),
    "1270k": (307, 0.1, 0.026, 0.01, 10),
}


def get_config(size: str = "122k") -> Config:
    """Returns the recipe of a size: `45k`, `122k`, `375k` or `1270k`."""
    check_choice("the size after the colon", size, tuple(_RECIPES))
    units, dropout, rate, weight_decay, epochs = _RECIPES[size]
    config = default_config()
    config.train.run_name = f"warpeace_{size}"
    config.data.name = "warpeace"
    config.data.encoding = "bytes"
    config.data.train_frac = 0.8
    config.data.val_frac = 0.1
    config.data.batch_size = 100
    config.data.seq_length = 100

    config.model.hidden_size = units
    config.model.dropout_mode = "locked"
    config.model.dropout = dropout

    config.optimizer.learning_rate = rate
    config.optimizer.weight_decay = weight_decay

    config.train.max_epochs = epochs
    return config
