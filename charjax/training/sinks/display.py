"""The live progress display: a sink for terminals, drawn with rich."""

import contextlib
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from charjax.training.folder import Record
from charjax.training.sinks.console import OutputClosedError, output_closes
from charjax.training.sinks.lines import as_lines, in_bits, indented
from charjax.training.sinks.records import Sink
from charjax.units import duration, printable

_SMOOTHING = 0.1  # weight of the newest speed in the one shown


@contextlib.contextmanager
def live(console: Console | None = None) -> Iterator[Sink]:
    """Yields a sink that redraws the state of a run, and prints the rest above it.

    Args:
      console: where to print; standard output by default.

    Example:
      >>> with live() as sink:  # doctest: +SKIP
      ...     charjax.train(config, sinks=[sink])
    """
    display = _Display(console or Console())
    try:
        yield display.take
    finally:
        with contextlib.suppress(OutputClosedError):  # as when a terminal is closed
            display.stop()


class _Display:
    """The newest record of each kind, and the picture drawn from them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.latest: dict[str, Record] = {}
        self.chars_per_second: float | None = None

    def take(self, record: Record) -> None:
        with output_closes():
            self._take(record)

    def _take(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "begin":
            self.stop()
            self.latest, self.chars_per_second = {}, None
        self.latest[kind] = record
        if kind == "progress":
            self._smooth(record["chars_per_second"])
        if kind == "end":
            self.stop()  # its lines come below the last picture
        if kind not in ("begin", "progress", "train", "val"):
            # As `Text`, since rich reads markup and emoji codes in a `str`. Long lines
            # are left to the terminal to wrap, so that a path can be copied whole.
            lines = as_lines(record, self.console.encoding)
            text = Text(lines, no_wrap=True, overflow="ignore")
            self.console.print(Group(text), crop=False)  # a bare Text would be wrapped
        if kind == "begin":
            self.live = live = Live(console=self.console, get_renderable=self.picture)
            live.start()
        if self.live and kind in ("begin", "val"):
            self.live.refresh()  # at once; the rest appears a few times a second

    def stop(self) -> None:
        """Leaves the last picture on the screen, and shows the cursor again."""
        if self.live:
            live, self.live = self.live, None
            with output_closes():
                live.stop()

    def _smooth(self, newest: float | None) -> None:
        if newest is not None:
            before = self.chars_per_second or newest
            self.chars_per_second = before + _SMOOTHING * (newest - before)

    def picture(self) -> RenderableType:
        """Returns the display for the newest records."""
        rows: list[RenderableType] = [self._bar(), Text(self._place())]
        train = self.latest.get("train") or self.latest.get("progress")
        for name, record in (("training", train), ("validation", self._validation())):
            if record:
                rows.append(Text(f"{name:<12}{_loss(record)}"))
        if best := self.latest.get("saved", self.latest["begin"])["best"]:
            rows.append(self._text(f"best        {best}"))
        if sample := self.latest.get("val", {}).get("sample"):
            rows.append(self._text(indented(sample)))
        return Group(*rows)

    def _validation(self) -> Record | None:
        val = self.latest.get("val")
        return val if val and val["of"] == "val" else None

    def _now(self) -> Record:
        return self.latest.get("progress", self.latest["begin"])

    def _bar(self) -> RenderableType:
        step, total = self._now()["step"], self.latest["begin"]["total_steps"]
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        table.add_column(ratio=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        bar = ProgressBar(total=max(total, 1), completed=step)
        table.add_row(bar, f"{step / max(total, 1):.0%}", self._time_left())
        return table

    def _time_left(self) -> str:
        now = self._now()
        if not self.chars_per_second or now.get("seconds_left") is None:
            return "compiling" if now["kind"] == "begin" else ""
        seconds = now["seconds_left"] * now["chars_per_second"] / self.chars_per_second
        return f"{duration(seconds)} left"

    def _place(self) -> str:
        now, begin = self._now(), self.latest["begin"]
        epochs = begin["total_steps"] / begin["steps_per_epoch"]
        place = (
            f"epoch {now['epoch']:.2f} of {epochs:.2f}  "
            f"step {now['step']:,} of {begin['total_steps']:,}"
        )
        speed = self.chars_per_second
        return place + (f"  {speed:,.0f} chars/s" if speed else "")

    def _text(self, text: str) -> Text:
        return Text(printable(text, self.console.encoding), overflow="fold")


def _loss(r: Record) -> str:
    return f"{r['loss']:.4f} nats  {in_bits(r)}  at epoch {r['epoch']:.2f}"
