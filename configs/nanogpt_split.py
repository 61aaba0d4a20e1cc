"""An LSTM on nanoGPT's split of tinyshakespeare, in two budgets.

    python launch.py --config configs/nanogpt_split.py
    charjax train --config nanogpt_split
    charjax train --config nanogpt_split:quick

The first 90% of the text train, the last 10% validate, as in nanoGPT's
`shakespeare_char`, whose transformer of 10.65 M parameters is published at 1.4697. On
two cores of an AMD EPYC with AVX-512 (Zen 5) and `--config.model.dtype=bfloat16` the
default, `small`, with 0.94 M parameters, reaches 1.3849 nats a character after 32
epochs in 9 min 17 s, and `quick`, with 0.62 M, is below 1.4697 after 53 s and at 1.4236
after 64 s, 6 epochs.
"""

from charjax.config import Config, default_config
from charjax.errors import check_choice

# By budget: units, size of the embedding, dropout, epochs.
_RECIPES = {
    "quick": (192, 192, 0.1, 6),
    "small": (256, 128, 0.3, 32),
}


def get_config(budget: str = "small") -> Config:
    """Returns the recipe of a budget: `quick` or `small` (the default)."""
    check_choice("the budget after the colon", budget, tuple(_RECIPES))
    units, embedding_size, dropout, epochs = _RECIPES[budget]
    config = default_config()
    config.train.run_name = f"nanogpt_split_{budget}"
    config.data.name = "tinyshakespeare"
    config.data.split = "contiguous"
    config.data.train_frac = 0.9
    config.data.val_frac = 0.1
    config.data.batch_size = 32
    config.data.seq_length = 100
    config.data.random_offset = True

    config.model.hidden_size = units
    config.model.embedding_size = embedding_size
    config.model.dropout_mode = "locked"
    config.model.dropout = dropout

    config.optimizer.weight_decay = 0.05

    config.train.max_epochs = epochs
    return config
