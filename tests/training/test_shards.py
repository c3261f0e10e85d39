"""Parquet shards: whole series however the rows are laid out, a bounded number of rows in memory at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_runs import learnable

from kronos.errors import DataError
from kronos.training.config import RunConfig
from kronos.training.data import find_files, is_sharded, open_arrays, read_shards, read_tables, units

NAMES = ("ALPHA", "BETA", "GAMMA")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.concat([learnable(100, seed).assign(symbol=name) for seed, name in enumerate(NAMES)], ignore_index=True)


def write(folder: Path, parts: list[pd.DataFrame], name: str = "hours-{:05d}-of-00003.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        part.to_parquet(folder / name.format(number), index=False)
    return folder


@pytest.fixture(params=["by symbol", "by time"])
def shards(request: pytest.FixtureRequest, table: pd.DataFrame, tmp_path: Path) -> Path:
    """Three shards: cut in the middle of a series, or one for each stretch of time."""
    rows = table if request.param == "by symbol" else table.sort_values("timestamp", kind="stable")
    return write(tmp_path / "shards", [rows[:130], rows[130:210], rows[210:]])


def test_series_come_back_whole(shards: Path, table: pd.DataFrame) -> None:
    for at_once in (10, 150, 10_000):
        read = dict(read_shards(sorted(shards.iterdir()), at_once))
        assert list(read) == list(NAMES)
        for name, rows in read.items():
            expected = table[table["symbol"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


def test_a_folder_of_shards_is_the_table(shards: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "whole.parquet", index=False)
    data = {"window": 40, "boundary": [8, 16], "hold_out": "dates"}
    one, many = (
        open_arrays(RunConfig.from_dict({"out": tmp_path / name, "data": {**data, "bars": [str(source)]}}))
        for name, source in (("one", tmp_path / "whole.parquet"), ("many", shards))
    )
    assert one.segments == many.segments
    assert one.data_hash == many.data_hash


def test_what_belongs_together(table: pd.DataFrame, tmp_path: Path) -> None:
    """Numbers at the end make shards of tables with symbols; anything else stands alone."""
    part = table[:100]
    write(tmp_path / "a", [part, part], "part-{}.parquet")
    write(tmp_path / "a", [part], "crypto_1h.parquet")
    write(tmp_path / "a", [part], "crypto_1d.parquet")
    write(tmp_path / "b", [part.drop(columns="symbol")] * 2, "60051{}.parquet")  # two stocks, no shards
    part.to_csv(tmp_path / "a" / "part-7.csv", index=False)
    found = [[path.name for path in unit] for unit in units(find_files([str(tmp_path)]))]
    assert found == [
        *(["crypto_1d.parquet"], ["crypto_1h.parquet"], ["part-0.parquet", "part-1.parquet"], ["part-7.csv"]),
        *(["600510.parquet"], ["600511.parquet"]),
    ]


def test_one_large_file_is_read_in_pieces(table: pd.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path, [table], "all.parquet") / "all.parquet"
    assert is_sharded([path], rows_at_once=299)
    assert not is_sharded([path], rows_at_once=300)
    assert [len(rows) for _, rows in read_shards([path], 120)] == [100, 100, 100]


def test_defective_rows(table: pd.DataFrame, tmp_path: Path) -> None:
    bad = table.copy()
    bad.loc[150, "high"] = 0.0
    files = find_files([str(write(tmp_path, [bad[:120], bad[120:]], "part-{}.parquet"))])
    with pytest.raises(DataError, match="high"):
        list(read_tables(files))
    assert [len(part) for _, _, part in read_tables(files, "drop")] == [100, 99, 100]


def test_a_bar_stores_folders_name_the_bar_size(tmp_path: Path) -> None:
    from kronos.bars import BarStore

    store = BarStore(tmp_path / "store")
    store.write(learnable(60), symbol="BTC/USDT")
    store.write(learnable(60, 1), symbol="ETH/USDT")
    short = learnable(2)
    store.write(short, symbol="NEW", frequency="1h")
    read = [(group, name, len(rows)) for group, name, rows in read_tables(find_files([str(store.folder)]))]
    assert read == [("1h", "BTC/USDT", 60), ("1h", "ETH/USDT", 60), ("1h", "NEW", 2)]


PEAK = """
import resource, sys
from pathlib import Path
from kronos.training.config import RunConfig
from kronos.training import data
import pandas, pyarrow.dataset, kronos.bars.reading
data.read_shards.__defaults__ = (60_000,)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
arrays = data.open_arrays(RunConfig.from_yaml(sys.argv[1]))
print(len(arrays.values), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """One and a half million bars, 60,000 at a time: far less memory than the table takes, let alone its reading."""
    pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    base = learnable(30_000)
    parts = []
    for number in range(50):
        part = base.assign(symbol=f"S{number:02d}")
        part[["open", "high", "low", "close"]] *= rng.uniform(0.5, 2)
        parts.append(part)
    write(tmp_path / "shards", [pd.concat(parts[i : i + 5]) for i in range(0, 50, 5)], "part-{:02d}.parquet")
    config = {"out": tmp_path / "run", "data": {"bars": [str(tmp_path / "shards")]}}
    (tmp_path / "run.yaml").write_text(RunConfig.from_dict(config).model_dump_json())
    command = [sys.executable, "-c", PEAK, str(tmp_path / "run.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 1_500_000
    table = rows * 8 * 8 / 1024
    assert kilobytes < 0.8 * table
