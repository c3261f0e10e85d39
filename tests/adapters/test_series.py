"""What the adapters share: closes and bars, times, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from tests.adapters.conftest import HORIZON, walk

from kronos import KronosPredictor, adapters
from kronos.adapters.series import forecasts_of, predictor_of, series_of, spec_of
from kronos.errors import DataError, FewPathsWarning, MissingExtraError


def test_closes_become_bars_that_open_at_the_close_before(bars: pd.DataFrame) -> None:
    series = series_of(bars["close"], bars.index)
    assert series.features == (3,)
    npt.assert_array_equal(series.bars["close"], bars["close"])
    npt.assert_array_equal(series.bars["open"].iloc[1:], bars["close"].iloc[:-1])
    assert (series.bars["high"] == series.bars[["open", "close"]].max(axis=1)).all()
    assert (series.bars["low"] == series.bars[["open", "close"]].min(axis=1)).all()


def test_columns_of_a_bar_are_found_in_any_order_and_case(bars: pd.DataFrame) -> None:
    mixed = bars[["close", "volume", "low", "open", "high"]].rename(columns=str.title)
    series = series_of(mixed, mixed.index, list(mixed))
    assert series.features == (3, 4, 2, 0, 1)
    npt.assert_array_equal(series.bars[["open", "high", "low", "close"]], bars[["open", "high", "low", "close"]])
    samples = np.arange(2 * 3 * 6).reshape(2, 3, 6)
    npt.assert_array_equal(series.of(samples), samples[:, :, [3, 4, 2, 0, 1]])


def test_the_forecast_is_that_of_the_predictor(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    future = pd.date_range(bars.index[-1], periods=HORIZON + 1, freq="B")[1:]
    series = series_of(bars, bars.index, list(bars), future)
    ((_, forecast),) = forecasts_of(tiny, [series], spec_of(HORIZON, 24, 1, {"temperature": 0.8}))
    table = bars.reset_index().rename(columns={"date": "timestamp"}).assign(amount=0.0)
    alone = tiny.forecast(table, horizon=HORIZON, num_samples=24, seed=1, temperature=0.8, future=future)
    npt.assert_array_equal(forecast.samples, alone.samples)


@pytest.mark.filterwarnings("ignore::kronos.FewPathsWarning")
def test_more_series_than_go_at_once_stay_in_order(tiny: KronosPredictor) -> None:
    many = [series_of(walk(40, seed)["close"], walk(40, seed).index) for seed in range(70)]
    found = list(forecasts_of(tiny, many, spec_of(1, 20, 0, {"calendar": "step"})))
    assert [one.bars["close"].iloc[-1] for one, _ in found] == [forecast.last_close for _, forecast in found]


def test_few_paths_warn(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    with pytest.warns(FewPathsWarning, match="no distribution"):
        list(forecasts_of(tiny, [series_of(bars["close"], bars.index)], spec_of(2, 3, 0, None)))


def test_periods_count_from_their_beginning(bars: pd.DataFrame) -> None:
    weeks = pd.period_range("2024-01-01", periods=len(bars), freq="W")
    assert series_of(bars["close"], weeks).bars["timestamp"].iloc[0] == pd.Timestamp("2024-01-01")


def test_rows_without_a_number_are_left_out_and_gaps_in_a_row_refused(bars: pd.DataFrame) -> None:
    holes = bars.copy()
    holes.iloc[[5, 9]] = np.nan
    assert len(series_of(holes, holes.index, list(holes)).bars) == len(bars) - 2
    holes.iloc[7, 2] = np.nan
    with pytest.raises(DataError, match="no low at 2022-01-12"):
        series_of(holes, holes.index, list(holes))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["open", "close"], "columns open, close"),
        (["a", "b", "c", "d"], "columns a, b, c, d"),
        (["close"] * 4, "close"),
    ],
)
def test_what_is_no_bar_is_refused(bars: pd.DataFrame, columns: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        series_of(np.ones((len(bars), len(columns))), bars.index, columns)


def test_what_is_no_time_is_refused(bars: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="DatetimeIndex"):
        series_of(bars["close"], pd.RangeIndex(len(bars)))
    with pytest.raises(DataError, match="120 rows and 119"):
        series_of(bars["close"], bars.index[1:])
    with pytest.raises(DataError, match="3 columns"):
        series_of(np.ones((len(bars), 3)), bars.index)


def test_a_checkpoint_is_loaded_once() -> None:
    assert predictor_of("kronos-nano") is predictor_of("kronos-nano")


def test_names_are_there_or_say_what_to_install() -> None:
    """Each name is one of ours, or an error that names an extra of the package."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in adapters.__all__:
        home, package = adapters._HOMES[name]
        assert project["optional-dependencies"][home][0].startswith(package)
        try:
            found = getattr(adapters, name)
        except MissingExtraError as error:
            assert package in str(error)  # noqa: PT017
        else:
            assert found.__module__ == f"kronos.adapters.{home}"
    with pytest.raises(AttributeError, match="no attribute 'Prophet'"):
        adapters.Prophet  # noqa: B018
