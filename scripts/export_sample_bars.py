"""Writes the packaged sample bars (src/kronos/bars/samples) from the packages that publish them.

pip install arch==8.0.0
pip install --no-deps gym-anytrading==2.0.0
python scripts/export_sample_bars.py [--eurusd PATH/TO/FOREX_EURUSD_1H_ASK.csv]
"""

from __future__ import annotations

import argparse
import importlib
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parents[1] / "src" / "kronos" / "bars" / "samples"
PRICES = ["open", "high", "low", "close"]


def daily_index(name: str) -> pd.DataFrame:
    """Daily bars of an index from ``arch``."""
    source = importlib.import_module(f"arch.data.{name}").load()
    bars = source[["Open", "High", "Low", "Close", "Volume"]].set_axis([*PRICES, "volume"], axis=1)
    bars.insert(0, "timestamp", bars.index.astype("datetime64[ms]"))
    bars["volume"] = bars["volume"].astype("float64")
    return bars.reset_index(drop=True)


def eurusd(path: Path) -> pd.DataFrame:
    """Hourly EUR/USD from the CSV that gym-anytrading ships; its clock is UTC."""
    source = pd.read_csv(path)
    stamps = pd.to_datetime(source["Time"], format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    bars = source[["Open", "High", "Low", "Close", "Volume"]].set_axis([*PRICES, "volume"], axis=1)
    bars.insert(0, "timestamp", stamps.astype("datetime64[ms, UTC]"))
    return bars


def packaged_csv() -> Path:
    """The CSV inside an installed gym-anytrading, found without importing it."""
    spec = find_spec("gym_anytrading")
    if spec is None or spec.origin is None:
        raise SystemExit("gym-anytrading is not installed: pip install --no-deps gym-anytrading==2.0.0")
    return Path(spec.origin).parent / "datasets" / "data" / "FOREX_EURUSD_1H_ASK.csv"


def write(bars: pd.DataFrame, name: str) -> None:
    """One file; the symbol and the bar size go into the Parquet metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bars.insert(1, "symbol", name.upper())
    table = pa.Table.from_pandas(bars, preserve_index=False)
    pq.write_table(table, OUT / f"{name}.parquet", compression="zstd", compression_level=19)
    print(f"{name}: {len(bars)} bars, {(OUT / f'{name}.parquet').stat().st_size} bytes")


def main() -> None:
    """Write the three samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eurusd", type=Path, help="the CSV of gym-anytrading, when it is not installed here")
    arguments = parser.parse_args()
    for name in ("sp500", "nasdaq"):
        write(daily_index(name), name)
    write(eurusd(arguments.eurusd or packaged_csv()), "eurusd")


if __name__ == "__main__":
    main()
