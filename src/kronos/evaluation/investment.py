"""The investment task: what a portfolio earns that is chosen by a forecaster's signals, after costs.

Who trades them is passed in. Settings are the paper's (model specification, section 8): 90 sessions seen, 10 ahead,
signal = mean predicted close over the horizon against the last close, a new one every five sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation.baselines import LastClose
from kronos.evaluation.statistics import dates_interval, dates_test
from kronos.evaluation.summary import Comparison
from kronos.evaluation.windows import Series, Window, required_windows
from kronos.protocol import CLOSE, Forecaster, sample_in_batches
from kronos.spec import ForecastSpec

LOOKBACK, HORIZON, EVERY = 90, 10, 5
SESSIONS_A_YEAR, A_DAY = 252, pd.Timedelta(days=1)
DAILY = np.timedelta64(20, "h")  # bars of this size and longer are sessions

#: Bars of a market and signals by forecaster, each by (datetime, instrument) → by forecaster a table of sessions with
#: ``net`` (return of the account after cost), ``bench`` (of all names in equal shares) and ``turnover``.
Trade = Callable[[Mapping[str, Series], Mapping[str, pd.Series]], Mapping[str, pd.DataFrame]]


def daily_markets(markets: Mapping[str, Mapping[str, Series]]) -> list[str]:
    """The markets whose bars are sessions.

    Raises:
        ConfigError: there is none.
    """
    found = [name for name, series in markets.items() if np.median([one.step() for one in series.values()]) >= DAILY]
    if not found:
        raise ConfigError("the task 'investment' needs daily bars: give a market of them, or leave the task out")
    return found


def signals_of(forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int) -> pd.Series:
    """Mean predicted close over the horizon and the paths against the last close, by (datetime, instrument)."""
    contexts = [window.context for window in windows]
    values = np.empty(len(windows))
    spec = ForecastSpec(horizon=HORIZON, num_samples=num_samples, seed=seed)
    for place, paths in sample_in_batches(forecaster, contexts, spec):
        values[place] = paths[..., CLOSE].mean() / contexts[place].last_close - 1.0
    sessions = pd.DatetimeIndex([context.local(context.timestamps)[-1].tz_localize(None) for context in contexts])
    names = [context.symbol for context in contexts]
    index = pd.MultiIndex.from_arrays([sessions.normalize(), names], names=["datetime", "instrument"])
    return pd.Series(values, index=index).sort_index()


def portfolio_figures(daily: pd.DataFrame) -> dict[str, Any]:
    """Excess over the benchmark with interval and t value, information ratio, return, drawdown and turnover a year."""
    excess = daily["net"] - daily["bench"]
    wealth = (1.0 + daily["net"]).cumprod()
    year, spread = SESSIONS_A_YEAR, float(excess.std())
    interval, test = dates_interval(excess, A_DAY), dates_test(excess, A_DAY)
    return {
        "sessions": len(daily),
        "excess": {**{k: v * year for k, v in interval.as_dict().items()}, "error": test.error * year, "t": test.t},
        "excess_t": test.t,
        "information_ratio": float(excess.mean() / spread * np.sqrt(year)) if spread > 0 else float("nan"),
        "annual_return": float(wealth.iloc[-1] ** (year / len(daily)) - 1.0),
        "max_drawdown": float((wealth / wealth.cummax().clip(lower=1.0) - 1.0).min()),
        "turnover": float(daily["turnover"].mean()),
    }


def invest(
    markets: Mapping[str, Mapping[str, Series]],
    forecasters: Sequence[Forecaster],
    trade: Trade,
    *,
    n_windows: int,
    after: Callable[[str], np.datetime64[Any] | None],
    num_samples: int,
    seed: int,
    sides: tuple[Sequence[str], Sequence[str]],
) -> tuple[dict[str, dict[str, Any]], list[Comparison]]:
    """``{market: {forecaster: figures}}`` of the daily markets, and the comparisons, not corrected for their number.

    A flat forecast picks no names, so those baselines are left out. Models are compared with the other baselines by
    minus the net return of a session, ours less theirs.

    Args:
        n_windows: signals, ``EVERY`` sessions apart, counted back from the end.
        sides: names of the models and of the baselines.
    """
    tables: dict[str, dict[str, Any]] = {}
    comparisons: list[Comparison] = []
    choosing = [one for one in forecasters if one.name != LastClose.name]
    for market in daily_markets(markets):
        windows, _ = required_windows(
            markets[market], LOOKBACK, HORIZON, n_windows=n_windows, step=EVERY, after=after(market), group=market
        )
        daily = trade(markets[market], {one.name: signals_of(one, windows, num_samples, seed) for one in choosing})
        tables[market] = {name: {"windows": len(windows), **portfolio_figures(table)} for name, table in daily.items()}
        for model, baseline in product(sides[0], (name for name in sides[1] if name in daily)):
            gap = daily[baseline]["net"] - daily[model]["net"]
            comparisons.append(Comparison.by_date("investment", market, model, baseline, gap, A_DAY))
    return tables, comparisons
