"""Forecasts in other tools' layouts: their columns, the numbers of the views, and no quantile from few paths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest

from kronos import forecasts_to_frame
from kronos.backtesting.signals import path_signals
from kronos.bars import read_bars
from kronos.errors import ConfigError
from kronos.inference.forecast import Forecast

LEVELS = (0.05, 0.1, 0.5, 0.95)


@pytest.fixture
def two(make_forecast) -> list[Forecast]:
    return [make_forecast(seed=seed, symbol=name) for seed, name in enumerate(("ACME", "ZETA"))]


def in_zone(forecast: Forecast, zone: str, times: pd.DatetimeIndex | None = None) -> Forecast:
    """The same forecast on a clock with a zone."""
    times = forecast.timestamps if times is None else times
    metadata = {**forecast.metadata, "cutoff": (times[0] - pd.Timedelta(hours=1)).tz_localize(zone)}
    return Forecast(forecast.samples, times.tz_localize(zone), metadata, symbol=forecast.symbol)


# -- one number a bar -------------------------------------------------------------------------------------


def test_nixtla_names_ids_times_and_intervals(two: list[Forecast]) -> None:
    frame = forecasts_to_frame(two, "nixtla", quantile_levels=LEVELS)
    assert list(frame) == ["unique_id", "ds", "test", "test-lo-90", "test-q-10", "test-median", "test-hi-90"]
    assert len(frame) == 2 * two[0].horizon
    mine = frame[frame["unique_id"] == "ZETA"]
    assert list(mine["ds"]) == list(two[1].timestamps)
    npt.assert_allclose(mine["test"], two[1].mean()["close"])
    npt.assert_allclose(mine["test-median"], two[1].median()["close"])
    npt.assert_allclose(mine["test-lo-90"], two[1].quantile(0.05)["close"])
    npt.assert_allclose(mine["test-hi-90"], two[1].quantile(0.95)["close"])


@pytest.mark.parametrize(("level", "names"), [(0.025, "lo-95"), (0.005, "lo-99"), (0.0125, "lo-97.5"), (0.4, "lo-20")])
def test_intervals_are_named_by_what_they_hold(make_forecast, level: float, names: str) -> None:
    frame = make_forecast().to_frame("nixtla", quantile_levels=[level, 1 - level])
    assert list(frame)[3:] == [f"test-{names}", f"test-{names.replace('lo', 'hi')}"]


def test_utilsforecast_evaluates_the_nixtla_layout(make_forecast) -> None:
    """Their own losses find the columns, and say what our numbers say."""
    from utilsforecast.evaluation import evaluate
    from utilsforecast.losses import coverage, mae, quantile_loss

    forecast = make_forecast()
    frame = forecast.to_frame("nixtla", quantile_levels=LEVELS)
    truth = frame[["unique_id", "ds"]].assign(y=forecast.samples[3, :, 3].astype(float))
    scores = evaluate(truth.merge(frame), metrics=[mae, coverage], models=["test"], level=[90])
    assert list(scores["metric"]) == ["mae", "coverage_level90"]
    npt.assert_allclose(scores["test"].iloc[0], np.abs(forecast.mean()["close"].to_numpy() - truth["y"]).mean())
    lost = quantile_loss(truth.merge(frame), models={"test": "test-q-10"}, q=0.1)
    assert lost["test"].iloc[0] > 0


def test_qlib_score_is_the_mean_signal_at_the_cutoff(two: list[Forecast]) -> None:
    frame = forecasts_to_frame({one.symbol: one for one in two}, "qlib")
    assert frame.index.names == ["datetime", "instrument"]
    assert list(frame.columns) == ["score"]
    for one in two:
        score = frame.loc[(one.metadata["cutoff"], one.symbol), "score"]
        assert score == pytest.approx(path_signals(one.close(), one.last_close)["mean"], rel=1e-9)


def test_vectorbt_has_a_row_a_date_and_a_column_a_symbol(two: list[Forecast]) -> None:
    frame = forecasts_to_frame([(one.symbol, one) for one in two], "vectorbt")
    assert list(frame.columns) == ["ACME", "ZETA"]
    assert frame.index.equals(two[0].timestamps)
    npt.assert_allclose(frame["ZETA"], two[1].mean()["close"])
    volumes = forecasts_to_frame(two, "vectorbt", column="volume")
    npt.assert_allclose(volumes["ACME"], two[0].mean()["volume"])


def test_vectorbt_runs_on_its_layout(two: list[Forecast]) -> None:
    vectorbt = pytest.importorskip(
        "vectorbt", reason="eight packages and eleven seconds to import; pip install vectorbt"
    )
    portfolio = vectorbt.Portfolio.from_holding(forecasts_to_frame(two, "vectorbt"), freq="1D")
    closes = two[1].mean()["close"]
    assert portfolio.total_return()["ZETA"] == pytest.approx(closes.iloc[-1] / closes.iloc[0] - 1, abs=1e-6)


def test_vectorbt_keeps_one_zone_and_joins_several(two: list[Forecast]) -> None:
    same = forecasts_to_frame([in_zone(one, "Asia/Shanghai") for one in two], "vectorbt")
    assert str(same.index.tz) == "Asia/Shanghai"
    assert len(same) == two[0].horizon
    mixed = forecasts_to_frame([in_zone(two[0], "Asia/Shanghai"), in_zone(two[1], "America/New_York")], "vectorbt")
    assert str(mixed.index.tz) == "UTC"
    assert len(mixed) == 2 * two[0].horizon
    with pytest.raises(ConfigError, match="timezone="):
        forecasts_to_frame([two[0], in_zone(two[1], "UTC")], "vectorbt")


def test_date_and_predict(two: list[Forecast]) -> None:
    frame = two[0].to_frame("predict")
    assert list(frame) == ["date", "predict"]
    npt.assert_allclose(frame["predict"], two[0].mean()["close"])
    assert list(forecasts_to_frame(two, "predict")) == ["date", "symbol", "predict"]


def test_times_that_repeat_are_refused(make_forecast) -> None:
    times = pd.date_range("2024-11-03 03:00", periods=12, freq="h", tz="UTC").tz_convert("America/New_York")
    source = make_forecast()
    repeats = Forecast(source.samples, times, {"cutoff": times[0] - pd.Timedelta(hours=1)}, symbol="BTC")
    with pytest.raises(ConfigError, match=r"BTC has two rows for 2024-11-03 01:00:00.*timezone='UTC'"):
        repeats.to_frame("nixtla")
    assert len(repeats.to_frame("vectorbt")) == 12  # whose index keeps the zone
    with pytest.raises(ConfigError, match="ACME has two rows"):
        forecasts_to_frame([source, source], "vectorbt")


def test_wall_times_go_out_without_their_zone(make_forecast) -> None:
    zoned = in_zone(make_forecast(), "Asia/Shanghai")
    assert zoned.to_frame("nixtla")["ds"].dt.tz is None
    assert zoned.to_frame("nixtla")["ds"].iloc[0] == zoned.timestamps[0].tz_localize(None)


def test_a_series_without_a_name_has_one(make_forecast) -> None:
    forecast = make_forecast(symbol=None)
    assert set(forecast.to_frame("nixtla")["unique_id"]) == {"series"}
    assert list(forecast.to_frame("vectorbt")) == ["series"]


# -- too few paths ----------------------------------------------------------------------------------------


def test_few_paths_give_means_and_no_quantiles(make_forecast) -> None:
    forecast = make_forecast(paths=19)
    frame = forecast.to_frame("nixtla")
    assert frame[["test-lo-90", "test-hi-90", "test-lo-50", "test-hi-50"]].isna().all().all()
    assert frame[["test", "test-median"]].notna().all().all()
    record = forecast.to_frame("record").iloc[0]
    assert record["quantiles"]["0.05"] == [None] * forecast.horizon
    assert record["prob_up"] == record["prob_up_error"] == [None] * forecast.horizon
    assert record["value_at_risk"] is None
    assert "no distribution" in record["notes"][0]
    for layout in ("qlib", "vectorbt", "predict"):
        assert forecast.to_frame(layout).notna().all().all()


# -- records ----------------------------------------------------------------------------------------------


def test_a_record_says_who_forecast_what_when(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast()
    path = forecast.save(tmp_path / "a.json", layout="record", quantile_levels=[0.1, 0.9])
    record = json.loads(path.read_text())
    assert record["symbol"] == "ACME"
    assert pd.Timestamp(record["cutoff"]) == forecast.metadata["cutoff"]
    assert pd.Timestamp("now", tz="UTC") - pd.Timestamp(record["made_at"]) < pd.Timedelta(minutes=1)
    assert record["made_at"].endswith("+00:00")
    assert record["horizon"] == len(record["timestamps"]) == 12
    npt.assert_allclose(record["quantiles"]["0.9"], forecast.quantile(0.9)["close"])
    npt.assert_allclose(record["prob_up"], forecast.prob_up())
    npt.assert_allclose(record["prob_up_error"], forecast.prob_up(error=True)["error"])
    assert {"model", "revision", "weights", "distinct_paths", "notes"} <= set(record)


def test_records_of_many_are_rows(two: list[Forecast]) -> None:
    frame = forecasts_to_frame(two, "record")
    assert list(frame["symbol"]) == ["ACME", "ZETA"]
    assert json.loads(frame.to_json(orient="records"))[1]["horizon"] == 12


# -- paths as bars ----------------------------------------------------------------------------------------


HOLD = """
import sys, warnings
import pandas as pd
from backtesting import Backtest, Strategy

class Hold(Strategy):
    def init(self): ...
    def next(self):
        if not self.position:
            self.buy()

warnings.simplefilter("ignore")
bars = pd.read_csv(sys.argv[1], index_col=0, parse_dates=True)
stats = Backtest(bars, Hold, cash=10_000, finalize_trades=True).run()
print(stats["End"], stats["Return [%]"])
"""


def test_backtesting_runs_a_path(make_forecast, tmp_path: Path) -> None:
    """In a process of its own, where a folder of tests has not the name of the package."""
    forecast = make_forecast()
    folder = forecast.save(tmp_path / "paths", layout="backtesting")
    found = subprocess.run(
        [sys.executable, "-c", HOLD, folder / "path-007.csv"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    day, _, result = found.stdout.rpartition(" ")
    bars = forecast.to_frame("backtesting").loc[7]
    assert list(bars) == ["Open", "High", "Low", "Close", "Volume"]
    assert len(bars) == 150 + 12
    assert pd.Timestamp(day) == forecast.timestamps[-1]
    assert float(result) == pytest.approx(100 * (bars["Close"].iloc[-1] / bars["Open"].iloc[2] - 1), abs=1.5)


def test_freqtrade_bars_are_utc_and_follow_on_the_known_ones(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast(frequency="5min", symbol="BTC/USDT", paths=3)
    folder = forecast.save(tmp_path / "data", layout="freqtrade")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.feather"))
    assert files == [f"path-00{number}/BTC_USDT-5m.feather" for number in range(3)]
    bars = pd.read_feather(folder / files[2])
    assert list(bars) == ["date", "open", "high", "low", "close", "volume"]
    assert str(bars["date"].dt.tz) == "UTC"
    npt.assert_allclose(bars["close"].iloc[-12:], forecast.samples[2, :, 3])
    npt.assert_allclose(bars["close"].iloc[:-12], forecast.history["close"])
    assert len(read_bars(folder / files[0])) == len(bars)  # our own reader takes them back


def test_backtesting_files_come_back(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast(paths=2)
    folder = forecast.save(tmp_path / "paths", layout="backtesting")
    assert sorted(path.name for path in folder.iterdir()) == ["path-000.csv", "path-001.csv"]
    back = pd.read_csv(folder / "path-001.csv", index_col=0, parse_dates=True)
    pd.testing.assert_frame_equal(back, forecast.to_frame("backtesting").loc[1], check_freq=False, rtol=1e-6)


def test_paths_without_history_are_the_horizon(make_forecast) -> None:
    assert len(make_forecast(history=0, paths=2).to_frame("backtesting")) == 2 * 12


def test_many_series_of_paths_go_by_symbol(two: list[Forecast]) -> None:
    bars = forecasts_to_frame(two, "backtesting")
    assert bars.index.names == ["symbol", "path", "timestamp"]
    pd.testing.assert_frame_equal(bars.loc["ZETA"].loc[3], two[1].to_frame("backtesting").loc[3], check_freq=False)
    long = forecasts_to_frame(two)
    assert list(long.columns[:3]) == ["symbol", "timestamp", "path"]
    assert len(long) == 2 * 40 * 12


# -- files and refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["summary", "nixtla", "qlib", "vectorbt", "predict", "paths"])
def test_tables_are_written_in_every_form(make_forecast, tmp_path: Path, layout: str) -> None:
    forecast = make_forecast(frequency="1h")
    table = forecast.to_frame(layout)
    flat = table.reset_index() if table.index.names != [None] else table
    read = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".json": lambda path: pd.DataFrame(json.loads(path.read_text())),
    }
    for ending, reader in read.items():
        back = reader(forecast.save(tmp_path / f"a{ending}", layout=layout))
        back = back.reset_index() if back.index.names != [None] else back
        assert list(back) == list(flat)
        npt.assert_allclose(back.iloc[:, -1], flat.iloc[:, -1], rtol=1e-8)


def test_what_a_layout_cannot_be_written_to_is_refused(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast()
    (tmp_path / "file").write_text("")
    for name, layout, words in (
        ("a.html", "nixtla", ".csv or .parquet or .json"),
        ("a.csv", "record", ".json"),
        ("a.csv", "freqtrade", "folder"),
        ("file", "backtesting", "is a file"),
        ("none/here", "backtesting", "make it first"),
        ("a.csv", "nixtela", "must be one of paths, summary, nixtla"),
    ):
        with pytest.raises(ConfigError, match=words):
            forecast.save(tmp_path / name, layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ConfigError, match="no column"):
        forecast.to_frame("nixtla", column="vwap")
    with pytest.raises(ConfigError, match="no forecast"):
        forecasts_to_frame([], "nixtla")
    with pytest.raises(ConfigError, match="last close"):
        make_forecast(history=0).to_frame("qlib")
