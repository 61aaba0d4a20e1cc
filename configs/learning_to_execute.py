"""Learning to execute: the results of sums, or of small programs, written by an LSTM.

    python launch.py --config configs/learning_to_execute.py
    charjax train --config learning_to_execute
    charjax train --config learning_to_execute:programs

Zaremba and Sutskever (2014, https://arxiv.org/abs/1410.4615). Shares of right answers
to held-out questions, after 2,500 steps in 6 min 52 s and 1,200 steps in 9 min 34 s, on
two cores of an AMD EPYC with AVX2 that were busy with other work too:

| task | parameters | 1 digit | 2 digits | 3 digits |
| --- | --- | --- | --- | --- |
| `addition` (the default) | 0.21 M | 31% | 98% | 99% |
| `programs` of one operation | 0.49 M | 99% | 43% | |
| `programs` of two operations | the same | 80% | 24% | |

Of sums of one digit there are only 100, and the model learns the 84 that are not held
out by heart. `charjax sample cv/addition --prime '123+456=' --greedy` writes a sum.
"""

from charjax.config import Config, default_config
from charjax.errors import check_choice

# By task: digits, nesting, characters of a chunk, units, learning rate, steps.
_RECIPES = {
    "addition": (3, 1, 32, 128, 0.018, 2500),
    "programs": (2, 2, 80, 192, 0.023, 1200),
}


def get_config(task: str = "addition") -> Config:
    """Returns the recipe of a task: `addition` (the default) or `programs`."""
    check_choice("the task after the colon", task, tuple(_RECIPES))
    digits, nesting, length, size, rate, steps = _RECIPES[task]
    config = default_config()
    config.train.run_name = task
    config.data.name = task
    config.data.digits = digits
    config.data.nesting = nesting
    config.data.batch_size = 64
    config.data.seq_length = length

    config.model.hidden_size = size
    config.optimizer.learning_rate = rate
    config.optimizer.weight_decay = 0.01

    config.train.max_steps = steps
    config.train.eval_every = 0.1
    return config
