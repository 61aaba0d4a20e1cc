"""Samples from the programs in this folder, or scores a text; needs no charjax.

python run.py sample "ROMEO:" --length 400 --temperature 0.8 --seed 0
python run.py score my_text.txt
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax.export
import numpy as np

FOLDER = Path(__file__).parent


def program(name: str) -> Any:
    """Returns one of the programs as a function of ids and the rest."""
    raw = bytearray((FOLDER / f"{name}.stablehlo").read_bytes())
    weights = dict(np.load(FOLDER / "weights.npz"))
    call = jax.export.deserialize(raw).call
    return lambda *inputs: np.asarray(call(weights, *inputs))


def main() -> None:
    """Reads the arguments, and prints a text or its nats a character."""
    parser = argparse.ArgumentParser(description="samples, or scores a text")
    parser.add_argument("verb", choices=("sample", "score"))
    parser.add_argument("text", help="the prime, or a file to score")
    parser.add_argument("--length", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    vocab = json.loads((FOLDER / "model.json").read_text("utf-8"))["vocab"]
    is_text, symbols = vocab["encoding"] == "utf-8", vocab["symbols"]
    raw = Path(args.text).read_bytes() if args.verb == "score" else args.text.encode()
    text = raw.decode() if is_text else raw
    ids_T = np.array([symbols.index(symbol) for symbol in text], np.int32)
    if args.verb == "score":
        print(f"{-program('score')(ids_T).mean():.4f} nats/char")
        return
    positions_L = np.arange(args.length, dtype=np.uint32)
    options = np.float32(args.temperature), np.uint32(args.seed)
    drawn = [symbols[i] for i in program("sample")(ids_T, positions_L, *options)]
    print(
        args.text
        + ("".join(drawn) if is_text else bytes(drawn).decode("utf-8", "replace"))
    )


if __name__ == "__main__":
    main()
