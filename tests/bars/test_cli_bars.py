"""``kronos bars``: one JSON document on stdout, tables for people, one or two lines and status 1 for errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from layout_files import BUILDERS, csv, daily, ohlcv

from kronos.bars import read_bars, sample_bars, sample_path
from kronos.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: Any) -> tuple[int, str, str]:
        status = main(["bars", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_inspect_as_json(run: Run, tmp_path: Path) -> None:
    made = BUILDERS["akshare_gbk"]()
    path = tmp_path / made.name
    path.write_bytes(made.data)
    status, out, _ = run("inspect", path, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["layout"], found["symbol"], found["frequency"], found["rows"]) == ("akshare", "000001", "1d", 600)
    assert found["calendar"] == "XNYS"
    assert found["defects"] == []


def test_inspect_for_people(run: Run, tmp_path: Path) -> None:
    bars = sample_bars("eurusd").head(300).copy()
    bars.loc[7, "close"] = -1.0
    path = tmp_path / "bars.csv"
    bars.to_csv(path, index=False)
    status, out, _ = run("inspect", path)
    assert status == 0
    for word in ("generic OHLCV", "EURUSD", "1h", "UTC", "FX", "299 of 300", "a price is zero or negative", "9"):
        assert word in out


def test_convert_and_its_refusals(run: Run, tmp_path: Path) -> None:
    bad = sample_bars("sp500").head(300).copy()
    bad.loc[7, "close"] = -1.0
    path, out_path = tmp_path / "bars.csv", tmp_path / "out.parquet"
    bad.to_csv(path, index=False)
    status, out, err = run("convert", path, "-o", out_path)
    assert (status, out) == (1, "")
    assert "row 9, column close" in err
    assert "Traceback" not in err
    assert not out_path.exists()
    status, out, _ = run("convert", path, "-o", out_path, "--on-defect", "drop", "--json")
    assert status == 0
    assert json.loads(out)["dropped"] == 1
    assert len(read_bars(out_path)) == 299


def test_options_decide(run: Run, tmp_path: Path) -> None:
    bars = daily().head(12).assign(timestamp=pd.date_range("2024-01-01", periods=12))
    frame = ohlcv(bars, ["Tag", "O", "H", "L", "C", "V"], bars["timestamp"].dt.strftime("%m/%d/%Y"))
    path, out_path = tmp_path / "bars.csv", tmp_path / "out.csv"
    path.write_bytes(csv(frame))
    assert run("convert", path, "-o", out_path)[0] == 1
    status, _, err = run("convert", path, "-o", out_path, "--column", "timestamp=Tag")
    assert status == 1
    assert "dayfirst" in err
    status, _, _ = run("convert", path, "-o", out_path, "--column", "timestamp=0", "--monthfirst", "--symbol", "X")
    assert status == 0
    found = read_bars(out_path)
    assert found["timestamp"].iloc[1] == pd.Timestamp("2024-01-02")
    assert found["symbol"].iloc[0] == "X"
    assert run("convert", path, "-o", out_path, "--column", "timestamp")[0] == 1


def test_clean(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("clean", "sample:sp500", "-o", tmp_path / "c.parquet", "--json")
    assert status == 0
    assert json.loads(out)["rows_kept"] == 5031
    assert read_bars(tmp_path / "c.parquet")["symbol"].unique().tolist() == ["SP500/1"]
    status, out, _ = run("clean", "sample:sp500")
    assert status == 0
    assert "5,031 of 5,031" in out


def test_resample(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("resample", "sample:eurusd", "--to", "1d", "-o", tmp_path / "d.csv", "--json")
    assert status == 0
    assert json.loads(out)["frequency"] == "1d"
    assert len(read_bars(tmp_path / "d.csv")) == 260
    status, _, err = run("resample", "sample:eurusd", "--to", "5m", "-o", tmp_path / "e.csv")
    assert status == 1
    assert "larger" in err


def test_import_and_list(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    status, out, _ = run("import", sample_path("sp500"), "sample:eurusd", "--store", store, "--json")
    assert status == 0
    assert [item["added"] for item in json.loads(out)] == [5031, 6225]
    status, out, _ = run("list", "--store", store, "--json")
    assert status == 0
    assert [(item["symbol"], item["frequency"]) for item in json.loads(out)] == [("SP500", "1d"), ("EURUSD", "1h")]
    status, out, _ = run("list", "--store", store, "--frequency", "1h")
    assert status == 0
    assert "EURUSD" in out
    assert "SP500" not in out
    assert run("list", "--store", tmp_path / "none")[0] == 1
    again = run("import", sample_path("sp500"), "sample:sp500", "--store", store)
    assert again[0] == 0
    assert "1 series, 0 new bars" in again[2]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("inspect", "/"), 1, "folder"),
        (("inspect", "none.csv"), 1, "no such file"),
        (("inspect", "sample:none"), 1, "sample bars"),
        (("inspect",), 2, "FILE"),
        (("fetch", "BTC", "-o", "x.csv"), 1, "SOURCE:SYMBOL"),
        (("inspect", "sample:sp500", "--timezone", "Mars"), 1, "Unknown time zone"),
        (("inspect", "sample:sp500", "--decimal", "x"), 2, "decimal"),
    ],
)
def test_errors_are_short(run: Run, words: tuple[str, ...], status: int, text: str) -> None:
    found, out, err = run(*words)
    assert found == status
    assert out == ""
    assert text in err
    assert "Traceback" not in err


def test_calendars_are_listed(run: Run) -> None:
    status, out, _ = run("calendars")
    assert status == 0
    assert re.search(r"^ *XNYS +.*NYSE", out, re.MULTILINE)
    status, out, _ = run("calendars", "--json")
    assert "CRYPTO" in json.loads(out)["24/7"]
