"""How many answers of a task the best model gets right, by difficulty."""

from charjax.config import Config
from charjax.model import Params
from charjax.predict.answers import answers
from charjax.report.read import Section
from charjax.text.made_up import held_out_examples, is_made_up

_ASKED = 256  # questions of each difficulty


def accuracy(params: Params, config: Config) -> Section | None:
    """Returns the shares of right characters and answers; None for any other text.

    Args:
      params: the model.
      config: of its run.

    Returns:
      A row for each difficulty, easy ones first: `digits`, `nesting`, `questions`, and
      the shares `characters` and `answers`.
    """
    if not is_made_up(config.data):
        return None
    rows = []
    for examples in held_out_examples(config.data, _ASKED):
        found = answers(params, examples)
        rows.append(
            {
                "digits": examples[0].digits,
                "nesting": examples[0].nesting,
                "questions": len(examples),
                "characters": float(found.hits_N.sum() / found.lengths_N.sum()),
                "answers": float(found.right_N.mean()),
            }
        )
    return {"rows": rows}
