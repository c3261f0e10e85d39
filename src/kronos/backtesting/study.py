"""Does a signal order what comes? Information coefficients, their decay, groups of equal size, long against short."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from kronos.backtesting.simulate import ranks
from kronos.evaluation.statistics import MeanTest, automatic_lags, ic_by_date, newey_west

HORIZONS: Final = (1, 2, 3, 5, 10, 20)
"""Sessions ahead at which the decay is measured, beside the signal's own horizon."""


@dataclass(frozen=True)
class Study:
    """What a signal says about returns, without any strategy; tests are of means, with Newey–West errors."""

    horizon: int  # sessions from entry to exit
    ic: pd.DataFrame  # by date: ``ic`` and ``rank_ic`` at the horizon
    ic_test: MeanTest
    rank_ic_test: MeanTest
    decay: pd.DataFrame  # by sessions ahead: mean rank IC, its error and t
    groups: pd.Series  # mean return over the horizon of each group, lowest signal first
    spread_test: MeanTest  # return of the highest group less that of the lowest
    monotone: float  # rank correlation of group number and mean return; 1 is a ladder
    turnover: float  # mean share of the highest group that is new from one date to the next


def study(signal: pd.Series, prices: pd.DataFrame, horizon: int, groups: int) -> Study:
    """Everything about one signal.

    Args:
        signal: by (datetime, instrument).
        prices: see :func:`forward_returns`.
        horizon: sessions that the signal speaks of.
        groups: how many of equal size; dates with fewer names than twice that are left out of the groups.
    """
    signal = signal.dropna()
    dates = pd.DatetimeIndex(signal.index.get_level_values("datetime").unique()).sort_values()
    places = pd.DatetimeIndex(prices.index).get_indexer(dates)
    step = int(np.median(np.diff(places))) if len(places) > 1 else 1

    def mean_test(series: pd.Series, ahead: int = horizon) -> MeanTest:
        return newey_west(series.to_numpy(), max(overlap_lags(ahead, step), automatic_lags(len(series))))

    outcome = forward_returns(prices, dates, horizon)
    coefficients = pd.DataFrame({"ic": _ic(signal, outcome, rank=False), "rank_ic": _ic(signal, outcome, rank=True)})
    decay = {}
    for ahead in sorted({*HORIZONS, horizon}):
        test = mean_test(_ic(signal, forward_returns(prices, dates, ahead), rank=True), ahead)
        decay[ahead] = {"rank_ic": test.mean, "error": test.error, "t": test.t}
    by_group = group_returns(signal, outcome, groups)
    means = by_group.mean()
    return Study(
        horizon=horizon,
        ic=coefficients,
        ic_test=mean_test(coefficients["ic"]),
        rank_ic_test=mean_test(coefficients["rank_ic"]),
        decay=pd.DataFrame.from_dict(decay, orient="index"),
        groups=means,
        spread_test=mean_test(by_group[groups - 1] - by_group[0]),
        monotone=float(pd.Series(np.arange(groups, dtype=float)).corr(means.reset_index(drop=True).rank())),
        turnover=_top_turnover(signal, groups),
    )


def forward_returns(prices: pd.DataFrame, dates: pd.DatetimeIndex, horizon: int) -> pd.Series:
    """Returns from the session after each date to ``horizon`` sessions later, by (datetime, instrument).

    Names without a price at entry have none; at exit the last known price counts.

    Args:
        prices: (sessions, instruments) of the price that deals are made at; every session is a row.
    """
    entry = pd.DatetimeIndex(prices.index).get_indexer(dates) + 1
    inside = (entry > 0) & (entry + horizon < len(prices))
    start = prices.to_numpy()[entry[inside]]
    end = prices.ffill().to_numpy()[entry[inside] + horizon]
    table = pd.DataFrame(end / start - 1.0, index=dates[inside], columns=prices.columns)
    table.index.name, table.columns.name = "datetime", "instrument"
    return pd.Series(table.stack()).dropna()  # pandas 2 drops them itself, 3 does not


def group_returns(signal: pd.Series, outcome: pd.Series, groups: int) -> pd.DataFrame:
    """(dates, groups) mean outcome of each group, group 0 having the lowest signals; equal signals by lot."""
    both = pd.DataFrame({"signal": signal, "outcome": outcome}).dropna()
    if both.empty:
        return pd.DataFrame(np.nan, index=pd.DatetimeIndex([]), columns=range(groups))
    place = ranks(both["signal"]).reindex(both.index)
    count = both.groupby(level="datetime")["signal"].transform("size")
    both["group"] = np.floor(place * groups / count).astype(int)
    both = both[(count >= 2 * groups).to_numpy()]
    table = both.groupby([both.index.get_level_values("datetime"), "group"])["outcome"].mean().unstack()
    return table.reindex(columns=range(groups))


def overlap_lags(horizon: int, step: int) -> int:
    """Lags at which outcomes of neighbouring dates share sessions, twice over, as Bartlett's weights halve them."""
    overlap = -(-horizon // max(1, step))
    return 2 * overlap - 1 if overlap > 1 else 0


def _ic(signal: pd.Series, outcome: pd.Series, *, rank: bool) -> pd.Series:
    """The correlation across names, or of their ranks, by date."""
    both = pd.DataFrame({"signal": signal, "outcome": outcome}).dropna()
    when = both.index.get_level_values("datetime").to_numpy()
    dates, values = ic_by_date(when, both["signal"].to_numpy(), both["outcome"].to_numpy(), rank=rank)
    return pd.Series(values, index=pd.DatetimeIndex(dates), dtype=float)


def _top_turnover(signal: pd.Series, groups: int) -> float:
    """Mean share of the highest group's names that were not in it on the date before."""
    tops = [
        set(rows.sort_values().index.get_level_values("instrument")[-max(1, len(rows) // groups) :])
        for _, rows in ranks(signal).groupby(level="datetime", sort=True)
    ]
    new = [len(top - before) / len(top) for before, top in pairwise(tops)]
    return float(np.mean(new)) if new else float("nan")
