"""Turns Parquet files of long bars tables (one market and bar size a file) into training arrays.

python scripts/build_arrays.py OUT FILE.parquet …
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from kronos.bars.arrays import write_arrays


def tables(paths: list[Path]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for path in paths:
        frame = pd.read_parquet(path)
        for symbol, table in frame.groupby("symbol", observed=True, sort=True):
            yield path.stem, str(symbol), table


if __name__ == "__main__":
    out, *files = sys.argv[1:]
    arrays = write_arrays(tables(sorted(map(Path, files))), out)
    covered = sum(len(s) for s in arrays.segments)
    print(f"{len(arrays.values):,} bars, {len(arrays.segments):,} segments with {covered:,} bars, {arrays.data_hash}")
