"""The figures of a strategy's daily returns, each with a bootstrap interval, and what they mean."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtesting.simulate import Simulation
from kronos.evaluation.statistics import Estimate, block_bootstrap, cluster_bootstrap

FloatArray = npt.NDArray[np.float64]
BLOCK: Final = 10  # sessions that the bootstrap keeps together: holdings overlap from day to day

DEFINITIONS: Final = {
    "net": "daily return of the account after cost; gross: before cost, both of the strategy as Qlib trades it",
    "annual_return": "compounded: (product of 1 + r) ^ (sessions per year / sessions) - 1",
    "volatility": "standard deviation of daily net returns × √(sessions per year)",
    "sharpe": "mean / standard deviation of daily net returns × √(sessions per year); no risk-free rate is taken off",
    "excess": "daily net return less the benchmark's",
    "excess_annual": "mean daily excess × sessions per year (arithmetic), with its 95 % bootstrap interval",
    "information_ratio": "mean / standard deviation of the daily excess × √(sessions per year)",
    "universe": "the benchmark of equal weights is rebalanced every day without cost, which no portfolio is; the "
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


def performance(simulation: Simulation, sessions_per_year: int) -> dict[str, Any]:
    """The figures of one strategy; see :data:`DEFINITIONS`."""
    from qlib.contrib.evaluate import risk_analysis

    net, gross, bench = (x.to_numpy() for x in (simulation.net, simulation.daily["gross"], simulation.daily["bench"]))
    excess = net - bench
    years = len(net) / sessions_per_year
    risk = risk_analysis(pd.Series(excess), freq="day")["risk"]
    return {
        "sessions": len(net),
        "annual_return": float(np.cumprod(1.0 + net)[-1] ** (1 / years) - 1),
        "annual_return_gross": float(np.prod(1.0 + gross) ** (1 / years) - 1),
        "annual_return_benchmark": float(np.prod(1.0 + bench) ** (1 / years) - 1),
        "volatility": float(net.std(ddof=1) * np.sqrt(sessions_per_year)),
        "sharpe": ratio(net, sessions_per_year).as_dict(),
        "excess_annual": annual_mean(excess, sessions_per_year).as_dict(),
        "excess_annual_gross": annual_mean(gross - bench, sessions_per_year).as_dict(),
        "information_ratio": ratio(excess, sessions_per_year).as_dict(),
        "max_drawdown": float(drawdown(simulation.net).min()),
        "turnover": float(simulation.daily["turnover"].mean()),
        "cost_annual": float(simulation.daily["cost"].mean() * sessions_per_year),
        "names_held": float(simulation.holdings.mean()),
        "qlib": {str(name): float(value) for name, value in risk.items()},
    }


def annual_mean(daily: FloatArray, sessions_per_year: int) -> Estimate:
    """Mean × sessions a year, with its interval."""
    found = block_bootstrap(daily, BLOCK)
    return Estimate(*(value * sessions_per_year for value in (found.value, found.low, found.high)))


def ratio(daily: FloatArray, sessions_per_year: int) -> Estimate:
    """Mean over standard deviation × √ sessions a year, with its interval from blocks of time."""
    scale = np.sqrt(sessions_per_year)

    def statistic(means: FloatArray) -> FloatArray:
        variance = np.maximum(means[..., 1] - means[..., 0] ** 2, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(variance > 1e-18, means[..., 0] / np.sqrt(variance) * scale, np.nan))

    columns = np.column_stack([daily, daily**2])
    return cluster_bootstrap(np.arange(len(daily)) // BLOCK, columns, statistic)


def drawdown(daily: pd.Series) -> pd.Series:
    """Compounded wealth over its peak so far, less one; the start counts as a peak."""
    wealth = (1.0 + daily).cumprod()
    peak: pd.Series = wealth.cummax().clip(lower=1.0)
    return wealth / peak - 1.0


def monthly(daily: pd.Series) -> pd.Series:
    """Compounded return of each month, by period."""
    months = pd.DatetimeIndex(daily.index).to_period("M")
    compounded: pd.Series = (1.0 + daily).groupby(months).prod() - 1.0
    return compounded


def capacity(
    held: pd.DataFrame, amounts: pd.DataFrame, order_share: float, participation: float
) -> dict[str, float | None]:
    """How large the account may be before its orders weigh on the market; see :data:`DEFINITIONS`.

    Args:
        held: (sessions, instruments) shares of the account, NaN or 0 where not held.
        amounts: (sessions, instruments) traded value of each day.
        order_share: an order as a share of the account.
        participation: the share of a day's traded value that an order may be.
    """
    usual = amounts.rolling(20, min_periods=5).median().reindex(index=held.index, columns=held.columns)
    traded = usual.where(held > 0).to_numpy()
    traded = traded[np.isfinite(traded)]
    scale = participation / order_share
    return {
        "median": float(np.median(traded) * scale) if len(traded) else None,
        "least_traded_tenth": float(np.quantile(traded, 0.1) * scale) if len(traded) else None,
        "participation": participation,
    }
