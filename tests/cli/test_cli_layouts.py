"""``kronos forecast --layout``: of one series and of many, files, folders, JSON, and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy.testing as npt
import pandas as pd
import pytest


@pytest.fixture
def forecast(run, tiny: Path, bars_csv: Path):
    def call(*options: object, bars: object = bars_csv):
        return run("forecast", bars, "--model", tiny, "--horizon", 5, "--samples", 24, "--calendar", "XNYS", *options)

    return call


@pytest.fixture
def many(bars: pd.DataFrame, tmp_path: Path) -> Path:
    """Two symbols in one file."""
    path = tmp_path / "many.csv"
    pd.concat([bars.assign(symbol=name) for name in ("AAA", "BBB")]).to_csv(path, index=False)
    return path


def test_a_table_of_one_series(forecast, tmp_path: Path) -> None:
    result = forecast("--layout", "nixtla", "-o", tmp_path / "a.csv", "--symbol", "SPX")
    assert result.status == 0, result.stderr
    table = pd.read_csv(tmp_path / "a.csv", parse_dates=["ds"])
    assert list(table["unique_id"]) == ["SPX"] * 5
    assert table.columns[3].endswith("-lo-90")
    assert table["ds"].iloc[0] == pd.Timestamp("2019-01-02")


def test_json_shows_the_record_or_the_rows(forecast) -> None:
    record = json.loads(forecast("--layout", "record", "--json").stdout)
    assert record["horizon"] == 5
    assert len(record["weights"]) == 24
    rows = json.loads(forecast("--layout", "predict", "--json").stdout)
    assert [row["date"][:10] for row in rows][:2] == ["2019-01-02", "2019-01-03"]
    assert len(json.loads(forecast("--layout", "qlib", "--json").stdout)[0]) == 3


def test_weights_are_told_apart(forecast, tiny: Path) -> None:
    first, again = (json.loads(forecast("--json", "--seed", seed).stdout)["metadata"]["weights"] for seed in (1, 2))
    assert first == again


@pytest.mark.parametrize(("layout", "file"), [("freqtrade", "path-023"), ("backtesting", "path-023.csv")])
def test_paths_are_written_into_a_folder(forecast, tmp_path: Path, layout: str, file: str) -> None:
    result = forecast("--layout", layout, "-o", tmp_path / "paths")
    assert result.status == 0, result.stderr
    assert len(list((tmp_path / "paths").iterdir())) == 24
    assert (tmp_path / "paths" / file).exists()
    assert f"Wrote {tmp_path / 'paths'}" in result.stderr


def test_many_series_have_one_table(forecast, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = forecast("--layout", "nixtla", "-o", out, bars=many)
    assert result.status == 0, result.stderr
    assert "nixtla.parquet" in result.stderr
    table, rows = pd.read_parquet(out / "nixtla.parquet"), pd.read_parquet(out / "forecasts")
    assert list(table["unique_id"]) == ["AAA"] * 5 + ["BBB"] * 5
    npt.assert_array_equal(table.filter(like="-lo-90").iloc[:, 0], rows["close_q0.05"])
    forecast("--layout", "qlib", "-o", out, bars=many)  # from the files that are there
    assert list(pd.read_parquet(out / "qlib.parquet").index.get_level_values("instrument")) == ["AAA", "BBB"]
    assert not (out / "nixtla.parquet").exists()  # it may be of other forecasts
    forecast("--layout", "vectorbt", "-o", out, bars=many)
    assert list(pd.read_parquet(out / "vectorbt.parquet")) == ["AAA", "BBB"]


def test_what_does_not_go_together_is_refused(forecast, many: Path, tmp_path: Path) -> None:
    for options, bars, words in (
        (("--layout", "record", "-o", tmp_path / "out"), many, "forecasts_to_frame"),
        (("--layout", "qlib", "--paths", "-o", tmp_path / "out"), many, "leave paths"),
        (("--layout", "record", "-o", tmp_path / "a.csv"), None, ".json"),
        (("--layout", "freqtrade", "-o", tmp_path / "a.csv"), None, "folder"),
    ):
        result = forecast(*options, **({} if bars is None else {"bars": bars}))
        assert result.status == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr
    assert forecast("--layout", "nixtela").status == 2
