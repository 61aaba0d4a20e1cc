"""What the host keeps of a run beside the `TrainState`: losses, totals, time."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from charjax.errors import CheckpointError

RECENT = 500  # losses kept to judge an explosion by


@dataclasses.dataclass
class Progress:
    """Losses and counters of a run; plain JSON in each checkpoint.

    A total is `[sum of losses, number of steps]`.

    Attributes:
      train: step and mean loss of each `train` record.
      val: step and loss of each validation.
      recent: the losses of the last steps, at most `RECENT`.
      since_record: total since the last `train` record.
      since_validation: total since the last validation.
      seconds: time spent on the run by all its processes.
      validated_step: the step of the last validation, -1 before the first.
      text_sha256: of the text; empty in checkpoints of older versions.
      text_files: name, bytes and sha256 of each of its first files.
      bytes_per_character: of the split that `val` is of; 0 if not known.
    """

    train: list[list[float]] = dataclasses.field(default_factory=list)
    val: list[list[float]] = dataclasses.field(default_factory=list)
    recent: list[float] = dataclasses.field(default_factory=list)
    since_record: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0])
    since_validation: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0])
    seconds: float = 0.0
    validated_step: int = -1
    text_sha256: str = ""
    text_files: list[list[Any]] = dataclasses.field(default_factory=list)
    bytes_per_character: float = 0.0

    def add(self, loss: float) -> None:
        """Adds the loss of one step."""
        self.recent = [*self.recent[1 - RECENT :], loss]
        for total in (self.since_record, self.since_validation):
            total[0] += loss
            total[1] += 1


def mean(total: list[float]) -> float:
    """Returns the mean loss of a total; 0 where it has no step."""
    return total[0] / max(total[1], 1)


def read_progress(checkpoint: Path, saved: dict[str, Any]) -> Progress:
    """Returns the progress in a checkpoint, after checking its types.

    Args:
      checkpoint: its folder, for the error.
      saved: the `progress` of its manifest.

    Raises:
      CheckpointError: a field is unknown or of the wrong type.
    """
    defaults = dataclasses.asdict(Progress())
    fields = defaults | saved
    texts = ("text_sha256", "text_files")
    numbers = [value for name, value in fields.items() if name not in texts]
    is_sound = (
        list(map(type, fields.values())) == list(map(type, defaults.values()))
        and all(type(leaf) in (int, float) for leaf in jax.tree.leaves(numbers))
        and len(fields["since_record"]) == len(fields["since_validation"]) == 2
    )
    if not is_sound:
        raise CheckpointError(
            f"{checkpoint}: its progress must be that of this version of charjax; got "
            "other fields or types. Try upgrading charjax."
        )
    return Progress(**fields)
