"""The sink that sends a run to an experiment tracker: wandb or trackio.

It takes what the two packages share: `init` with project, name, config and resume, and
of the run that this returns `log`, `log_artifact` and `finish`.
"""

import contextlib
import html
import importlib
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from charjax.config import Config, flatten
from charjax.errors import ConfigError
from charjax.storage.files import refuse_links, replacing
from charjax.training.folder import KEPT, Record
from charjax.training.schema import one_line
from charjax.training.sinks.records import Sink, figures
from charjax.units import Say

_PROJECT = "charjax"
_ID = "tracker.txt"  # in a run's folder: what the tracker knows the run by


@contextlib.contextmanager
def tracker(config: Config, warn: Say) -> Iterator[tuple[Sink, ...]]:
    """Yields the sink that sends records to the tracker, if `train.tracker` names one.

    A tracker that fails is left alone from then on, and training goes on.

    Args:
      config: a checked configuration.
      warn: gets a line when the tracker fails.

    Raises:
      ConfigError: its package is not installed.
    """
    if not config.train.tracker:
        yield ()
        return
    tracked = _Tracked(config.train.tracker, warn)
    try:
        yield (tracked.take,)
    finally:
        tracked.close()


def send_report(config: Config, path: Path, report: Path, warn: Say) -> None:
    """Sends a finished run's report to its tracker, if it has one.

    Args:
      config: that of `charjax.train`.
      path: the run's folder.
      report: the file.
      warn: gets a line when the tracker fails.
    """
    if config.train.tracker:
        tracked = _Tracked(config.train.tracker, warn)
        tracked.open(path, None)
        tracked.send_file(report)
        tracked.close()


class _Tracked:
    """A run at a tracker, which nothing more is sent to after a failure."""

    def __init__(self, name: str, warn: Say) -> None:
        self._name, self._package, self._warn = name, _package(name), warn
        self._run: Any = None
        self._has_failed = False

    def take(self, record: Record) -> None:
        """Sends what a tracker shows of a record."""
        if record["kind"] == "begin":
            self.open(Path(record["path"]), flatten(record["config"]))
        elif record["kind"] in KEPT:
            self._do(lambda: self._log(record))

    def _log(self, record: Record) -> None:
        metrics: dict[str, Any] = figures(record)
        if sample := record.get("sample"):
            page = f"<pre>{html.escape(sample)}</pre>"
            metrics["sample"] = self._package.Html(page)
        self._run.log(metrics, step=record["step"])

    def open(self, path: Path, config: dict[str, Any] | None) -> None:
        """Begins the run, or goes on with it."""

        def init() -> Any:
            known = _id_of(path)
            name, more = f"{path.name}-{known}", {}
            if self._name == "wandb":  # its run is found by an id, trackio's by a name
                refuse_links(path / "wandb")
                more = {"id": known, "dir": str(path), "reinit": "create_new",
                        "settings": {"console": "off"}}  # fmt: skip
            return self._package.init(
                project=_PROJECT, name=name, config=config, resume="allow", **more
            )

        self._run = self._do(init)

    def send_file(self, file: Path) -> None:
        """Sends a file as an artefact of the run."""

        def send() -> None:
            name = f"{file.stem}-{_id_of(file.parent)}"
            self._run.log_artifact(str(file), name=name, type=file.stem)

        self._do(send)

    def close(self) -> None:
        """Ends the run at the tracker, which waits until all is sent."""
        if self._run is not None:
            self._do(self._run.finish)

    def _do(self, act: Callable[[], Any]) -> Any:
        """Returns what a call of the package returns; None after a failure."""
        if self._has_failed:
            return None
        try:
            # Standard output is charjax's own.
            with contextlib.redirect_stdout(sys.stderr):
                return act()
        except Exception as error:
            self._has_failed = True
            reason = f"{type(error).__name__}: {one_line(error, 200)}"
            self._warn(f"{self._name} gets no more of this run ({reason})")
            return None


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"{name} must be installed for train.tracker={name}. Try pip install "
            f"'charjax[{name}]'."
        ) from None


def _id_of(path: Path) -> str:
    """Returns the id of a run, which it keeps in its folder."""
    file = path / _ID
    refuse_links(file)
    if file.exists() and re.fullmatch("[0-9a-f]{8}", known := file.read_text()[:9]):
        return known
    new = secrets.token_hex(4)
    with replacing(file) as opened:
        opened.write(new.encode())
    return new
