"""Tables for each symbol, serial days with commas, junk and comments above a table without a header, offsets with Z."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from layout_files import hourly

from kronos.bars import read_bars
from kronos.errors import DataError

NAMES = ("open", "high", "low", "close", "volume")


def arrays(rows: int = 8, numpy: bool = False) -> dict[str, Any]:
    bars = hourly().head(rows)
    columns = {"timestamp": bars["timestamp"].astype(str).to_numpy(), **{name: bars[name].to_numpy() for name in NAMES}}
    return columns if numpy else {name: column.tolist() for name, column in columns.items()}


def written(folder: Path, text: str) -> Path:
    path = folder / "a.csv"
    path.write_text(text)
    return path


def headerless(rows: int = 8) -> str:
    bars = hourly().head(rows)
    lines = [
        ",".join([str(1_704_067_200 + 3600 * k), *(repr(float(value)) for value in row)])
        for k, row in enumerate(bars[list(NAMES)].to_numpy())
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("form", ["arrays", "numpy", "records", "json"])
@pytest.mark.parametrize("symbols", [("600519.SH", "000001.SH"), ("EUR", "GBP")])
def test_a_table_for_each_symbol(form: str, symbols: tuple[str, str], tmp_path: Path) -> None:
    tables: dict[str, Any] = {symbol: arrays(8 + k, form == "numpy") for k, symbol in enumerate(symbols)}
    if form == "records":
        tables = {symbol: pd.DataFrame(table).to_dict("records") for symbol, table in tables.items()}
    source: Any = tables
    if form == "json":
        source = tmp_path / "a.json"
        source.write_text(json.dumps({"data": tables}))
    found = read_bars(source)
    assert found["symbol"].value_counts().to_dict() == {symbols[0]: 8, symbols[1]: 9}
    assert found[found["symbol"] == symbols[1]]["close"].tolist() == hourly().head(9)["close"].tolist()


@pytest.mark.parametrize("decimal", [",", None])
def test_serial_days_with_decimal_commas(decimal: str | None, tmp_path: Path) -> None:
    bars = hourly().head(30)
    table = pd.DataFrame({"Datum": 45292 + np.arange(30) / 24, **{name: bars[name] for name in NAMES}})
    table.to_csv(tmp_path / "a.csv", sep=";", decimal=",", index=False, float_format="%.6f")
    found = read_bars(tmp_path / "a.csv", decimal=decimal)
    assert found["timestamp"].tolist() == pd.date_range("2024-01-01", periods=30, freq="h").tolist()
    assert np.allclose(found["close"], bars["close"], atol=1e-6)


def test_a_row_of_words_above_a_table_without_a_header(tmp_path: Path) -> None:
    path = written(tmp_path, "mine,eurusd,hourly,1,2,3\n" + headerless())
    with pytest.raises(DataError, match=r"row 1: the row is no bar: .*\('mine,eurusd,hourly,1,2,3'\)"):
        read_bars(path)
    found = read_bars(path, on_defect="drop")
    assert found["close"].tolist() == hourly().head(8)["close"].tolist()
    assert found.attrs["report"].dropped == 1
    found = read_bars(written(tmp_path, headerless()))
    assert len(found) == 8
    assert found.attrs["report"].defects == ()


def test_a_comment_above_a_table_without_a_header_is_told(tmp_path: Path) -> None:
    found = read_bars(written(tmp_path, "# hourly bars of mine\n" + headerless()))
    assert len(found) == 8
    assert "1 line above the table left out: '# hourly bars of mine'" in found.attrs["report"].notes


@pytest.mark.parametrize("suffix", ["+08:00Z", "-0530Z", "+00:00Z", "+0000Z"])
def test_an_offset_and_z(suffix: str, tmp_path: Path) -> None:
    bars = hourly().head(8)
    stamps = [f"2026-03-02T1{hour}:30:00{suffix}" for hour in range(8)]
    bars.assign(timestamp=stamps).to_csv(tmp_path / "a.csv", index=False)
    if suffix in ("+00:00Z", "+0000Z"):
        assert str(read_bars(tmp_path / "a.csv")["timestamp"][0]) == "2026-03-02 10:30:00+00:00"
        return
    with pytest.raises(DataError, match=rf"row 2, column timestamp: '2026-03-02T10:30:00\{suffix}' contradicts itself"):
        read_bars(tmp_path / "a.csv")


def test_very_wide_tables_without_a_header_are_refused_before_each_column_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(",".join(f"{row}.{column}" for column in range(300)) for row in range(30)) + "\n")
    with pytest.raises(DataError, match=r"no header, and 300 columns are too many.*timestamp=0"):
        read_bars(path)
