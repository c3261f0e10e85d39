"""The pooled HAR coefficients that ship with the package, fitted on folders of bars.

    python scripts/fit_har.py ../shared/data --out src/kronos/pretrained/har.json

Every file is one market and bar size. Windows end before the file's training cutoff and leave the held-apart symbols
out, as training does; a file weighs by the root of its windows. A third of the contexts is cut to a random length.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.quality_data import WANTED, read_series, split_cutoff

from kronos.evaluation.windows import Window, draw_windows
from kronos.protocol import Context, FloatArray
from kronos.volatility import FEWEST, HORIZONS, LONGEST, PooledHar, features, squared_moves

CUT_SHARE = 0.3  # of the windows, whose context is shortened
REACHES = (24, 96)  # bars ahead of the windows that are drawn: short series give none of the longer ones


def shortened(context: Context, rng: np.random.Generator) -> Context:
    """The context, or now and then its last bars alone."""
    if rng.random() >= CUT_SHARE:
        return context
    keep = int(np.exp(rng.uniform(np.log(FEWEST), np.log(len(context.values)))))
    return Context(
        context.symbol, context.timestamps[-keep:], context.values[-keep:], context.future_timestamps, context.zone
    )


def ratios(context: Context, truth: FloatArray) -> FloatArray:
    """(len(HORIZONS),) mean squared move up to each horizon over that of the context; NaN beyond the truth."""
    squares = squared_moves(np.concatenate([context.values[-1:], truth]))
    usual = squared_moves(context.values[-LONGEST:]).mean()
    means = np.cumsum(squares) / np.arange(1, len(squares) + 1) / usual
    return np.array([means[h - 1] if h <= len(means) else np.nan for h in HORIZONS])


def windows_of(path: Path, most: int, seed: int) -> Iterator[Window]:
    """Windows of one file, of each reach as many as asked for or as there are."""
    series = read_series(path, WANTED["later-seen"])
    for reach in REACHES:
        yield from draw_windows(series, LONGEST, reach, most, seed, before=split_cutoff(path), group=path.stem)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, draw, fit, write."""
    parser = argparse.ArgumentParser(prog="python scripts/fit_har.py", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=2500, help="windows of a file and reach")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args(argv)
    rng, found, truths, weights, counts = np.random.default_rng(args.seed), [], [], [], {}
    for path in sorted(path for folder in args.folders for path in folder.glob("*.parquet")):
        windows = list(windows_of(path, args.most, args.seed))
        print(f"{path.stem}: {len(windows)} windows", file=sys.stderr, flush=True)
        for window in windows:
            context = shortened(window.context, rng)
            found.append(features(context))
            truths.append(ratios(context, window.truth))
        weights += [1.0 / np.sqrt(len(windows))] * len(windows)
        counts[path.stem] = len(windows)
    fitted = PooledHar.fit(np.array(found), np.array(truths), np.array(weights))
    fitted.write(args.out, windows_by_file={name: number for name, number in counts.items() if number})


if __name__ == "__main__":
    main()
