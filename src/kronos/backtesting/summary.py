"""What strategies earned and what signals know: every figure with its definition and interval, every comparison with
its test, the verdict; together ``summary.json``.

A study asks whether a signal orders what comes, without any strategy: information coefficients, their decay, groups of
equal size, long against short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtesting.config import UNIVERSE, ResearchConfig
from kronos.backtesting.simulate import Simulation, ranks
from kronos.evaluation.statistics import (
    Estimate,
    MeanTest,
    automatic_lags,
    block_bootstrap,
    cluster_bootstrap,
    holm,
    ic_by_date,
    newey_west,
    verdict,
)

FloatArray = npt.NDArray[np.float64]
FORMAT: Final = 1
RANDOM, MOMENTUM = "random", "momentum"
BASELINE_SIGNALS: Final = (RANDOM, MOMENTUM)
BLOCK: Final = 10  # sessions that the bootstrap keeps together: holdings overlap from day to day
HORIZONS: Final = (1, 2, 3, 5, 10, 20)
"""Sessions ahead at which the decay is measured, beside the signal's own horizon."""

_CALLED: Final = {UNIVERSE: "the equal-weight universe", RANDOM: "a random signal"}
_SHORT: Final = 252  # sessions; fewer cannot tell a strategy from luck

DEFINITIONS: Final = {
    "net": "daily return of the account after cost; gross: before cost, both of the strategy as Qlib trades it",
    "annual_return": "compounded: (product of 1 + r) ^ (sessions per year / sessions) - 1",
    "volatility": "standard deviation of daily net returns × √(sessions per year)",
    "sharpe": "mean / standard deviation of daily net returns × √(sessions per year); no risk-free rate is taken off",
    "excess": "daily net return less the benchmark's",
    "excess_annual": "mean daily excess × sessions per year (arithmetic), with its 95 % bootstrap interval",
    "information_ratio": "mean / standard deviation of the daily excess × √(sessions per year)",
    UNIVERSE: "the benchmark of equal weights is rebalanced every day without cost, which no portfolio is; the "
    "random signal trades by the same rules as the others",
    "max_drawdown": "largest fall of compounded net wealth from a peak, as a share of the peak",
    "turnover": "value bought and sold a day over the account, mean; both sides count",
    "cost_annual": "mean daily cost over the account × sessions per year",
    "ic": "correlation across names, on each signal date, of the signal and the return from the next session's deal "
    "price to that of `horizon` sessions later; rank_ic: of their ranks",
    "rank_ic_adjusted_p": "p-value of the mean rank IC with fixed-b critical values, by Holm over the report's signals",
    "t": "of the mean over dates, Newey–West errors; lags at least twice the overlap of the outcomes",
    "spread": "mean return over the horizon of the highest group less that of the lowest",
    "interval": f"95 %, circular blocks of {BLOCK} sessions, 2,000 draws, widened for the few blocks there are",
    "qlib": "excess after cost as Qlib's risk_analysis has it (sums, 238 sessions a year), to compare with published "
    "figures",
    "capacity": "account at which an order (account × invested / topk) is the allowed share of the median day's traded "
    "value of the names held, and of that of the least traded tenth of them",
}
"""What every name in ``summary.json`` means."""


def summarise(
    config: ResearchConfig,
    simulations: Mapping[str, Simulation],
    studies: Mapping[str, Study],
    random_runs: list[Simulation],
    traded_value: pd.DataFrame,
    panel: pd.DataFrame,
    notes: Mapping[str, str],
) -> dict[str, Any]:
    """The whole summary, in plain types."""
    settings, per_year = config.backtest, config.sessions_per_year
    order = settings.invested / settings.topk
    figures = {
        name: performance(one, per_year) | {"capacity": capacity(one.held, traded_value, order, settings.participation)}
        for name, one in simulations.items()
    }
    figures[RANDOM]["runs_excess_annual"] = [float(run.excess.mean() * per_year) for run in random_runs]
    signals = [name for name in simulations if name not in BASELINE_SIGNALS]
    compared = comparisons(simulations, signals, settings.benchmark, per_year)
    ordering = dict(zip(signals, holm([studies[name].rank_ic_test.p for name in signals]), strict=True))
    studied = {}
    for name, one in studies.items():
        tests = {"ic": one.ic_test, "rank_ic": one.rank_ic_test, "spread": one.spread_test}
        plain = {key: {k: float(v) for k, v in asdict(test).items()} for key, test in tests.items()}
        studied[name] = {
            "horizon": one.horizon,
            "dates": len(one.ic),
            "ic": plain["ic"],
            "rank_ic": plain["rank_ic"],
            "decay": {str(ahead): row for ahead, row in one.decay.astype(float).to_dict("index").items()},
            "groups": [float(value) for value in one.groups],
            "monotone": one.monotone,
            "spread": plain["spread"] | {"annual": one.spread_test.mean * per_year / one.horizon},
            "top_group_turnover": one.turnover,
            "rank_ic_adjusted_p": float(ordering.get(name, np.nan)),
        }
    sessions = next(iter(simulations.values())).daily.index
    dates = panel.index.get_level_values("datetime").unique().sort_values()
    said, fewest = list(notes.values()), int(panel.groupby(level="datetime").size().min())
    if fewest < 2 * settings.topk:
        said.append(
            f"on some dates only {fewest} names have a signal, for a portfolio of {settings.topk}: "
            "most of the universe is held whatever the signal says"
        )
    if len(sessions) < _SHORT:
        said.append(f"{len(sessions)} sessions are too few to tell a strategy from luck")
    spans = [{"first": f"{d[0]:%Y-%m-%d}", "last": f"{d[-1]:%Y-%m-%d}", "count": len(d)} for d in (sessions, dates)]
    return {
        "format": FORMAT,
        "verdict": [in_words(name, figures[name], studies[name], ordering[name], compared) for name in signals],
        "notes": said,
        "sessions": spans[0],
        "signal_dates": spans[1],
        "benchmark": settings.benchmark,
        "strategies": figures,
        "studies": studied,
        "comparisons": compared,
        "definitions": DEFINITIONS,
        "settings": config.model_dump(mode="json"),
    }


def performance(simulation: Simulation, sessions_per_year: int) -> dict[str, Any]:
    """The figures of one strategy; see :data:`DEFINITIONS`."""
    from qlib.contrib.evaluate import risk_analysis

    daily, scale = simulation.daily, np.sqrt(sessions_per_year)
    net, gross, bench = (series.to_numpy() for series in (simulation.net, daily["gross"], daily["bench"]))
    returns = {"annual_return": net, "annual_return_gross": gross, "annual_return_benchmark": bench}
    years = len(net) / sessions_per_year
    risk = risk_analysis(pd.Series(net - bench), freq="day")["risk"]
    return {
        "sessions": len(net),
        **{name: float(np.prod(1.0 + values) ** (1 / years) - 1) for name, values in returns.items()},
        "volatility": float(net.std(ddof=1) * scale),
        "sharpe": ratio(net, sessions_per_year).as_dict(),
        "excess_annual": annual_mean(net - bench, sessions_per_year).as_dict(),
        "excess_annual_gross": annual_mean(gross - bench, sessions_per_year).as_dict(),
        "information_ratio": ratio(net - bench, sessions_per_year).as_dict(),
        "max_drawdown": float(drawdown(simulation.net).min()),
        "turnover": float(daily["turnover"].mean()),
        "cost_annual": float(daily["cost"].mean() * sessions_per_year),
        "names_held": float(simulation.holdings.mean()),
        "qlib": {str(name): float(value) for name, value in risk.items()},
    }


def annual_mean(daily: FloatArray, sessions_per_year: int) -> Estimate:
    """Mean × sessions a year, with its interval."""
    found = block_bootstrap(daily, BLOCK)
    return Estimate(*(value * sessions_per_year for value in (found.value, found.low, found.high)))


def ratio(daily: FloatArray, sessions_per_year: int) -> Estimate:
    """Mean over standard deviation × √ sessions a year, with its interval from blocks of time."""

    def statistic(means: FloatArray) -> FloatArray:
        variance = np.maximum(means[..., 1] - means[..., 0] ** 2, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            sharpe = means[..., 0] / np.sqrt(variance) * np.sqrt(sessions_per_year)
        return np.asarray(np.where(variance > 1e-18, sharpe, np.nan))

    return cluster_bootstrap(np.arange(len(daily)) // BLOCK, np.column_stack([daily, daily**2]), statistic)


def drawdown(daily: pd.Series) -> pd.Series:
    """Compounded wealth over its peak so far, less one; the start counts as a peak."""
    wealth = (1.0 + daily).cumprod()
    return pd.Series(wealth / wealth.cummax().clip(lower=1.0) - 1.0)


def monthly(daily: pd.Series) -> pd.Series:
    """Compounded return of each month, by period."""
    return pd.Series((1.0 + daily).groupby(pd.DatetimeIndex(daily.index).to_period("M")).prod() - 1.0)


def capacity(
    held: pd.DataFrame, amounts: pd.DataFrame, order_share: float, participation: float
) -> dict[str, float | None]:
    """How large the account may be before its orders weigh on the market; see :data:`DEFINITIONS`.

    ``held`` and ``amounts`` are (sessions, instruments): shares of the account, NaN or 0 where not held, and the value
    traded that day. An order is ``order_share`` of the account and may be ``participation`` of that value.
    """
    usual = amounts.rolling(20, min_periods=5).median().reindex(index=held.index, columns=held.columns)
    traded, scale = usual[held > 0].stack().dropna().to_numpy(), participation / order_share
    return {
        "median": float(np.median(traded) * scale) if len(traded) else None,
        "least_traded_tenth": float(np.quantile(traded, 0.1) * scale) if len(traded) else None,
        "participation": participation,
    }


def comparisons(
    simulations: Mapping[str, Simulation], signals: list[str], benchmark: str, per_year: int
) -> list[dict[str, Any]]:
    """Daily net returns of each signal less those of the benchmark, of lots and of momentum; p-values by Holm."""
    rows: list[dict[str, Any]] = []
    estimates: list[Estimate] = []
    for name in signals:
        others = {benchmark: simulations[name].daily["bench"]} | {
            other: simulations[other].net for other in BASELINE_SIGNALS
        }
        for other, returns in others.items():
            difference = (simulations[name].net - returns).to_numpy()
            estimate, test = annual_mean(difference, per_year), newey_west(difference)
            estimates.append(estimate)
            facts = {"difference_annual": estimate.as_dict(), "t": test.t, "p": test.p}
            rows.append({"signal": name, "other": other, **facts})
    for row, estimate, adjusted in zip(rows, estimates, holm([row["p"] for row in rows]), strict=True):
        row["adjusted_p"] = float(adjusted)
        other = _CALLED.get(row["other"], row["other"])
        row["words"] = verdict(other, estimate, row["adjusted_p"], lower_is_better=False)
    return rows


def in_words(
    name: str, figures: dict[str, Any], studied: Study, ordering_p: float, compared: list[dict[str, Any]]
) -> dict[str, str]:
    """The verdict on one signal; ``ordering_p``: of its mean rank IC, corrected for the number of signals."""
    excess, against = figures["excess_annual"], [row for row in compared if row["signal"] == name]
    interval = "too short a time for an interval"
    if np.isfinite(excess["low"]):
        interval = f"95 % interval {excess['low']:+.1%} to {excess['high']:+.1%}"
    benchmark = _CALLED.get(against[0]["other"], against[0]["other"])
    earned = (
        f"{excess['value']:+.1%} a year against {benchmark} after cost "
        f"({interval}): {'; '.join(row['words'] for row in against)}. "
    )
    rank = studied.rank_ic_test
    ordered = "does not show that it orders what comes"
    if ordering_p < 0.05:
        ordered = "orders what comes" if rank.mean > 0 else "orders what comes the wrong way round"
    judged = f"It {ordered} (rank IC {rank.mean:+.3f}, t {rank.t:.1f}, p {ordering_p:.3f}, {rank.n} dates)."
    if not rank.n:
        judged = "Whether it orders what comes cannot be told: no date has enough names with unlike signals."
    return {"signal": name, "words": earned + judged}


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
    tops = [
        set(rows.sort_values().index.get_level_values("instrument")[-max(1, len(rows) // groups) :])
        for _, rows in ranks(signal).groupby(level="datetime", sort=True)
    ]
    new = [len(top - before) / len(top) for before, top in pairwise(tops)]
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
        turnover=float(np.mean(new)) if new else float("nan"),
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
    both = pd.DataFrame({"signal": signal, "outcome": outcome}).dropna()
    when = both.index.get_level_values("datetime").to_numpy()
    dates, values = ic_by_date(when, both["signal"].to_numpy(), both["outcome"].to_numpy(), rank=rank)
    return pd.Series(values, index=pd.DatetimeIndex(dates), dtype=float)
