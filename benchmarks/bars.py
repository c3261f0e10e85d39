"""How fast bars are read, as ratios to what pandas and pyarrow need for the same file in the same run.

python -m benchmarks.bars [--rows 1000000] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from kronos.bars import read_bars


def make_bars(rows: int) -> pd.DataFrame:
    """A random walk of one-minute bars in the published layout."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, rows)))
    opens = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opens, close) * (1 + rng.exponential(1e-4, rows))
    low = np.minimum(opens, close) * (1 - rng.exponential(1e-4, rows))
    volume = rng.lognormal(3, 1, rows)
    table = {
        "timestamps": pd.date_range("2020-01-01", periods=rows, freq="1min"),
        **{
            name: values.round(4)
            for name, values in zip(("open", "high", "low", "close"), (opens, high, low, close), strict=True)
        },
        "volume": volume.round(3),
        "amount": (volume * close).round(2),
    }
    return pd.DataFrame(table)


def in_turn(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Best seconds of each job; the jobs alternate, so that a busy moment hits all alike."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Seconds and ratios for CSV and Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder) / "bars.csv", Path(folder) / "bars.parquet"
        table = make_bars(rows)
        table.to_csv(csv, index=False)
        table.to_parquet(parquet, index=False)
        times = in_turn(
            {
                "pandas_read_csv": lambda: pd.read_csv(csv),
                "kronos_csv": lambda: read_bars(csv),
                "pyarrow_read_parquet": lambda: pq.read_table(parquet).to_pandas(),
                "kronos_parquet": lambda: read_bars(parquet),
            },
            repeats,
        )
        sizes = {"csv_bytes": csv.stat().st_size, "parquet_bytes": parquet.stat().st_size}
    return {
        "rows": rows,
        **sizes,
        "seconds": {name: round(value, 4) for name, value in times.items()},
        "csv_ratio": round(times["kronos_csv"] / times["pandas_read_csv"], 3),
        "parquet_ratio": round(times["kronos_parquet"] / times["pyarrow_read_parquet"], 3),
        "limits": {"csv_ratio": 1.5, "parquet_ratio": 1.5},
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.rows, arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, seconds in result["seconds"].items():
        print(f"{name:22} {seconds:8.3f} s")
    print(f"CSV {result['csv_ratio']}× pandas, Parquet {result['parquet_ratio']}× pyarrow (at most 1.5×)")


if __name__ == "__main__":
    main()
