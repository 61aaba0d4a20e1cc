"""Learning to execute: the results of sums, or of small programs, written by an LSTM.

    python launch.py --config configs/learning_to_execute.py
    charjax train --config learning_to_execute
    charjax train --config learning_to_execute:programs

Sums of two numbers of up to three digits: PLACEHOLDER
"""

from charjax.config import Config, default_config
from charjax.errors import check_choice

# By task: digits, nesting, characters of a chunk, units, steps.
_RECIPES = {
    "addition": (3, 1, 32, 128, 2500),
    "programs": (2, 2, 80, 192, 1200),
}


def get_config(task: str = "addition") -> Config:
    """Returns the recipe of a task: `addition` (the default) or `programs`."""
    check_choice("the task after the colon", task, tuple(_RECIPES))
    digits, nesting, length, size, steps = _RECIPES[task]
    config = default_config()
    config.train.run_name = task
    config.data.name = task
    config.data.digits = digits
    config.data.nesting = nesting
    config.data.batch_size = 64
    config.data.seq_length = length

    config.model.hidden_size = size

    config.train.max_steps = steps
    config.train.eval_every = 0.1
    return config
