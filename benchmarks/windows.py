"""Training input: windows drawn from memory-mapped arrays against slices of a DataFrame, in turn in one process.

    python -m benchmarks.windows [--json] [--keep]

Both give the same batches: values (B, L, 6) float32 and calendar stamps (B, L, 5). The table's way is the usual
dataset class: cut the rows of each window out of a DataFrame and compute their stamps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.bars import make_bars
from benchmarks.results import keep

from kronos.bars.arrays import BarArrays, time_features, write_arrays
from kronos.bars.schema import FEATURES
from kronos.bars.windows import WindowPlan, WindowSampler

BARS, LENGTH, BATCH = 1_000_000, 513, 64


def rate(batch: Callable[[int], Any], least: float = 1.0) -> float:
    """Bars a second over at least so many seconds."""
    batch(0)
    steps, started = 0, time.process_time()
    while time.process_time() - started < least:
        batch(steps)
        steps += 1
    return steps * BATCH * LENGTH / (time.process_time() - started)


def measure(repeats: int = 3) -> dict[str, float]:
    table = make_bars(BARS).rename(columns={"timestamps": "timestamp"})
    columns = list(FEATURES)

    def from_table(step: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        starts = np.random.default_rng(step).integers(0, BARS - LENGTH, BATCH)
        windows = [table.iloc[start : start + LENGTH] for start in starts]
        values = np.stack([window[columns].to_numpy(np.float32) for window in windows])
        return values, np.stack([time_features(pd.DatetimeIndex(window["timestamp"])) for window in windows])

    with tempfile.TemporaryDirectory() as folder:
        write_arrays([("random walk", "WALK", table)], folder)
        sampler = WindowSampler(BarArrays.open(folder), WindowPlan(LENGTH, (64, 448)), BATCH, seed=0)
        rates = [(rate(sampler), rate(from_table)) for _ in range(repeats)]
    arrays, frames = (max(column) for column in zip(*rates, strict=True))
    return {"arrays_bars_per_second": arrays, "table_bars_per_second": frames, "ratio": arrays / frames}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/windows.json")
    args = parser.parse_args()
    report = measure()
    if args.keep:
        keep("windows", report)
    shown = "arrays {arrays_bars_per_second:,.0f} bars/s, table {table_bars_per_second:,.0f} bars/s, {ratio:.0f}x"
    print(json.dumps(report, indent=2) if args.json else shown.format(**report))


if __name__ == "__main__":
    main()
