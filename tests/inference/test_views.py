"""The cone of volatility, touches and first touches of a forecast: numbers, few paths, refusals and documents."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from kronos import FewPathsWarning
from kronos.errors import ConfigError
from kronos.inference.certainty import ENDS, OF_ENDS, OF_PATHS, Shown, mean_error, share_error
from kronos.inference.export import document
from kronos.inference.forecast import Forecast
from kronos.inference.views import Touches
from kronos.protocol import FEATURES, Context
from kronos.volatility import FEWEST, pooled_har


def walk(sigma: float, *, paths: int = 4000, horizon: int = 24, past: int = 512, **metadata: object) -> Forecast:
    """A forecast of a Gaussian walk of known volatility a bar, after a past that is one too."""
    rng = np.random.default_rng(3)
    times = pd.date_range("2024-01-01", periods=past + horizon, freq=str(metadata.pop("freq", "D")))
    before = 100 * np.exp(np.cumsum(sigma * rng.standard_normal(past)))
    prices = {"open": np.append(100.0, before[:-1]), "close": before}
    sides = {"high": np.maximum(*prices.values()), "low": np.minimum(*prices.values())}
    history = pd.DataFrame({"timestamp": times[:past], **prices, **sides, "volume": 1.0, "amount": before})
    close = before[-1] * np.exp(np.cumsum(sigma * rng.standard_normal((paths, horizon)), axis=1))
    opened = np.concatenate([np.full((paths, 1), before[-1]), close[:, :-1]], axis=1)
    parts = [opened, np.maximum(opened, close), np.minimum(opened, close), close, opened, opened]
    return Forecast(np.stack(parts, axis=-1), times[past:], metadata, history)


# -- volatility -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calendar", "frequency", "freq", "year"),
    [("24/7", "1d", "D", 365), ("24/7", "1h", "h", 8760), ("24/7", "5m", "5min", 105_120), ("XNYS", "1d", "B", 251)],
)
def test_the_volatility_of_a_known_walk_is_that_of_a_year(calendar: str, frequency: str, freq: str, year: int) -> None:
    forecast = walk(0.01, calendar=calendar, frequency=frequency, freq=freq)
    found, told = forecast.volatility(), 0.01 * np.sqrt(year)
    assert forecast.bars_a_year is not None
    assert forecast.bars_a_year.bars == year
    assert list(found) == [*OF_PATHS, "context", "har"]
    assert found.index.equals(forecast.timestamps)
    assert np.allclose(found["expected"], told, rtol=0.03)
    assert np.allclose(found["context"], told, rtol=0.1)
    assert np.allclose(found["har"], told, rtol=0.5)
    # Of H squared normal moves in one path: a chi squared variable of H degrees, whose quantiles are tabulated.
    assert found["lower"].iloc[-1] == pytest.approx(told * np.sqrt(13.848 / 24), rel=0.02)
    assert found["median"].iloc[-1] == pytest.approx(told * np.sqrt(23.337 / 24), rel=0.02)
    assert found["upper"].iloc[-1] == pytest.approx(told * np.sqrt(36.415 / 24), rel=0.02)
    narrow = forecast.volatility(level=0.5)
    assert (narrow["lower"] > found["lower"]).all()
    assert (narrow["upper"] < found["upper"]).all()


def test_not_annualised_it_is_what_the_paths_realise(make_forecast) -> None:
    forecast = make_forecast(paths=60)
    found = forecast.volatility(annualized=False)
    realised = forecast.realized_volatility()
    assert np.allclose(found["median"], realised.median(axis=1))
    assert np.allclose(found["expected"], np.sqrt((realised**2).mean(axis=1)))
    returns = np.diff(np.log(forecast.history["close"]))
    assert np.allclose(found["context"], np.sqrt((returns**2).mean() * np.arange(1, 13)))
    assert (found["expected"].diff().iloc[1:] >= 0).all()


def test_a_year_of_unknown_bars_is_refused_and_left_out_of_documents(make_forecast) -> None:
    made = make_forecast(paths=40)
    odd = pd.DatetimeIndex(made.timestamps + pd.to_timedelta(np.arange(12) ** 3, unit="h"))
    past = made.history.assign(timestamp=odd[0] - pd.to_timedelta(1 + np.arange(150)[::-1] ** 2, unit="h"))
    forecast = Forecast(made.samples, odd, {}, past)
    assert forecast.bars_a_year is None
    with pytest.raises(ConfigError, match="size of these bars is unknown"):
        forecast.volatility()
    assert len(forecast.volatility(annualized=False)) == 12
    assert document(forecast)["volatility"]["bars_per_year"] is None
    assert document(forecast)["volatility"]["expected"] == [None] * 12


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_that_is_none_is_refused(make_forecast, level: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make_forecast().volatility(level=level)


def test_documents_tell_the_volatility_and_how_its_year_was_counted() -> None:
    forecast = walk(0.01, calendar="24/7", frequency="1h", freq="h")
    told = document(forecast)["volatility"]
    assert (told["bars_per_year"], told["basis"], told["level"]) == (8760, "days", 0.9)
    assert told["counted"] == "365 days a year, round the clock"
    assert told["median"] == forecast.volatility()["median"].tolist()
    assert len(told["context"]) == 24
    assert told["har"] == forecast.volatility()["har"].tolist()


@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_har_is_that_of_the_context_at_its_times(make_forecast, zone: str | None) -> None:
    made = make_forecast(paths=40, frequency="h")
    past = made.history.assign(timestamp=pd.DatetimeIndex(made.history["timestamp"]).tz_localize(zone))
    forecast = Forecast(made.samples, made.timestamps.tz_localize(zone), {"frequency": "1h"}, past)
    values = past[list(FEATURES)].to_numpy(dtype=np.float64)
    context = Context.of_times("A", pd.DatetimeIndex(past["timestamp"]), values, forecast.timestamps)
    expected = np.sqrt(pooled_har().realized_variance(context, forecast.horizon))
    assert np.allclose(forecast.volatility(annualized=False)["har"], expected)
    assert np.allclose(forecast.volatility()["har"], expected / np.sqrt(np.arange(1, 13)) * np.sqrt(8760))


@pytest.mark.parametrize("kept", [2, FEWEST - 1])
def test_a_past_too_short_for_har_has_none(make_forecast, kept: int) -> None:
    made = make_forecast(paths=40)
    short = Forecast(made.samples, made.timestamps, made.metadata, made.history.iloc[-kept:])
    assert short.volatility()["har"].isna().all()
    assert short.volatility()["context"].notna().all()
    assert document(short)["volatility"]["har"] == [None] * 12
    enough = Forecast(made.samples, made.timestamps, made.metadata, made.history.iloc[-FEWEST:])
    assert enough.volatility()["har"].notna().all()


def test_a_past_of_closes_alone_has_no_har(make_forecast) -> None:
    made = make_forecast(paths=40)
    forecast = Forecast(made.samples, made.timestamps, made.metadata, made.history[["timestamp", "close"]])
    assert forecast.volatility()["har"].isna().all()


# -- touches ----------------------------------------------------------------------------------------------------------


def test_the_chance_of_a_touch_is_the_share_of_the_paths_that_reached_it(make_forecast) -> None:
    forecast = make_forecast(paths=60)
    last = forecast.last_close
    for price, reached in (
        (1.02 * last, forecast.samples[..., 1].max(axis=1) >= np.float32(1.02 * last)),
        (0.98 * last, forecast.samples[..., 2].min(axis=1) <= np.float32(0.98 * last)),
    ):
        found = forecast.prob_touch(price)
        assert found.name == "prob_touch"
        assert found.iloc[-1] == reached.mean()
        assert found.is_monotonic_increasing
        table = forecast.prob_touch(price, error=True)
        assert np.allclose(table["error"], share_error(found, 60))


def test_by_is_a_number_of_bars_a_time_or_a_day(make_forecast) -> None:
    forecast = make_forecast(paths=60, horizon=12, frequency="h")
    price = 1.01 * forecast.last_close
    found = forecast.prob_touch(price)
    third = forecast.timestamps[2]
    assert forecast.prob_touch(price, 3) == found.iloc[2]
    assert forecast.prob_touch(price, third) == found.iloc[2]
    assert forecast.prob_touch(price, str(third + pd.Timedelta(minutes=59))) == found.iloc[2]
    day = f"{third:%Y-%m-%d}"
    within = int((forecast.timestamps.normalize() == pd.Timestamp(day)).sum())
    assert forecast.prob_touch(price, day) == found.iloc[within - 1]
    row = forecast.prob_touch(price, 3, error=True)
    assert dict(row) == {"prob_touch": found.iloc[2], "error": share_error(found.iloc[2], 60)}


@pytest.mark.parametrize("by", [0, 13, "2023-01-01", "2031-01-01"])
def test_a_by_outside_the_horizon_is_refused(make_forecast, by: int | str) -> None:
    forecast = make_forecast(horizon=12)
    with pytest.raises(ConfigError, match=r"from 1 to 12|bars ahead go from"):
        forecast.prob_touch(2 * forecast.last_close, by)


def test_first_touches_add_up_and_tell_when(make_forecast) -> None:
    forecast = make_forecast(paths=400, horizon=12)
    last = forecast.last_close
    found = forecast.first_touch(1.02 * last, 0.98 * last)
    assert (list(found.index), list(found)) == ([*ENDS], [*OF_ENDS])
    chance = found["chance"]
    assert chance[["profit", "loss", "both"]].sum() == pytest.approx(chance["either"])
    assert chance["either"] + chance["neither"] == pytest.approx(1.0)
    assert np.allclose(found["error"], share_error(chance, 400))
    assert found.loc["neither", ["bars", "bars_error"]].isna().all()
    assert 1 <= found["bars"]["profit"] <= 12
    # Daily bars: a bar is a day, so that the mean of the days is that of the bars.
    assert found["time"]["either"] / pd.Timedelta(days=1) == pytest.approx(found["bars"]["either"], abs=1e-4)
    short = forecast.first_touch(0.98 * last, 1.02 * last)
    assert short["chance"]["profit"] == chance["loss"]
    assert (short.loc["either"] == found.loc["either"]).all()


def test_the_error_of_a_mean_is_that_of_its_values() -> None:
    held = [True, True, False, True, True]
    assert mean_error([1.0, 2.0, 9.0, 3.0, 4.0], held) == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert np.isnan(mean_error([3.0, 1.0], [True, False]))
    assert np.isnan(mean_error([3.0], [False]))


def test_the_error_of_a_mean_knows_that_a_mirror_is_no_draw_of_its_own() -> None:
    """Both of a pair touch one of two symmetric barriers at the same bar: twice the paths, nothing more is known."""
    alone = np.array([1.0, 5.0, 2.0, 9.0, 4.0])
    wanted = mean_error(alone, np.ones(5, bool))
    assert mean_error(alone.repeat(2), np.ones(10, bool), mirrored=True) == pytest.approx(wanted)
    one_side = np.tile([True, False], 5)  # the mirror of a path that takes the profit does not
    assert mean_error(alone.repeat(2), one_side, mirrored=True) == pytest.approx(wanted)
    assert mean_error([*alone.repeat(2), 4.0], [*one_side, True], mirrored=True) > 0  # the last one stands alone


def test_bars_ahead_may_be_counted_by_numpy(make_forecast) -> None:
    forecast = make_forecast(paths=40)
    price = 1.01 * forecast.last_close
    assert forecast.prob_touch(price, np.int64(3)) == forecast.prob_touch(price, 3)


def test_time_goes_by_the_calendar_over_a_weekend() -> None:
    made = walk(0.01, paths=30, horizon=2, past=5)
    past = made.history.assign(timestamp=pd.bdate_range("2024-03-04", "2024-03-08"))  # Monday to Friday
    forecast = Forecast(made.samples, pd.DatetimeIndex(["2024-03-11", "2024-03-12"]), {}, past)
    samples = forecast.samples.copy()
    samples[:, 0, 1] = 2 * forecast.last_close
    jumping = Forecast(samples, forecast.timestamps, {}, past)
    row = jumping.first_touch(1.9 * forecast.last_close, forecast.last_close / 2).loc["either"]
    assert (row["bars"], row["time"]) == (1.0, pd.Timedelta(days=3))


# -- what cannot be told ----------------------------------------------------------------------------------------------


def test_too_few_paths_warn_and_are_left_out_where_they_are_shown(make_forecast) -> None:
    few = make_forecast(paths=5)
    last = few.last_close
    for view in (few.volatility, lambda: few.prob_touch(1.1 * last), lambda: few.first_touch(1.1 * last, 0.9 * last)):
        with pytest.warns(FewPathsWarning):
            view()
    shown = Shown(few)
    assert shown.volatility()[[*OF_PATHS]].isna().all(axis=None)
    assert shown.volatility()[["context", "har"]].notna().all(axis=None)
    assert shown.prob_touch(1.1 * last).isna().all(axis=None)
    assert shown.first_touch(1.1 * last, 0.9 * last).isna().all(axis=None)
    asked = Touches((1.1 * last,), 1.1 * last, 0.9 * last)
    assert json.loads(json.dumps(asked.document(few), default=list))  # no NaT in it


def test_without_a_past_there_is_no_price_to_start_from(make_forecast) -> None:
    forecast = make_forecast(history=0)
    for view in (forecast.volatility, lambda: forecast.prob_touch(105.0), lambda: forecast.first_touch(105.0, 95.0)):
        with pytest.raises(ConfigError, match="no history"):
            view()
    assert Shown(forecast).volatility().isna().all(axis=None)


def test_what_is_asked_about_touches_is_checked_once() -> None:
    with pytest.raises(ConfigError, match=r"needs both; give stop_loss \(--stop-loss\)"):
        Touches(take_profit=105.0)
    with pytest.raises(ConfigError, match="last close itself"):
        Touches((100.0,)).check(100.0)
    with pytest.raises(ConfigError, match="both lie above"):
        Touches((), 105.0, 103.0).check(100.0)
    assert not Touches()
    assert Touches((105.0,))
    assert Touches((), 105.0, 95.0).barriers == (105.0, 95.0)


def test_the_document_of_touches_holds_what_was_asked(make_forecast) -> None:
    forecast = make_forecast(paths=60)
    last = forecast.last_close
    told = Touches((1.02 * last, 0.97 * last), 1.02 * last, 0.98 * last).document(forecast)
    assert [one["price"] for one in told["touch"]] == [1.02 * last, 0.97 * last]
    assert told["touch"][0]["prob_touch"].tolist() == forecast.prob_touch(1.02 * last).tolist()
    first = told["first_touch"]
    assert list(first) == ["take_profit", "stop_loss", *ENDS]
    assert first["profit"]["chance"] == forecast.first_touch(1.02 * last, 0.98 * last)["chance"]["profit"]
    assert first["either"]["time"] == pytest.approx(86_400 * first["either"]["bars"], abs=1)
    assert list(Touches((1.02 * last,)).document(forecast)) == ["touch"]
