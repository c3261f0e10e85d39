"""Test windows: nothing leaks, nothing overlaps, broken stretches are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from kronos.errors import ConfigError, DataError
from kronos.evaluation.windows import Refusals, Series, Window, draw_windows
from kronos.protocol import CLOSE, Context, check_paths

Maker = Callable[..., pd.DataFrame]
HOUR = np.timedelta64(1, "h")


def test_windows_are_what_the_bars_say(make_bars: Maker) -> None:
    bars = make_bars(500)
    for window in draw_windows({"A": bars}, 60, 10, 8, seed=1):
        end = int(np.flatnonzero(bars["timestamp"].to_numpy() == window.context.cutoff)[0])
        assert np.array_equal(window.context.values[:, CLOSE], bars["close"].to_numpy()[end - 59 : end + 1])
        assert np.array_equal(window.truth[:, CLOSE], bars["close"].to_numpy()[end + 1 : end + 11])
        assert window.context.future_timestamps[0] == bars["timestamp"].to_numpy()[end + 1]


def test_truths_never_overlap_and_the_draw_is_reproducible(make_bars: Maker) -> None:
    bars = {"A": make_bars(800, 1), "B": make_bars(500, 2)}
    windows = draw_windows(bars, 60, 24, 1000, seed=3)
    assert len(windows) > 30
    for symbol in bars:
        ends = np.sort([w.context.cutoff for w in windows if w.context.symbol == symbol])
        assert (np.diff(ends) >= 24 * HOUR).all()
    again = draw_windows(bars, 60, 24, 1000, seed=3)
    assert [w.key for w in again] == [w.key for w in windows]
    assert len({w.key for w in windows}) == len(windows)


def test_first_forecast_bar_comes_after_the_cutoff_and_the_embargo(make_bars: Maker) -> None:
    bars = make_bars(500)
    after = bars["timestamp"].to_numpy()[300]
    for embargo in (0 * HOUR, 30 * HOUR):
        windows = draw_windows({"A": bars}, 60, 5, 1000, seed=0, after=after, embargo=embargo)
        assert windows
        assert all(w.context.future_timestamps[0] > after + embargo for w in windows)
    assert any(w.context.timestamps[0] < after for w in windows)  # the context may reach back


def test_truths_before_a_date(make_bars: Maker) -> None:
    bars = make_bars(500)
    before = bars["timestamp"].to_numpy()[300]
    windows = draw_windows({"A": bars}, 60, 5, 1000, seed=0, before=before)
    assert max(w.context.future_timestamps[-1] for w in windows) <= before
    assert len(windows) > 40


def test_pauses_jumps_and_broken_bars_are_refused_and_counted(make_bars: Maker) -> None:
    bars = make_bars(600)
    late = bars["timestamp"].copy()
    late.iloc[200:] += pd.Timedelta(days=30)
    bars["timestamp"] = late
    bars.loc[400:, ["open", "high", "low", "close"]] /= 7.0  # a split
    bars.loc[550, "high"] = bars.loc[550, "low"] * 0.9
    refused = Refusals()
    windows = draw_windows({"A": bars}, 60, 10, 1000, seed=0, refused=refused)
    stamps = bars["timestamp"].to_numpy()
    assert windows
    for window in windows:
        whole = np.concatenate([window.context.timestamps, window.context.future_timestamps])
        assert (np.diff(whole) == HOUR).all()
        assert not (whole[0] < stamps[400] <= whole[-1])
        assert stamps[550] not in whole
    assert set(refused.counts) >= {"pause", "jump", "inconsistent bar"}
    touching = [w for w in windows if w.context.timestamps[0] >= stamps[400]]
    assert touching  # the stretch behind the split is used


def test_weekends_stay_inside_daily_series(make_bars: Maker) -> None:
    assert draw_windows({"A": make_bars(300, step="1D")}, 60, 10, 3, seed=0)
    assert draw_windows({"A": make_bars(300, step="B")}, 60, 10, 3, seed=0)


def test_dead_series_are_refused(make_bars: Maker) -> None:
    bars = make_bars(300)
    bars[["open", "high", "low", "close"]] = 100.0
    refused = Refusals()
    assert draw_windows({"A": bars}, 60, 10, 5, seed=0, refused=refused) == []
    assert refused.counts["more than half of the closes unchanged"] > 0


def test_volume_and_amount_follow_the_table_contract(make_bars: Maker) -> None:
    bars = make_bars(50)
    without = Series.from_frame("A", bars.drop(columns=["volume", "amount"]))
    assert (without.values[:, 4:] == 0).all()
    estimated = Series.from_frame("A", bars.assign(amount=np.nan))
    assert np.allclose(estimated.values[:, 5], bars["amount"], rtol=1e-12)


def test_unsorted_or_incomplete_bars_and_silly_sizes_are_errors(make_bars: Maker) -> None:
    bars = make_bars(50)
    with pytest.raises(DataError, match="ascending"):
        Series.from_frame("A", bars.iloc[::-1])
    with pytest.raises(DataError, match="close"):
        Series.from_frame("A", bars.drop(columns="close"))
    for end in (8, 45):
        with pytest.raises(DataError, match=f"ends at {end}"):
            Series.from_frame("A", bars).window(end, 10, 5)
    with pytest.raises(ConfigError, match="horizon 0"):
        draw_windows({"A": bars}, 10, 0, 1, seed=0)


def test_a_context_hides_the_future_from_one_who_looks(window: Window) -> None:
    """A forecaster that follows array bases, or writes into what it got, gets nowhere."""
    context = window.context
    for array in (context.values, context.timestamps, context.future_timestamps):
        assert array.base is None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    reachable = context.values.tobytes()
    assert window.truth[0].tobytes() not in reachable
    assert not hasattr(context, "truth")


def test_context_copies_what_it_is_given() -> None:
    values = np.ones((5, 6))
    times = np.datetime64("2024-01-01", "ns") + np.arange(5) * HOUR
    context = Context("A", times, values, times)
    values[0, 0] = 9.0
    assert context.values[0, 0] == 1.0
    with pytest.raises(DataError, match="shape"):
        Context("A", times, np.ones((4, 6)), times)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "0 arrays for 1"),
        ([np.ones((2, 3, 5))], "shape"),
        ([np.zeros((2, 3, 6))], "not positive"),
        ([np.full((2, 3, 6), np.nan)], "not positive and finite"),
    ],
)
def test_paths_that_break_the_protocol_are_named(paths: list[np.ndarray], message: str, context: Context) -> None:
    with pytest.raises(ConfigError, match=message):
        check_paths(paths, [context], 3, "wrong")
