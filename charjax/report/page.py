"""A report, or a comparison of runs, as one HTML file that needs no other."""

from pathlib import Path
from typing import Any

from charjax.errors import CheckpointError, ConfigError
from charjax.report import sections
from charjax.report.collect import Report, collect
from charjax.report.comparison import Comparison, figures
from charjax.report.markup import GENERATOR, page, text, visible_text
from charjax.report.packed import packed
from charjax.report.scatter import scatters
from charjax.storage.files import replacing

NAME = "report.html"


def write(run: Path | str) -> Path:
    """Writes a run's report into its folder, whole or not at all.

    Args:
      run: the run's folder.

    Returns:
      The file, `report.html`.

    Raises:
      CheckpointError: it is not a run's folder, has no sound checkpoint yet, holds a
        damaged file, or cannot be written to.
      ConfigError: its configuration or cell is not known, or it holds a `report.html`
        that charjax did not write.

    Example:
      >>> from charjax import report
      >>> report.write("cv/shakespeare_lstm")  # doctest: +SKIP
      PosixPath('cv/shakespeare_lstm/report.html')
    """
    path = Path(run, NAME)
    _write(path, render(collect(run)))
    return path


def write_comparison(comparison: Comparison, path: Path | str) -> None:
    """Writes a comparison of runs to a file, whole or not at all.

    Args:
      comparison: what `charjax.report.compare` returned.
      path: the file; an older page of charjax is replaced.

    Raises:
      CheckpointError: the file cannot be written.
      ConfigError: there is a file of this name that charjax did not write.

    Example:
      >>> from charjax import report
      >>> runs = report.compare(["cv/a", "cv/b"])  # doctest: +SKIP
      >>> report.write_comparison(runs, "compare.html")  # doctest: +SKIP
    """
    _write(Path(path), render_comparison(comparison))


def render(report: Report) -> str:
    """Returns a report as an HTML page that loads nothing.

    Args:
      report: what `charjax.report.collect` returned.
    """
    body = [
        sections.header(report.run, report.curves),
        sections.losses(report.curves),
        sections.advice(report.advice),
        sections.accuracy(report.accuracy),
        sections.samples(report.samples),
        sections.temperatures(report.temperatures),
        sections.heldout(report.heldout),
        sections.cells(report.cells),
        sections.saturation(report.saturation),
        sections.configuration(report.config, report.run),
    ]
    return page(f"{report.run['name']} – charjax report", "".join(body), packed(report))


def render_comparison(comparison: Comparison) -> str:
    """Returns a comparison as an HTML page that loads nothing.

    Args:
      comparison: what `charjax.report.compare` returned.
    """
    runs, fields = comparison.runs, comparison.fields
    heads = [name for name, _ in figures(runs[0])] if runs else []
    rows = [
        f'<tr><th scope="row"><i class="key" data-series="{number}"></i>'
        f"{text(run['name'])}</th>"
        + "".join(f"<td>{text(cell)}</td>" for _, cell in figures(run))
        + "".join(f"<td>{text(run['values'][field])}</td>" for field in fields)
        + "</tr>"
        for number, run in enumerate(runs)
    ]
    columns = "".join(
        f'<th scope="col">{text(name).replace(".", ".<wbr>")}</th>'
        for name in [*heads, *fields]
    )
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in comparison.notes)
    body = f"""
<header><p class="kind">charjax comparison</p>
<h1>{len(runs)} runs</h1>
<p class="lead">Sorted by best validation loss, in nats a character. Of the
configuration, only the fields that differ between the runs are shown.</p></header>
<section><div class="wide scroll"><table class="runs">
<thead><tr><th scope="col">run</th>{columns}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>{notes}</section>
<section><h2>Loss</h2>
<p>Validation loss is drawn as lines with points, training loss as thin lines behind
them. {sections.HOVER}</p>
<div class="choices" id="axis" role="group" aria-label="horizontal axis"></div>
<div class="wide" id="comparison"></div></section>
"""
    shown = [{"name": visible_text(r["name"]), "curves": r["curves"]} for r in runs]
    data: dict[str, Any] = {"comparison": shown}
    if charts := scatters(comparison):
        data["scatters"] = charts
        body += sections.SCATTERS
    return page("charjax comparison", body, data)


def _write(path: Path, content: str) -> None:
    try:
        if path.exists() and not _is_ours(path):
            raise ConfigError(
                f"{path}: must be a new file or a page of charjax; got another file. "
                "Try another name, or moving it away."
            )
        with replacing(path) as file:
            file.write(content.encode("utf-8", "replace"))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}. Try another place."
        ) from None


def _is_ours(path: Path) -> bool:
    return path.is_file() and GENERATOR.encode() in path.read_bytes()[:1000]
