"""The bar store: idempotent, atomic, catalogued, readable by any Parquet tool."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kronos.bars import BarStore, import_bars, read_bars, sample_bars, sample_path, write_bars
from kronos.bars.store import read_last, write_parquet
from kronos.errors import ConfigError, DataError


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


def test_round_trip(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "store")
    for name in ("sp500", "eurusd"):
        store.write(sample_bars(name))
    for name in ("sp500", "eurusd"):
        pd.testing.assert_frame_equal(store.read(name.upper()), sample_bars(name), check_dtype=False)
    assert store.symbols() == ["EURUSD", "SP500"]
    assert store.symbols("1d") == ["SP500"]
    entry = store.entries("1h")[0]
    assert (entry.symbol, entry.rows, entry.timezone) == ("EURUSD", 6225, "UTC")
    assert store.read("EURUSD").attrs["report"].frequency == "1h"


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    store = BarStore(tmp_path)
    first = import_bars(store, [sample_path("sp500"), sample_path("nasdaq")])
    before = snapshot(tmp_path)
    second = import_bars(store, [sample_path("sp500"), sample_path("nasdaq")])
    assert [item.added for item in first] == [5031, 5031]
    assert [item.added for item in second] == [0, 0]
    assert snapshot(tmp_path) == before


def test_pieces_in_any_order_make_the_same_files(tmp_path: Path) -> None:
    bars = sample_bars("sp500")
    one, two = BarStore(tmp_path / "one"), BarStore(tmp_path / "two")
    for part in (bars[:3000], bars[2000:]):
        one.write(part.reset_index(drop=True))
    for part in (bars[2000:], bars[:3000]):
        two.write(part.reset_index(drop=True))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    np.testing.assert_array_equal(one.read("SP500")["close"], bars["close"])


def test_contradictions_are_refused_or_replaced(tmp_path: Path) -> None:
    store = BarStore(tmp_path)
    bars = sample_bars("sp500")
    store.write(bars)
    before = snapshot(tmp_path)
    other = bars.copy()
    other.loc[7, "close"] += 0.5
    with pytest.raises(DataError, match=r"1 bars differ.*--replace"):
        store.write(other)
    assert snapshot(tmp_path) == before
    assert store.write(other, replace=True)[0].replaced == 1
    assert store.read("SP500")["close"][7] == other["close"][7]


def test_a_bad_file_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "store")
    import_bars(store, [sample_path("sp500")])
    before = snapshot(tmp_path)
    bad = tmp_path / "bad.csv"
    bad.write_text("not,bars\n1,2\n")
    with pytest.raises(DataError, match=r"bad\.csv"):
        import_bars(store, [sample_path("nasdaq"), bad])
    assert snapshot(tmp_path) == before
    assert not list(tmp_path.rglob("*.part"))


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    write_bars(sample_bars("sp500"), folder / "good.csv")
    for count in range(12):
        (folder / f"bad{count:02d}.csv").write_text("not,bars\n1,2\n")
    with pytest.raises(DataError) as caught:
        import_bars(BarStore(tmp_path / "store"), [folder])
    text = str(caught.value)
    assert "12 of 13 files" in text
    assert "bad09.csv" in text
    assert "bad10.csv" not in text
    assert "and 2 more" in text
    assert not list(tmp_path.rglob("*.parquet"))


def test_names_from_files_folders_and_awkward_symbols(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    plain = sample_bars("sp500").drop(columns="symbol")
    write_bars(plain, folder / "AAPL.us.csv")
    write_bars(plain, folder / "MSFT.csv.gz")
    store = BarStore(tmp_path / "store")
    import_bars(store, [folder])
    assert store.symbols() == ["AAPL", "MSFT"]
    store.write(plain, symbol="BTC/USDT:USDT")
    assert store.read("BTC/USDT:USDT")["symbol"][0] == "BTC/USDT:USDT"
    assert "BTC/USDT:USDT" in store.symbols()
    store.write(plain, symbol="../escape")
    assert {path.parent.name for path in (tmp_path / "store").rglob("*.parquet")} == {"frequency=1d"}


def test_the_catalogue_can_be_lost_or_damaged(tmp_path: Path) -> None:
    store = BarStore(tmp_path)
    store.write(sample_bars("sp500"))
    whole = store.entries()
    catalogue = tmp_path / "catalogue.json"
    assert json.loads(catalogue.read_text())[0]["symbol"] == "SP500"
    catalogue.write_text("{")
    assert store.entries() == whole
    catalogue.unlink()
    assert store.entries() == whole
    (tmp_path / "frequency=1d" / "SP500.parquet").unlink()
    assert store.entries() == []


def test_refusals(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "store")
    bars = sample_bars("sp500")
    with pytest.raises(DataError, match="name no symbol"):
        store.write(bars.drop(columns="symbol"))
    with pytest.raises(DataError, match="bar size"):
        store.write(bars.head(1))
    with pytest.raises(DataError, match="there is no symbol 'X', nor any other"):
        store.read("X")
    store.write(bars)
    store.write(read_bars(bars, timezone="UTC").assign(symbol="UTC"))
    with pytest.raises(DataError, match="zone"):
        store.write(read_bars(bars, timezone="UTC"))
    with pytest.raises(ConfigError, match="is a file"):
        BarStore(tmp_path / "store" / "catalogue.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files of bars"):
        import_bars(store, [tmp_path / "empty"])


def test_duckdb_and_arrow_read_it(tmp_path: Path) -> None:
    store = BarStore(tmp_path)
    store.write(pd.concat([sample_bars("sp500"), sample_bars("nasdaq")], ignore_index=True))
    assert store.scan("1d").count_rows() == 2 * 5031
    duckdb = pytest.importorskip("duckdb", reason="duckdb is optional")
    query = f"SELECT symbol, frequency, count(*) FROM read_parquet('{tmp_path}/**/*.parquet', hive_partitioning=true)"
    rows = duckdb.sql(f"{query} GROUP BY ALL ORDER BY 1").fetchall()
    assert rows == [("NASDAQ", "1d", 5031), ("SP500", "1d", 5031)]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".feather", ".csv.gz"])
def test_written_bars_read_back_equal(ending: str, tmp_path: Path) -> None:
    for name in ("sp500", "eurusd"):
        bars = sample_bars(name)
        path = write_bars(bars, tmp_path / f"{name}{ending}")
        found = read_bars(path)
        pd.testing.assert_frame_equal(found, bars, check_dtype=False)
        assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


def test_writing_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ending"):
        write_bars(sample_bars("sp500"), tmp_path / "x.xlsx")
    with pytest.raises(ConfigError, match="no folder"):
        write_bars(sample_bars("sp500"), tmp_path / "none" / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_last_bars_are_read_alone(tmp_path: Path) -> None:
    minutes = pd.date_range("2024-01-01", periods=150_000, freq="min")
    bars = pd.concat([sample_bars("sp500")] * 31, ignore_index=True).head(len(minutes)).assign(timestamp=minutes)
    path = tmp_path / "long.parquet"
    write_parquet(bars, path)
    for rows in (1, 18_000, 70_000, 200_000):
        pd.testing.assert_frame_equal(read_last(path, rows), pd.read_parquet(path).tail(rows).reset_index(drop=True))
    assert pq.ParquetFile(path).num_row_groups == 19
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        read_last(path, 5)


def test_a_table_need_not_be_a_bars_table_yet(tmp_path: Path) -> None:
    """A ``Ticker`` column, or an index of symbol and time, as ``read_bars`` takes them."""
    bars = sample_bars("sp500").tail(30)
    ticker = bars.rename(columns={"symbol": "Ticker"})
    for number, table in enumerate((ticker, bars.set_index(["symbol", "timestamp"]))):
        store = BarStore(tmp_path / str(number))
        assert [done.symbol for done in store.write(table)] == ["SP500"]
        np.testing.assert_array_equal(store.read("SP500")["close"], bars["close"])
