"""Rolling evaluation: common dates, no peeking, resuming, processes."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import asking

from kronos.bars import sample_bars
from kronos.errors import ConfigError, DataError
from kronos.evaluation.baselines import RandomWalkResampled, make_baselines
from kronos.evaluation.rolling import LeakWarning, ResultStore, cross_validate, rolling_windows, score_windows
from kronos.evaluation.training_dates import (
    check_market,
    ends_of_training,
    market_of,
    training_end,
    warn_of_leaks,
)
from kronos.evaluation.windows import Refusals, Series, Window, as_series
from kronos.files import LEFTOVERS
from kronos.protocol import CLOSE, Context, FloatArray
from kronos.spec import ForecastSpec

Maker = Callable[..., pd.DataFrame]


class Counting(RandomWalkResampled):
    """Notes what it was asked, and stops after so many batches."""

    parallel = False

    def __init__(self, name: str = "counting", limit: int | None = None) -> None:
        super().__init__()
        self.name, self.limit = name, limit
        self.seen: list[Context] = []
        self.batches = 0

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """The resampled walk, watched."""
        if self.limit is not None and self.batches >= self.limit:
            raise KeyboardInterrupt
        self.batches += 1
        self.seen += contexts
        return super().sample_paths(contexts, spec)


def market(make_bars: Maker, symbols: int = 3, length: int = 400) -> pd.DataFrame:
    """Several symbols in one long table."""
    return pd.concat([make_bars(length, seed).assign(symbol=f"S{seed}") for seed in range(symbols)], ignore_index=True)


def test_long_table_has_a_row_per_symbol_cutoff_step_and_forecaster(make_bars: Maker) -> None:
    table = cross_validate(market(make_bars), make_baselines(["ewma", "last-close"]), 6, n_windows=5, context=100)
    assert len(table) == 3 * 5 * 6 * 2
    assert not table.duplicated(["symbol", "cutoff", "step", "forecaster"]).any()
    assert {"group", "crps", "pit", "covered_90", "energy", "hit", "volatility"} <= set(table.columns)
    dates = table.groupby("symbol")["date"].unique()
    assert all((dates.iloc[0] == other).all() for other in dates)  # the same dates for every symbol
    cutoffs = np.sort(table["cutoff"].unique())
    assert (np.diff(cutoffs) == np.timedelta64(6, "h")).all()  # truths do not overlap
    last = table.loc[table["step"] == 6, "timestamp"].max()
    assert last == market(make_bars)["timestamp"].max()


def test_forecasters_get_the_past_and_nothing_else(make_bars: Maker) -> None:
    """One who searches everything it was handed finds no number of the future."""
    bars, spy = market(make_bars, 1), Counting()
    cross_validate(bars, [spy], 6, n_windows=5, context=100)
    for context in spy.seen:
        future = bars.loc[bars["timestamp"] > context.cutoff, ["open", "high", "low", "close"]].to_numpy().ravel()
        assert not np.isin(context.values, future).any()
        assert context.timestamps.max() == context.cutoff
        assert context.values.base is None
        past = bars.loc[bars["timestamp"] <= context.cutoff, "close"].to_numpy()[-100:]
        assert np.array_equal(context.values[:, CLOSE], past)


def test_changing_the_future_does_not_change_a_forecast(make_bars: Maker) -> None:
    bars = market(make_bars, 1)
    end = bars["timestamp"].iloc[300]
    changed = bars.copy()
    changed.loc[changed["timestamp"] > end, ["open", "high", "low", "close"]] *= 1.01
    one, two = (rolling_windows(b, 100, 6, cutoffs=[end])[0] for b in (bars, changed))
    forecaster = RandomWalkResampled()
    assert not np.array_equal(one.truth, two.truth)
    assert np.array_equal(
        forecaster.sample_paths([one.context], asking(6, 5, 0))[0],
        forecaster.sample_paths([two.context], asking(6, 5, 0))[0],
    )


def test_explicit_cutoffs_take_the_last_bar_at_hand_but_no_stale_one(make_bars: Maker) -> None:
    bars = market(make_bars, 1)
    stamps = bars["timestamp"]
    between = stamps.iloc[200] + pd.Timedelta(minutes=30)
    (found,) = rolling_windows(bars, 100, 6, cutoffs=[between])
    assert found.context.cutoff == stamps.iloc[200].to_datetime64()
    assert found.date == between.to_datetime64()
    holed = bars.drop(index=range(195, 201))
    refused = Refusals()
    assert rolling_windows(holed, 100, 6, cutoffs=[between], refused=refused) == []
    assert refused.counts["no bar at the cutoff"] == 1


def test_a_symbol_without_bars_gives_no_windows(make_bars: Maker) -> None:
    """As one that was listed after the validation period of a fine-tuning has none in it."""
    whole = as_series(make_bars(300, seed=1))[""]
    none = Series("B", whole.timestamps[:0], whole.values[:0])
    windows = rolling_windows({"A": whole, "B": none}, 100, 6, cutoffs=[whole.timestamps[200]])
    assert [window.context.symbol for window in windows] == [whole.symbol]


def test_after_and_embargo(make_bars: Maker) -> None:
    bars = market(make_bars, 2)
    after, embargo = bars["timestamp"].iloc[350].to_datetime64(), np.timedelta64(10, "h")
    windows = rolling_windows(bars, 100, 6, n_windows=30, after=after, embargo=embargo)
    assert windows
    assert min(w.context.future_timestamps[0] for w in windows) > after + embargo


def test_interrupted_evaluation_goes_on_where_it_stopped(make_bars: Maker, tmp_path: Path) -> None:
    windows = rolling_windows(market(make_bars), 100, 6, n_windows=30)
    assert len(windows) == 90
    whole = score_windows(windows, [Counting()], 20)
    with pytest.raises(KeyboardInterrupt):
        score_windows(windows, [Counting(limit=2)], 20, store=ResultStore(tmp_path))
    late = Counting()
    resumed = score_windows(windows, [late], 20, store=ResultStore(tmp_path))
    assert len(late.seen) == 90 - 64  # two batches of 32 were kept
    pd.testing.assert_frame_equal(whole, resumed)
    again = Counting()
    score_windows(windows, [again], 20, store=ResultStore(tmp_path))
    assert again.seen == []
    other = Counting()
    score_windows(windows, [other], 20, seed=1, store=ResultStore(tmp_path))
    assert len(other.seen) == 90  # another seed is another question


def test_processes_give_the_same_table(make_bars: Maker) -> None:
    windows = rolling_windows(market(make_bars), 100, 6, n_windows=40)
    one, two = (score_windows(windows, make_baselines(["ewma"]), 20, workers=w) for w in (1, 2))
    pd.testing.assert_frame_equal(one, two)


class Made(RandomWalkResampled):
    """Cannot be copied to a process, but be made anew there."""

    parallel = False

    def __init__(self, stretch: float = 1.0) -> None:
        super().__init__()
        self.name, self.fingerprint, self.lock = "made", f"{stretch}", (_ for _ in ())  # a generator has no copy
        self.recipe = Made


@pytest.mark.slow
def test_forecasters_are_made_anew_in_processes(make_bars: Maker) -> None:
    windows = rolling_windows(market(make_bars), 100, 6, n_windows=32)
    one, two = (score_windows(windows, [Made()], 20, workers=w) for w in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    with pytest.raises(ConfigError, match="'made' was changed after it was loaded"):
        score_windows(windows, [Made(2.0)], 20, workers=2)


def test_contexts_stay_read_only_in_another_process(window: Window) -> None:
    copied = pickle.loads(pickle.dumps(window.context))
    assert np.array_equal(copied.values, window.context.values)
    with pytest.raises(ValueError, match="read-only"):
        copied.values[0, 0] = 1.0


def test_figures_of_a_set_of_windows_are_kept(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, float]:
        made.append(1)
        return {"score": 0.25, "undefined": float("nan")}

    for _ in range(2):
        found = ResultStore(tmp_path).figures("a", make)
        assert found["score"] == 0.25
        assert np.isnan(found["undefined"])
    assert made == [1]
    assert not list(tmp_path.glob(LEFTOVERS))


def test_progress_counts_to_the_end(make_bars: Maker) -> None:
    calls: list[tuple[int, int]] = []
    windows = rolling_windows(market(make_bars), 100, 6, n_windows=20)
    score_windows(windows, make_baselines(["ewma", "drift"]), 20, progress=lambda d, t: calls.append((d, t)))
    assert calls[-1] == (120, 120)
    assert [d for d, _ in calls] == sorted(d for d, _ in calls)


def test_training_that_reaches_into_the_test_is_said(make_bars: Maker) -> None:
    bars, late = market(make_bars, 1), Counting("late")
    late.training_cutoff = bars["timestamp"].iloc[350].to_datetime64()  # type: ignore[attr-defined]
    with pytest.warns(LeakWarning, match=r"late was trained on bars up to 2020-01-15: \d+ of 40 test windows"):
        cross_validate(bars, [late], 6, n_windows=40, context=100)
    late.training_cutoff = np.datetime64("2019-01-01")  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_validate(bars, [late], 6, n_windows=4, context=100)


def test_the_end_of_training_is_that_of_the_market() -> None:
    one = Counting()
    assert training_end(one, "crypto") is None
    one.training_cutoff = np.datetime64("2024-07-01")  # type: ignore[attr-defined]
    assert training_end(one, "crypto") == np.datetime64("2024-07-01")
    dates = {"fx_1h": "2018-10-30", "fx_4h": "2019-10-15", "crypto_5m": "2024-07-01", "start": "2017-01-01"}
    one.training_cutoffs = {group: np.datetime64(date) for group, date in dates.items()}  # type: ignore[attr-defined]
    assert training_end(one, "fx") == np.datetime64("2019-10-15")  # of any bar size
    assert training_end(one, "us") == np.datetime64("2024-07-01")  # not among the groups: the latest of all
    assert training_end(one, None) == np.datetime64("2024-07-01")  # not known: the same
    one.training_cutoffs["start"] = np.datetime64("2022-01-01")  # type: ignore[attr-defined]
    assert training_end(one, "fx") == np.datetime64("2022-01-01")
    one.training_cutoffs["1d"] = np.datetime64("2023-01-01")  # type: ignore[attr-defined]
    assert training_end(one, "fx") == np.datetime64("2023-01-01")  # bars of no named market may be of any


def test_what_bars_are_of_is_told_by_the_bars() -> None:
    """Their times and symbols; the name of a file is never asked."""
    bars = sample_bars("sp500").tail(700)
    assert market_of(as_series(bars).values()) == "us"
    hours = pd.date_range("2024-01-01", periods=600, freq="1h").to_numpy()
    assert market_of([Series("BTCUSDT", hours, np.empty((0, 6)))]) == "crypto"
    days = pd.bdate_range("2020-01-01", periods=700).to_numpy()
    assert market_of([Series("EURUSD", days, np.empty((0, 6)))]) == "fx"
    assert market_of([Series("XAUUSD", days, np.empty((0, 6)))]) == "metal"
    assert market_of([Series("?", hours[:5], np.empty((0, 6)))]) is None


def test_bars_older_than_the_training_are_said_to_be(make_bars: Maker) -> None:
    one, bars = Counting("late"), as_series(sample_bars("sp500").tail(700))
    one.training_cutoff = np.datetime64("2024-07-01")  # type: ignore[attr-defined]
    one.training_cutoffs = {"us_equity_1d": np.datetime64("2014-09-05"), "crypto_1h": one.training_cutoff}  # type: ignore[attr-defined]
    for name in ("sp500", "crypto_1h"):
        assert ends_of_training([one], {name: bars}) == {name: np.datetime64("2014-09-05")}
    odd = as_series(make_bars(9, step="7h"))
    with pytest.raises(DataError, match=r"the bars end on .*, before the training of late ended.*--market, one of"):
        ends_of_training([one], {"m": odd})
    with pytest.raises(DataError, match=r"for bars of the market 'crypto_1h'\), so all of them"):
        ends_of_training([one], {"m": bars}, "crypto_1h")
    with pytest.raises(ConfigError, match=r"--market moon: .* known are crypto, us_equity"):
        check_market([one], "moon")


def test_what_is_left_out_is_counted_in_windows(make_bars: Maker) -> None:
    bars = make_bars(400)
    bars.loc[300:, ["open", "high", "low", "close"]] *= 9.0  # a split
    refused = Refusals()
    found = rolling_windows(bars, 60, 6, n_windows=40, refused=refused)
    assert len(found) + sum(refused.counts.values()) == 40
    assert refused.counts["jump"] > 5


def test_a_silent_training_is_said_only_of_those_who_were_trained(make_bars: Maker) -> None:
    windows = rolling_windows(market(make_bars), 100, 6, n_windows=3)
    silent = Counting("silent")
    silent.training_cutoff = None  # type: ignore[attr-defined]
    with pytest.warns(LeakWarning, match="silent does not state until when"):
        assert len(warn_of_leaks([silent, Counting(), *make_baselines("all")], windows)) == 1


def test_wrong_requests_are_refused(make_bars: Maker, window: Window) -> None:
    bars = market(make_bars, 1)
    with pytest.raises(ConfigError, match="either"):
        rolling_windows(bars, 100, 6)
    with pytest.raises(ConfigError, match="different names"):
        score_windows([window], [Counting(), Counting()])
    with pytest.raises(DataError, match="too short"):
        cross_validate(bars, make_baselines(["drift"]), 6, n_windows=2, context=1000)
