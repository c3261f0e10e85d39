"""What a tokenizer's decoded moves must be multiplied by, so that a path's volatility neither wastes away nor grows.

    python -m benchmarks.move_gain --model runs/nano_running --arrays runs/arrays

A token is decoded to the mean of the bars it stands for, and a mean moves less than they do. Where the unit of the
next move is a running volatility that feeds on the moves before (`bar_transform: running`), a path would calm down bar
by bar. With the gain, true and decoded bars of the training side change the logarithm of the weighted variance alike
on average. It is the `move_gain` of the tokenizer's config.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kronos.bars.arrays import BarArrays
from kronos.bars.transform import RunningReturns
from kronos.bars.transform.running import DECAY, moves_variance
from kronos.model import KronosTokenizer
from kronos.training.config import RunConfig
from kronos.training.data import samplers

SETTLED = 32  # bars after which a window's running volatility is worth the name


def squares(features: torch.Tensor) -> np.ndarray:
    """(B, T, 6) features -> (N,) variances of the settled bars, in units of what was expected of them."""
    return moves_variance(np.sinh(features[:, SETTLED:, :4].double().numpy())).ravel()


def growth(squared: np.ndarray) -> float:
    """Mean change of the log of the weighted variance with a bar."""
    return float(np.log(DECAY + (1.0 - DECAY) * squared).mean())


def fitted_gain(true: np.ndarray, decoded: np.ndarray) -> float:
    """The gain that gives decoded bars the growth of true ones, by halving."""
    low, high = 0.8, 1.25
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle**2 * decoded) < growth(true) else (low, middle)
    return (low + high) / 2


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.move_gain", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kronos-nano")
    parser.add_argument("--arrays", type=Path, default=Path("runs/arrays"), help="made by scripts/build_arrays.py")
    parser.add_argument("--batches", type=int, default=16, help="of 32 windows of 385 bars")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tokenizer, transform = KronosTokenizer.from_pretrained(args.model), RunningReturns()
    data = {"arrays": args.arrays, "window": 385, "boundary": [SETTLED, 256], "volume_dropout": 0.0, "embargo": 0}
    training, _ = samplers(RunConfig.from_dict({"out": "unused", "data": data}), BarArrays.open(args.arrays), 32)
    true, decoded = [], []
    for step in range(args.batches):
        windows = training(step)
        values = windows.values[windows.valid == windows.values.shape[1]]
        features = torch.from_numpy(transform.encode(values, transform.fit(values)))
        back = tokenizer.decode(tokenizer.encode(features, half=True), half=True)
        true.append(squares(features))
        decoded.append(squares(back))
    a, b = np.concatenate(true), np.concatenate(decoded)
    print(f"{len(a):,} bars: log variance changes by {growth(a):+.5f} a bar, decoded by {growth(b):+.5f}")
    print(f"move_gain: {fitted_gain(a, b):.3f}")


if __name__ == "__main__":
    main()
