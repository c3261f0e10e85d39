"""The validator refuses every defect with file, row, column and what to do; drop mode drops just those rows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kronos.bars import FEATURES, BarsReport, read_bars, sample_bars, validate_bars
from kronos.bars.reading.validate import as_bars
from kronos.errors import CapacityError, ConfigError, DataError

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data" / "samples"
ROW = 100  # the row of the table (from 0) that is spoilt


def clean() -> pd.DataFrame:
    bars = sample_bars("eurusd").head(400).drop(columns="symbol")
    bars["timestamp"] = bars["timestamp"].dt.tz_localize(None)
    return bars


def spoil(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        bars = bars.copy()
        if isinstance(value, str):
            bars[column] = bars[column].astype(object)
        bars.loc[ROW, column] = value
        return bars

    return change


def duplicate(bars: pd.DataFrame) -> pd.DataFrame:
    bars = bars.copy()
    bars.loc[ROW, "timestamp"] = bars.loc[ROW - 1, "timestamp"]
    return bars


def swap(bars: pd.DataFrame) -> pd.DataFrame:
    order = np.arange(len(bars))
    order[[ROW, ROW + 9]] = order[[ROW + 9, ROW]]
    return bars.iloc[order].reset_index(drop=True)


DEFECTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str, int]] = {
    # name: how, kind, column, rows that drop mode drops
    "nan price": (spoil("close", np.nan), "missing_price", "close", 1),
    "infinite price": (spoil("high", np.inf), "infinite_price", "high", 1),
    "too large for float32": (spoil("high", 1e39), "infinite_price", "high", 1),
    "zero price": (spoil("low", 0.0), "nonpositive_price", "low", 1),
    "negative price": (spoil("open", -1.0), "nonpositive_price", "open", 1),
    "high below low": (spoil("high", 0.5), "high_below_low", "high", 1),
    "high below body": (spoil("close", 1.2), "high_below_body", "high", 1),
    "low above body": (spoil("close", 0.9), "low_above_body", "low", 1),
    "negative volume": (spoil("volume", -5.0), "negative_volume", "volume", 1),
    "infinite volume": (spoil("volume", np.inf), "infinite_volume", "volume", 1),
    "negative amount": (spoil("amount", -5.0), "negative_amount", "amount", 1),
    "text in a price": (spoil("open", "abc"), "text_in_number", "open", 1),
    "text in volume": (spoil("volume", "many"), "text_in_number", "volume", 1),
    "duplicate time": (duplicate, "duplicate_time", "timestamp", 1),
    "unsorted times": (swap, "unsorted_time", "timestamp", 2),
    "missing time": (spoil("timestamp", pd.NaT), "unparsable_time", "timestamp", 1),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_in_a_table(name: str) -> None:
    change, kind, column, dropped = DEFECTS[name]
    spoilt = change(clean())
    with pytest.raises(DataError) as caught:
        validate_bars(spoilt, source="my.csv")
    text = str(caught.value)
    assert text.startswith("my.csv, row ")
    assert f"column {column}" in text
    assert len(text.splitlines()) <= 2
    assert "on_defect='drop'" in text
    kept = validate_bars(spoilt, on_defect="drop")
    assert len(kept) == len(spoilt) - dropped
    report: BarsReport = kept.attrs["report"]
    assert [defect.kind for defect in report.defects] == [kind]
    assert report.dropped == dropped
    assert ROW + 1 in report.defects[0].rows
    assert validate_bars(kept).attrs["report"].defects == ()


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_in_a_file_name_its_lines(name: str, tmp_path: Path) -> None:
    change, kind, column, dropped = DEFECTS[name]
    path = tmp_path / "bars.csv"
    change(clean()).to_csv(path, index=False)
    with pytest.raises(DataError, match=rf"bars\.csv, row {ROW + 2 + (kind == 'unsorted_time')}, column {column}"):
        read_bars(path)
    kept = read_bars(path, on_defect="drop")
    assert len(kept) == 400 - dropped
    assert ROW + 2 in kept.attrs["report"].defects[0].rows  # the header is line 1
    assert kept.attrs["report"].defects[0].kind == kind


def test_unparsable_time_in_a_file(tmp_path: Path) -> None:
    bars = clean().astype({"timestamp": str})
    bars.loc[ROW, "timestamp"] = "yesterday"
    path = tmp_path / "bars.csv"
    bars.to_csv(path, index=False)
    with pytest.raises(DataError, match=rf"row {ROW + 2}, column timestamp: .*yesterday"):
        read_bars(path)
    assert len(read_bars(path, on_defect="drop")) == 399


def test_line_numbers_count_blank_lines_and_ragged_rows(tmp_path: Path) -> None:
    lines = clean().to_csv(index=False).splitlines()
    lines[50] += ",1,2,3"
    lines.insert(20, "")
    lines[300] = lines[300].replace(",", ",-", 1)
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"row 52: .*another number of columns"):
        read_bars(path)
    kept = read_bars(path, on_defect="drop")
    found = {defect.kind: defect.rows for defect in kept.attrs["report"].defects}
    assert found["ragged_row"] == (52,)
    assert found["nonpositive_price"] == (301,)
    assert len(kept) == 398


def test_float32_rounding_is_no_defect() -> None:
    bars = clean()
    single = bars.astype(dict.fromkeys(("open", "high", "low", "close"), "float32"))
    single["high"] = np.nextafter(single["high"].to_numpy(), np.float32(0))
    assert len(validate_bars(single)) == len(bars)
    worse = bars.assign(high=bars["high"] * (1 - 1e-4))
    with pytest.raises(DataError, match="high is below"):
        validate_bars(worse)


def test_rows_alike_are_counted_in_words() -> None:
    bars = clean()
    bars.loc[[ROW, ROW + 1], ["open", "high", "low", "close"]] = np.nan
    with pytest.raises(DataError, match=r"columns open, high, low, close: all prices .* bar; 1 more row like it\."):
        validate_bars(bars)
    bars.loc[ROW + 2, ["open", "high", "low", "close"]] = np.nan
    with pytest.raises(DataError, match="; 2 more rows like it"):
        validate_bars(bars)


def test_all_kinds_are_counted_and_the_first_row_is_named() -> None:
    bars = clean()
    bars.loc[ROW, "close"] = np.nan
    bars.loc[ROW + 50, "volume"] = -1.0
    bars.loc[ROW + 51, "volume"] = -1.0
    with pytest.raises(DataError, match=rf"row {ROW + 1}, column close.*negative_volume 2×"):
        validate_bars(bars)


def test_most_rows_defective_is_refused_even_in_drop_mode() -> None:
    bars = clean()
    bars.loc[50:, "close"] = -1.0
    with pytest.raises(DataError, match="too many to drop"):
        validate_bars(bars, on_defect="drop")


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match="400 usable bars, at least 401"):
        validate_bars(clean(), min_rows=401)
    with pytest.raises(DataError, match="no rows"):
        validate_bars(clean().head(0))


def test_columns() -> None:
    bars = validate_bars(clean().assign(rsi=1.0))
    assert list(bars.columns) == ["timestamp", *FEATURES]
    assert bars.attrs["report"].left_out == ("rsi",)
    assert isinstance(bars.index, pd.RangeIndex)
    with pytest.raises(DataError, match=r"no column for close"):
        validate_bars(clean().drop(columns="close"))
    with pytest.raises(DataError, match="twice"):
        validate_bars(pd.concat([clean(), clean()[["close"]]], axis=1))
    with pytest.raises(ConfigError, match="on_defect"):
        validate_bars(clean(), on_defect="repair")  # type: ignore[arg-type]


def test_absent_volume_and_amount() -> None:
    bars = clean()
    none = validate_bars(bars.drop(columns=["volume", "amount"]))
    assert (none[["volume", "amount"]].to_numpy() == 0).all()
    some = validate_bars(bars.drop(columns="amount"))
    mean = bars[["open", "high", "low", "close"]].mean(axis=1)
    np.testing.assert_allclose(some["amount"], bars["volume"] * mean)
    only = validate_bars(bars.drop(columns="volume"))
    assert (only[["volume", "amount"]].to_numpy() == 0).all()
    assert any("amount without volume" in note for note in only.attrs["report"].notes)


def test_missing_volume_becomes_zero_and_is_told() -> None:
    bars = clean()
    bars.loc[[3, 5], "volume"] = np.nan
    bars.loc[3, "amount"] = np.nan
    found = validate_bars(bars)
    assert found["volume"][3] == 0
    assert any("volume is missing in 2 rows" in note for note in found.attrs["report"].notes)


def test_input_is_not_changed_and_valid_values_are_kept_as_they_are() -> None:
    bars = clean()
    before = bars.copy()
    found = validate_bars(bars)
    pd.testing.assert_frame_equal(bars, before)
    np.testing.assert_array_equal(found[list(FEATURES)].to_numpy(), bars[list(FEATURES)].to_numpy())


def test_order_is_judged_within_each_symbol() -> None:
    one = clean().assign(symbol="B")
    two = clean().assign(symbol="A")
    mixed = pd.concat([one, two]).sort_values("timestamp", kind="stable")
    found = validate_bars(mixed)
    assert found["symbol"].tolist() == ["A"] * 400 + ["B"] * 400
    assert found.groupby("symbol")["timestamp"].is_monotonic_increasing.all()
    assert found.attrs["report"].symbols == ("A", "B")
    with pytest.raises(DataError, match="no symbol"):
        validate_bars(mixed.assign(symbol=[None, *mixed["symbol"][1:]]))
    with pytest.raises(DataError, match=r"columns=\{'symbol': NAME\}"):
        validate_bars(mixed.drop(columns="symbol"))


def test_fewest_rows_go_when_order_is_broken() -> None:
    bars = clean()
    block = bars.iloc[[*range(200), *range(210, 220), *range(200, 210), *range(220, 400)]]
    kept = validate_bars(block, on_defect="drop")
    assert len(kept) == 390


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"   \n\n", "empty"),
        (b"\x00\x01\x02" * 50, "binary"),
        (b"timestamp,open,high,low,close\n", "no rows"),
        (b"hello world\nthis is prose\n", "rows have 1 column"),
        (b'{"a": 1}\n', "no table of bars"),
        (b"<html><body></body></html>", "HTML"),
        (b"PAR1 cut", "Parquet file is damaged"),
        (b"ARROW1 cut", "Arrow file is damaged"),
        (b"\x1f\x8b\x08 cut", "damaged"),
        (b"PK\x03\x04 cut", "damaged"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x04K\x01.", "pickle"),
        (b"a;b;c;d;e\n1;2;3;4;5\n", "no column for"),
        (b"timestamp,open,high,low,close\nx,1,1,1,1\ny,1,1,1,1\n", "cannot be read"),
    ],
)
def test_files_that_are_no_bars(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=text) as caught:
        read_bars(path)
    assert "bars.csv" in str(caught.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_bars(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_bars(tmp_path / "none.csv")


def test_archives(tmp_path: Path) -> None:
    import gzip
    import zipfile

    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(b"0" * 100_000_000))
    with pytest.raises(CapacityError, match="unpack"):
        read_bars(bomb)
    two = tmp_path / "two.zip"
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "2")
    with pytest.raises(DataError, match=r"holds 2 files \(a.csv, b.csv\)"):
        read_bars(two)


def test_other_objects() -> None:
    with pytest.raises(DataError, match="Series"):
        read_bars(clean()["close"])
    with pytest.raises(DataError, match="list"):
        read_bars([1, 2, 3])


def test_report_goes_with_the_table_into_parquet(tmp_path: Path) -> None:
    bars = sample_bars("sp500")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bars.to_parquet(tmp_path / "x.parquet")
    report: BarsReport = bars.attrs["report"]
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report.to_dict()))
    assert bars.copy().attrs["report"] is report
    assert report.symbol == "SP500"
    assert report.frequency == "1d"


def test_messy_sample_reports_what_its_manifest_says() -> None:
    """Its rows count from 0 after the header: 3 duplicates (300-302), a 12-bar gap (700), no volume (900-903),
    missing prices (1000, and all of 1001), low above high (1200), a negative close (1300), two swapped (1500, 1510).
    """
    path = SAMPLES / "messy_defects_injected_1m.csv"
    if not path.is_file():
        pytest.skip("shared/data/samples is not here")
    from kronos.bars import inspect_bars

    with pytest.raises(DataError, match=r"row 302, column timestamp"):
        read_bars(path)
    report = inspect_bars(path)
    assert {defect.kind: defect.rows for defect in report.defects} == {
        "duplicate_time": (302, 303, 304),
        "missing_price": (1002,),
        "empty_bar": (1003,),
        "high_below_low": (1202,),
        "nonpositive_price": (1302,),
        "unsorted_time": (1502, 1512),
    }
    warned = {warning.kind: warning for warning in report.warnings}
    assert warned["zero_volume"].rows == (902, 903, 904, 905)
    assert "gap" in warned
    assert (report.rows, report.dropped) == (1982, 9)


def test_a_falling_table_with_a_repeated_time_is_not_let_through() -> None:
    times = pd.to_datetime(["2024-01-01 00:00", "2023-12-31 23:00", "2023-12-31 23:00"])
    table = pd.DataFrame({"timestamp": times, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.0, "volume": 1.0})
    with pytest.raises(DataError, match="2 of 3 rows are defective"):
        validate_bars(table, on_defect="drop")


# -- tables that are bars tables already ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFECTS)
def test_a_bars_table_with_a_defect_is_left_to_the_reader(name: str) -> None:
    assert as_bars(DEFECTS[name][0](clean())) is None


@pytest.mark.parametrize("sample", ["sp500", "eurusd"])
def test_a_bars_table_is_read_in_one_look_as_the_reader_reads_it(sample: str) -> None:
    table = sample_bars(sample).iloc[50:300].copy()
    quick = as_bars(table)
    assert quick is not None
    pd.testing.assert_frame_equal(quick, read_bars(table), check_flags=False)
    holes = table.assign(volume=table["volume"].where(table.index % 7 > 0), amount=np.nan)
    quick = as_bars(holes)
    assert quick is not None
    pd.testing.assert_frame_equal(quick, read_bars(holes))
    holes.loc[60, "close"] = 0.0
    assert quick["close"].min() > 0  # what was read is no longer the caller's


def test_what_is_no_bars_table_of_one_symbol_is_left_to_the_reader() -> None:
    table = sample_bars("sp500").head(20)
    others = [
        table.head(0),
        table.to_dict("list"),
        table.drop(columns="volume"),
        table.rename(columns={"close": "Close"}),
        table.assign(close=table["close"].astype("float32")),
        table.assign(timestamp=table["timestamp"].astype(str)),
        table.assign(symbol=["A", "B"] * 10),
        table.assign(symbol=[None] * 20),
    ]
    assert [as_bars(other) for other in others] == [None] * len(others)
