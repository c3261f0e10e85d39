"""The investment task: signals from the past alone, figures by hand, and a verdict on the daily differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import Knowing, Stranger, asking

from kronos.errors import ConfigError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.rolling import as_series, rolling_windows
from kronos.evaluation.run import Plan, evaluate
from kronos.evaluation.tasks import HORIZON, LOOKBACK, daily_markets, portfolio_figures, signals_of
from kronos.evaluation.windows import Series
from kronos.protocol import CLOSE

Maker = Callable[..., pd.DataFrame]


def best_third(series: Mapping[str, Series], signals: Mapping[str, pd.Series]) -> dict[str, pd.DataFrame]:
    """Holds the best third by the latest signal of an earlier session, without cost."""
    closes = pd.DataFrame({name: pd.Series(s.values[:, CLOSE], s.timestamps) for name, s in series.items()})
    moves = closes.pct_change()
    out = {}
    for name, signal in signals.items():
        table = signal.unstack("instrument").reindex(moves.index).ffill().shift(1)
        held = table.rank(axis=1, ascending=False) <= table.shape[1] // 3
        rows = table.notna().all(axis=1)
        net = moves.where(held).mean(axis=1)[rows]
        out[name] = pd.DataFrame({"net": net, "bench": moves.mean(axis=1)[rows], "turnover": 0.0})
    return out


@pytest.fixture(scope="module")
def bars(make_bars: Maker) -> pd.DataFrame:
    """Nine symbols of daily bars, independent walks."""
    return pd.concat([make_bars(300, s, step="1D").assign(symbol=f"S{s}") for s in range(9)], ignore_index=True)


def test_signals_are_what_they_say(bars: pd.DataFrame) -> None:
    windows = rolling_windows(bars, LOOKBACK, HORIZON, n_windows=3, step=5)
    (forecaster,) = make_baselines(["rw-resampled"])
    signal = signals_of(forecaster, windows, 7, 3)
    assert len(signal) == 27
    for window in windows[::4]:
        (paths,) = forecaster.sample_paths([window.context], asking(HORIZON, 7, 3))
        own = signal[pd.Timestamp(window.context.cutoff).normalize(), window.context.symbol]
        assert own == pytest.approx(np.mean(paths[:, :, CLOSE]) / window.context.values[-1, CLOSE] - 1, abs=1e-12)


def test_figures_by_hand() -> None:
    days = pd.date_range("2024-01-01", periods=40)
    rng = np.random.default_rng(0)
    net, bench = rng.normal(0.002, 0.01, 40), rng.normal(0.0, 0.01, 40)
    found = portfolio_figures(pd.DataFrame({"net": net, "bench": bench, "turnover": 0.25}, index=days))
    excess = net - bench
    assert found["excess"]["value"] == pytest.approx(252 * excess.mean())
    assert found["information_ratio"] == pytest.approx(excess.mean() / excess.std(ddof=1) * np.sqrt(252))
    wealth = np.cumprod(1 + net)
    assert found["annual_return"] == pytest.approx(wealth[-1] ** (252 / 40) - 1)
    peaks = np.maximum.accumulate(np.maximum(wealth, 1.0))
    assert found["max_drawdown"] == pytest.approx((wealth / peaks - 1).min())
    assert found["turnover"] == 0.25


def test_one_who_knows_earns_and_one_who_guesses_shows_no_edge(bars: pd.DataFrame) -> None:
    plan = Plan(tasks=("investment",), n_windows=24, num_samples=10)
    forecasters = [Knowing(bars), Stranger(), *make_baselines(["rw-resampled", "drift", "last-close"])]
    found = evaluate({"walks_1d": as_series(bars)}, forecasters, plan, trade=best_third).summary
    rows = found["tasks"]["investment"]["walks_1d"]
    assert set(rows) == {"knowing", "stranger", "rw-resampled", "drift"}  # a flat forecast picks nobody
    assert rows["knowing"]["excess"]["low"] > 0.3
    assert rows["stranger"]["excess"]["low"] < 0 < rows["stranger"]["excess"]["high"]
    words = {(c["model"], c["baseline"]): c["words"] for c in found["comparisons"]}
    assert words["knowing", "rw-resampled"] == "better than rw-resampled"
    assert words["stranger", "rw-resampled"] == "no edge shown over rw-resampled"


def test_what_it_needs_is_said(bars: pd.DataFrame, make_bars: Maker) -> None:
    plan = Plan(tasks=("investment",), n_windows=4)
    with pytest.raises(ConfigError, match="trade="):
        evaluate({"walks_1d": as_series(bars)}, make_baselines(["rw-resampled"]), plan)
    with pytest.raises(ConfigError, match="needs daily bars"):
        daily_markets({"walks_1h": as_series(make_bars(300))})
