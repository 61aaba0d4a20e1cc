"""Damages the JSON files of a run: `python -m tests.torture.json_fuzz --flips 360`.

One bit of config.json, metrics.jsonl or summary.json is flipped, or one value is edited
as a person might by mistake; then `charjax report`, `compare` and `list` run on it, all
in this process. Each must either end in one line on standard error that names the file,
or show the run. These files carry no checksum, so nothing can tell a flipped digit of a
learning rate from the true one. What a sealed checkpoint holds can be told, and must
never be shown wrong: the best loss and its epoch, the model and its sizes, steps, time,
versions, and every field of the configuration that a resumed run may not change.
"""

import argparse
import collections
import contextlib
import io
import json
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import charjax
from charjax.cli import main as charjax_main
from charjax.fields import FREE

Figures = collections.Counter[str]

FILES = ("config.json", "metrics.jsonl", "summary.json")
TEXT = "the quick brown fox (jumps) over the lazy dog.\n" * 60

# JSON texts that take the place of a value.
VALUES = (
    *('"x"', '""', '"\\u0000"', '"\\ud800\\u001b[2J"', "null", "true", "[]", "{}"),
    *("[1]", '{"a": 1}', "-1", "0", "1e300", "1e400", "NaN", "-Infinity", "9" * 400),
    *("1e-320", "2.5", "[" * 90 + "]" * 90, '{"a":' * 90 + "1" + "}" * 90),
    '{"items": 1, "__class__": 2}',
)


def torture(
    folder: Path, flips: int, edits: int, *, seed: int = 0
) -> tuple[Figures, list[str]]:
    """Damages one file at a time; returns what was counted, and what was wrong.

    Args:
      folder: an empty folder to work in.
      flips: how many bits are flipped, in each of the three files alike.
      edits: how many values are replaced, and lines or files cut short or doubled.
      seed: of the places.
    """
    chance = random.Random(seed)
    run = _train(folder)
    sound = _Shown.of(run)
    figures: Figures = collections.Counter()
    faults: list[str] = []
    for name, kind, damaged in _harms(run, flips, edits, chance):
        file = run / name
        before = file.read_bytes()
        file.write_bytes(damaged)
        figures[kind] += 1
        for command, fault in _faults(run, name, sound, figures):
            faults.append(f"{kind} {name}, {command}: {fault}\n    {damaged[:3000]!r}")
        file.write_bytes(before)
    return figures, faults


def _train(folder: Path) -> Path:
    """Returns the folder of a finished run, with another beside it."""
    (folder / "text").mkdir()
    (folder / "text" / "input.txt").write_text(TEXT)
    config = charjax.default_config()
    config.data.update(dir=str(folder / "text"), batch_size=4, seq_length=20)
    config.data.update(train_frac=0.8, val_frac=0.1)
    config.model.update(hidden_size=4, num_layers=1)
    config.train.update(max_epochs=2, print_every=5, report=False)
    config.train.update(checkpoint_dir=str(folder / "cv"), run_name="run")
    config.sample.update(length=20, prime="the")
    run = charjax.train(config, sinks=()).path
    shutil.copytree(run, run.with_name("other"))
    return run


def _harms(
    run: Path, flips: int, edits: int, chance: random.Random
) -> Iterator[tuple[str, str, bytes]]:
    """Yields a file's name, what is done to it, and its bytes after that."""
    for number in range(flips):
        name = FILES[number % len(FILES)]
        damaged = bytearray((run / name).read_bytes())
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        yield name, "flipped", bytes(damaged)
    for number in range(edits):
        name = FILES[number % len(FILES)]
        data = (run / name).read_bytes()
        if chance.random() < 0.15:
            lines = data.splitlines(keepends=True)
            at, cut = chance.randrange(len(lines)), chance.randrange(len(data))
            yield (
                name,
                "edited",
                chance.choice(
                    [
                        data[:cut],
                        b"".join([*lines[:at], *lines[at + 1 :]]),
                        b"".join([*lines[: at + 1], *lines[at:]]),
                        data + b"\n",
                        b"\xef\xbb\xbf" + data,
                        data.decode().encode("utf-16"),
                    ]
                ),
            )
            continue
        # A name or a value, replaced or given twice.
        found = list(re.finditer(rb'"(\w+)": ("[^"]*"|[-\w.+]+)', data))
        field = chance.choice(found)
        value = chance.choice(VALUES).encode()
        if chance.random() < 0.2:
            new = field[0] + b', "' + field[1] + b'": ' + value
        elif chance.random() < 0.1:
            new = b'"' + field[1] + b'x": ' + field[2]
        else:
            new = b'"' + field[1] + b'": ' + value
        yield name, "edited", data[: field.start()] + new + data[field.end() :]


class _Shown:
    """What a sealed checkpoint holds, as the three commands show it."""

    def __init__(self, page: str, table: str, listing: str) -> None:
        self.page, self.table, self.listing = page, table, listing

    @classmethod
    def of(cls, run: Path) -> "_Shown":
        """Returns what is shown of a run that is sound."""
        outputs = [_call(words)[1] for words in _commands(run).values()]
        page = (run / "report.html").read_text("utf-8")
        parts = (*_SEALED, _samples, _data)
        assert all(part(page) for part in parts), "a pattern finds nothing in the page"
        return cls(page, outputs[1], outputs[2])

    def faults(self, command: str, output: str, run: Path) -> Iterator[str]:
        """Yields what a command shows otherwise although it is sealed."""
        if command == "report":
            page = (run / "report.html").read_text("utf-8")
            for part in _SEALED:
                if part(page) != part(self.page):
                    yield f"shows {part(page)!r}, not {part(self.page)!r}"
            yield from self._faults_of_model(page)
        elif command == "compare":
            # Loss, bits, epoch, parameters and time of both rows; the columns after
            # those are fields, of which only free ones may differ.
            head, *rows = output.splitlines()
            _, *expected = self.table.splitlines()
            for row, right in zip(rows[:2], expected, strict=False):
                if row.split()[:5] != right.split()[:5]:
                    yield f"shows {row!r}, not {right!r}"
            columns = re.findall(r"\w+\.\w+", head)
            if wrong := [field for field in columns if not _is_free(field)]:
                yield f"shows runs to differ in {wrong}"
        elif output != self.listing:
            yield f"shows {output!r}, not {self.listing!r}"

    def _faults_of_model(self, page: str) -> Iterator[str]:
        """Yields what is shown otherwise although the weights and the text say it."""
        data, sound = _data(page), _data(self.page)
        for name in ("heldout", "cells", "saturation"):
            is_missing = data[name] is None or "missing" in data[name]
            if not is_missing and data[name] != sound[name]:
                yield f"shows another {name}"
        prime = 'begins with <q class="term">the</q>'
        if prime in page and _samples(page) != _samples(self.page):
            yield f"shows the samples {_samples(page)!r}"


def _data(page: str) -> dict[str, Any]:
    [data] = re.findall(r'application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(data)


def _samples(page: str) -> list[str]:
    return re.findall(r"<h2>Samples by temperature</h2>.*?</section>", page, re.S)


def _lead(page: str) -> list[str]:
    return re.findall(r'<p class="lead">(.*?)trained on', page, re.S) + re.findall(
        r"for\s+([\d,]+ steps in \w+)", page
    )


def _best(page: str) -> list[str]:
    return re.findall(r"<span>best \w+ loss</span><b>.*?</small>", page) + re.findall(
        r'"best":(\[[^]]*\])', page
    )


def _parameters(page: str) -> list[str]:
    return re.findall(r'<table class="parts">.*?</table>', page, re.S)


def _checkpoint(page: str) -> list[str]:
    return re.findall(r"<code>lm_.*?</p>", page, re.S)


def _fields(page: str) -> list[tuple[str, str]]:
    found = re.findall(r"<tr><th scope=row>(\w+\.\w+)</th><td>(.*?)</td>", page)
    return [(field, value) for field, value in found if not _is_free(field)]


_SEALED = (_lead, _best, _parameters, _checkpoint, _fields)


def _is_free(field: str) -> bool:
    """Returns whether a run may be resumed with another value of a field."""
    return field in FREE


def _commands(run: Path) -> dict[str, list[str]]:
    return {
        "report": ["report", str(run)],
        "compare": ["compare", str(run), str(run.with_name("other"))],
        "list": ["list", str(run.parent)],
    }


def _faults(
    run: Path, name: str, sound: _Shown, figures: Figures
) -> Iterator[tuple[str, str]]:
    for command, words in _commands(run).items():
        try:
            status, out, err = _call(words)
        except BaseException:
            figures["tracebacks"] += 1
            yield command, traceback.format_exc(limit=-2)
            continue
        if status == 0:
            figures[f"{command}: shown"] += 1
            for fault in sound.faults(command, out, run):
                figures["silently wrong"] += 1
                yield command, fault
        else:
            figures[f"{command}: refused"] += 1
            one_line = err.count("\n") == 1 and err[:-1].isprintable()
            if not one_line or str(run / name) not in err or len(err) > 1000:
                figures["bad errors"] += 1
                yield command, f"the error is {err!r}"


def _call(words: list[str]) -> tuple[int, str, str]:
    # As strict about what can be shown as a terminal in UTF-8 is.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = charjax_main(words)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # pyright: ignore
    return status, texts[0], texts[1]


def main() -> None:
    """Reads the flags, prints the figures, and fails where anything was at fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flips", type=int, default=360)
    parser.add_argument("--edits", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, faults = torture(
            Path(folder), flags.flips, flags.edits, seed=flags.seed
        )
    for name in ("tracebacks", "silently wrong", "bad errors"):
        figures[name] += 0
    for name, count in sorted(figures.items()):
        print(f"{name:18} {count:6,}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
