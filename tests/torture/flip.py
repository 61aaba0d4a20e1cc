"""Damages a checkpoint and an encoded text: `python tests/torture/flip.py --flips 200`.

Bits are flipped at random offsets over all bytes of all files, and every file is cut
short, made longer, emptied and deleted in turn. A damaged checkpoint must be refused
as damaged, in one line that names the file, unless the damage is in what is not read;
then the arrays must be those that were saved. A damaged encoded text must be named, and
encoded again, at once or, where it is among the ids, once that file is deleted.
"""

import argparse
import collections
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import charjax
from charjax import checkpoint
from charjax.errors import DamagedError, TextError
from charjax.text import open_corpus

TEXT = "the quick brown fox jumps over the lazy dog. " * 400

Figures = collections.Counter[str]
Harm = Callable[[bytes], bytes | None]  # None: the file is deleted


def torture(
    folder: Path, flips: int, *, seed: int = 0, harms_a_file: int = 4
) -> tuple[Figures, list[str]]:
    """Damages one file at a time; returns the counts and what went wrong.

    Args:
      folder: an empty folder to work in.
      flips: the number of bits that are flipped.
      seed: of the random places.
      harms_a_file: in how many of the other four ways each file is damaged.
    """
    chance = random.Random(seed)
    figures: Figures = collections.Counter()
    (folder / "input.txt").write_text(TEXT)
    corpus = open_corpus(folder)
    ids, vocab = np.array(corpus.ids), corpus.vocab
    params = charjax.init(
        jax.random.key(0), charjax.ModelSpec(hidden_size=8), vocab, scheme="uniform"
    )
    training = {"step": jnp.int32(3), "key": jax.random.key(1), "mean": params}
    saved = checkpoint.save(
        folder / "run", params, training, step=3, epoch=0.5, loss=2.5, loss_of="val",
        config={}, progress={},
    )  # fmt: skip

    def ways(file: Path) -> Iterator[str]:
        if file.is_relative_to(saved):
            yield from _faults_of_checkpoint(saved, file, params, training, figures)
        else:
            yield from _faults_of_corpus(folder, file, ids, vocab, figures)

    faults: list[str] = []
    for file, kind, harm in _harms(folder, flips, harms_a_file, chance):
        sound = file.read_bytes()
        damaged = harm(sound)
        if damaged == sound:  # an empty file cut short
            continue
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        figures[kind] += 1
        faults += [f"{kind} {file.relative_to(folder)}: {f}" for f in ways(file)]
        file.write_bytes(sound)
    return figures, faults


def _harms(
    folder: Path, flips: int, harms_a_file: int, chance: random.Random
) -> Iterator[tuple[Path, str, Harm]]:
    text = folder / "input.txt"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != text)
    sizes = [file.stat().st_size for file in files]
    for file in chance.choices(files, sizes, k=flips):

        def flip(sound: bytes) -> bytes:
            damaged = bytearray(sound)
            damaged[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
            return bytes(damaged)

        yield file, "flipped", flip
    harms: list[tuple[str, Harm]] = [
        ("cut short", lambda sound: sound[: chance.randrange(len(sound) or 1)]),
        ("made longer", lambda sound: sound + b"\0"),
        ("emptied", lambda sound: b""),
        ("deleted", lambda sound: None),
    ]
    for file in files:
        for kind, harm in chance.sample(harms, harms_a_file):
            yield file, kind, harm


def _faults_of_checkpoint(
    saved: Path, file: Path, params: Any, training: Any, figures: Figures
) -> Iterator[str]:
    calls = {
        "verify": (lambda: checkpoint.verify(saved), None),
        "load": (lambda: charjax.load(saved), params),
        "restore": (
            lambda: checkpoint.restore(saved, params, training),
            (params, training),
        ),
    }
    for name, (call, expected) in calls.items():
        try:
            got = call()
        except charjax.CheckpointError as error:
            figures[f"refused by {name}"] += 1
            line = str(error)
            if not isinstance(error, DamagedError):
                yield f"{name} does not say that it is damaged: {line}"
            if "\n" in line or file.name not in line:
                yield f"{name} does not name it in one line: {line}"
            continue
        # Only `load` may miss damage, and only in files that it does not read.
        if name != "load" or "training" not in file.parts:
            yield f"{name} does not find it"
        elif not _same(got, expected):
            yield f"{name} returns other arrays"


def _faults_of_corpus(
    folder: Path, file: Path, ids: np.ndarray, vocab: charjax.Vocab, figures: Figures
) -> Iterator[str]:
    said: list[str] = []
    was_there = file.exists()
    corpus = open_corpus(folder, say=said.append)
    try:
        corpus.ids[:]
    except TextError as error:
        said.append(str(error))
        file.unlink()
        corpus = open_corpus(folder, say=said.append)
    if not np.array_equal(corpus.ids, ids) or corpus.vocab != vocab:
        yield "the text differs"
    if was_there and not any(file.name in line and "damage" in line for line in said):
        yield f"it is not named: {said}"
    figures["encoded again"] += any(line.startswith("Encoding") for line in said)


def _same(got: Any, expected: Any) -> bool:
    def raw(leaf: Any) -> tuple[Any, ...]:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()

    trees = jax.tree.structure(got) == jax.tree.structure(expected)
    leaves = jax.tree.leaves(got), jax.tree.leaves(expected)
    return trees and list(map(raw, leaves[0])) == list(map(raw, leaves[1]))


def main() -> None:
    """Reads the flags, prints the figures, and fails if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, faults = torture(Path(folder), flags.flips, seed=flags.seed)
    for name, count in figures.items():
        print(f"{name:20} {count:6,}")
    print(f"{'wrong':20} {len(faults):6,}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
