"""Folders of many real series: windows of the packaged samples, each under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kronos.bars import BarStore, read_bars, sample_bars, write_bars
from kronos.scale.plan import UniverseSettings
from kronos.spec import ForecastSpec

CHECKPOINT = Path(__file__).parents[1] / "data" / "reference_tiny"
STOCKS = Path(__file__).parents[2] / ".." / "shared" / "data" / "us_equity_1d.parquet"
SAMPLES = ("sp500", "nasdaq", "eurusd")  # two of days without a zone, one of hours in UTC
SPEC = ForecastSpec(horizon=3, num_samples=4, context_length=48)
QUICK = UniverseSettings(SPEC, model=str(CHECKPOINT))


def series(number: int, samples: Sequence[str] = SAMPLES, bars: int = 90) -> tuple[str, pd.DataFrame]:
    """A name and a window of real bars; no two numbers give the same window."""
    sample = samples[number % len(samples)]
    table = sample_bars(sample)
    first = (number * 17) % (len(table) - bars)
    return f"{sample}-{number:04d}", table.iloc[first : first + bars].reset_index(drop=True)


def make_folder(folder: Path, count: int, *, bars: int = 90) -> Path:
    """One Parquet file a series, none of which names its symbol."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name, table = series(number, bars=bars)
        write_bars(table.drop(columns="symbol", errors="ignore"), folder / f"{name}.parquet")
    return folder


def make_symbols(folder: Path, count: int, *, bars: int = 90) -> Path:
    """One file a US stock where that data lies beside the project, else windows of the packaged samples."""
    if not STOCKS.exists():
        return make_folder(folder, count, bars=bars)
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_parquet(STOCKS)
    names = table["symbol"].value_counts().loc[lambda found: found >= 2 * bars].index.sort_values()[:count]
    for name, rows in table[table["symbol"].isin(names)].groupby("symbol", observed=True):
        sound = read_bars(rows.tail(2 * bars), on_defect="drop")  # there are some with a high below the close
        write_bars(sound.tail(bars).drop(columns="symbol"), folder / f"{name}.parquet")
    return folder


def make_store(folder: Path, count: int) -> Path:
    """A bar store of daily series."""
    tables = [table.assign(symbol=name) for name, table in (series(i, SAMPLES[:2]) for i in range(count))]
    BarStore(folder).write(pd.concat(tables, ignore_index=True))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
