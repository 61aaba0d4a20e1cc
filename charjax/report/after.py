"""The page of a run that has just finished."""

from collections.abc import Callable
from pathlib import Path

from charjax.report import page
from charjax.training.folder import SUMMARY, Record
from charjax.training.signals import stop_on_signals
from charjax.units import printable


def after_run(path: Path | str, send: Callable[[Record], object]) -> Path | None:
    """Writes a finished run's page and says so; a failure is only a warning.

    A page that is as new as the end of the run is left as it is.

    Args:
      path: the run's folder.
      send: takes a record of kind `note` or `warning`, as the sinks of
        `charjax.train` do.

    Returns:
      The page; None where it was there already or could not be written.

    Raises:
      Stopped: a signal came. The run is complete, and can be reported later.

    Example:
      >>> import charjax
      >>> run = charjax.train(config, sinks=[sink])  # doctest: +SKIP
      >>> charjax.report.after_run(run.path, sink)  # doctest: +SKIP
    """
    how = f"charjax report {path} writes it"
    try:
        if _is_up_to_date(Path(path)):
            return None
        with stop_on_signals() as stop, stop.at_once(f"no report (stopped); {how}"):
            file = page.write(path)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        text = f"no report ({printable(reason, None)}); {how}"
        send({"kind": "warning", "text": text})
        return None
    send({"kind": "note", "text": f"report    {file}"})
    return file


def _is_up_to_date(path: Path) -> bool:
    file, end = path / page.NAME, path / SUMMARY
    return file.exists() and file.stat().st_mtime_ns >= end.stat().st_mtime_ns
