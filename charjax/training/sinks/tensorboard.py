"""The sink that writes TensorBoard event files with the package tensorboardX."""

import contextlib
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charjax.config import Config
from charjax.errors import ConfigError
from charjax.storage.files import refuse_links
from charjax.training.folder import Record
from charjax.training.sinks.records import Sink, figures


@contextlib.contextmanager
def tensorboard(config: Config) -> Iterator[tuple[Sink, ...]]:
    """Yields the sink that writes RUN/tensorboard, if `train.tensorboard` is set.

    Args:
      config: a checked configuration.

    Raises:
      ConfigError: tensorboardX is not installed.
    """
    if not config.train.tensorboard:
        yield ()
        return
    _module("proto")  # before training starts, not after
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def tensorboard_sink(record: Record) -> None:
            nonlocal writer
            if record["kind"] == "begin":
                writer = _open(Path(record["path"]) / "tensorboard", record["step"])
                stack.callback(writer.close)
            elif record["kind"] in ("train", "val", "test"):
                _write(writer, record["step"], summary=_summary(record))

        yield (tensorboard_sink,)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"tensorboardX.{name}")
    except ImportError:
        raise ConfigError(
            "tensorboardX must be installed for train.tensorboard=true. Try pip "
            "install 'charjax[tensorboard]'."
        ) from None


def _open(folder: Path, step: int) -> Any:
    """Returns a writer to a new file, which hides later steps of the files before it.

    tensorboardX's own SummaryWriter writes from another thread, and hangs once the disk
    is full; this writer raises.
    """
    refuse_links(folder)
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        refuse_links(file)
    # Files are read in the order of their names, whose times are whole seconds.
    number = len(list(folder.iterdir()))
    writer = _module("event_file_writer").EventsWriter(
        str(folder / "events"), filename_suffix=f".{number:05}"
    )
    log = _module("proto.event_pb2").SessionLog
    _write(writer, step + 1, session_log=log(status=log.START))
    return writer


def _write(writer: Any, step: int, **content: Any) -> None:
    event = _module("proto.event_pb2").Event(
        step=step, wall_time=time.time(), **content
    )
    writer.write_event(event)
    writer.flush()


def _summary(record: Record) -> Any:
    """Returns a record of losses as TensorBoard stores it."""
    summary = _module("summary")
    parts = [summary.scalar(name, value) for name, value in figures(record).items()]
    if sample := record.get("sample"):
        # TensorBoard reads Markdown, which leaves text indented by four spaces as is.
        code = "\n".join("    " + line for line in sample.split("\n"))
        parts.append(summary.text("sample", code))
    values = [value for part in parts for value in part.value]
    return _module("proto.summary_pb2").Summary(value=values)
