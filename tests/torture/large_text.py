"""Trains on a text larger than memory: `python tests/torture/large_text.py`.

The text repeats a block of words with a few characters beyond ASCII. `charjax prepare`
encodes it and `launch.py` trains on it for a few steps, each in a process of its own,
whose memory is read from /proc every 20 ms (so this runs on Linux only):

    anonymous   RssAnon, the memory that only the process can give back
    resident    VmHWM, the peak of all its pages, with mapped files and libraries

Both must stay under the limit. The text and its encoding, which take twice the size of
the text on disk, are deleted at the end.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
GB = 10**9
STEPS = 20
_FIELDS = {
    # Validation on the usual 5% of a text of 5 GB would take hours.
    "data.train_frac": 0.999999,
    "data.val_frac": 0.000001,
    "model.num_layers": 1,
    "optimizer.warmup_steps": 1,
    "train.max_steps": STEPS,
    "train.print_every": 1,
    "train.run_name": "run",
}


def write_text(path: Path, size: int, seed: int = 0) -> None:
    """Writes a text of at least `size` bytes in UTF-8."""
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz" * 40 + "äöüßéя\u2028\N{FOX FACE}"
    words = [
        "".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in "w" * 999
    ]
    block = (" ".join(chance.choices(words, k=200_000)) + "\n").encode()
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(block)


def measured(command: list[str]) -> dict[str, float]:
    """Runs a command; returns its peaks of memory in bytes, and its seconds.

    Raises:
      SystemExit: the command failed.
    """
    peaks = {"anonymous": 0.0, "resident": 0.0}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        for name, field in (("anonymous", "RssAnon"), ("resident", "VmHWM")):
            kilobytes = fields.get(field, "0 kB").split()[0]
            peaks[name] = max(peaks[name], int(kilobytes) * 1024)
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{command} failed")
    return {**peaks, "seconds": time.monotonic() - started}


def torture(folder: Path, size: int) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Encodes a text and trains on it.

    Args:
      folder: an empty folder.
      size: the size of the text in bytes.

    Returns:
      For each of the two commands what `measured` returns, and a list of faults.
    """
    needed = 2 * size + GB
    if (free := shutil.disk_usage(folder).free) < needed:
        sys.exit(
            f"{folder} must have {needed / GB:.1f} GB free; got {free / GB:.1f} GB"
        )
    text = folder / "large.txt"
    write_text(text, size)
    time.sleep(3)  # a younger file is read again: its stamp is not relied on

    prepare = "import sys; from charjax.cli import main; sys.exit(main(sys.argv[1:]))"
    fields = _FIELDS | {"data.name": text, "train.checkpoint_dir": folder / "cv"}
    launch = [sys.executable, "launch.py", "--config=configs/default.py"]
    launch += [f"--config.{name}={value}" for name, value in fields.items()]
    figures = {
        "prepare": measured([sys.executable, "-c", prepare, "prepare", str(text)]),
        "first steps": measured(launch),
    }

    lines = (folder / "cv/run/metrics.jsonl").read_text("utf-8").split("\n")
    records = [json.loads(line) for line in lines[:-1]]
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    faults = []
    if len(losses) != STEPS or losses[-1] >= losses[0]:
        faults.append(f"the loss did not fall: {losses}")
    return figures, faults


def main() -> None:
    """Prints the figures; exits with an error where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--limit", type=float, default=1, help="gigabytes of memory")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, faults = torture(Path(folder), int(flags.gigabytes * GB))
    for command, measures in figures.items():
        anonymous, resident = measures["anonymous"] / GB, measures["resident"] / GB
        print(
            f"{command:12} anonymous {anonymous:.3f} GB  resident {resident:.3f} GB  "
            f"{measures['seconds']:.0f} s"
        )
        if max(anonymous, resident) > flags.limit:
            faults.append(f"{command}: more than {flags.limit} GB of memory")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
