"""Figures of one forecaster in one market, or over all markets, with their intervals, from the table of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation import metrics
from kronos.evaluation import statistics as stats
from kronos.evaluation.statistics import Estimate
from kronos.evaluation.touches import EVENTS, FIRST, reliability

#: Fewer dates than this with a cross-section cannot carry a mean RankIC.
MIN_DATES = 8
#: Figures of the price task → columns of the scores.
ERRORS = {"crps": "crps", "mae": "absolute_error", "mase": "absolute_scaled_error", "energy": "energy"}
#: What a window takes from its last step.
WINDOW_COLUMNS = (
    *("group", "symbol", "date", "cutoff", "hit", "first_gap", "true_first_gap", "invalid", "past_move", "volatility"),
    *("variance", "true_volatility", "context_volatility", "num_samples", "fallback", "predicted_move", "true_move"),
    "timestamp",
)


def cluster_labels(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """(N,) market and block of time of each row (one per window); see ``time_blocks``.

    The market is the group up to its last underscore (``crypto_1h`` and ``crypto_15m`` share their days).
    """
    market = rows["group"].astype(str).str.rsplit("_", n=1).str[0].to_numpy()
    span = rows.groupby("group")["span"].transform("median").to_numpy().astype("timedelta64[ns]")
    blocks = stats.time_blocks(rows["cutoff"].to_numpy(), span)
    return np.array([f"{m}|{b}" for m, b in zip(market, blocks, strict=True)])


def per_window(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (forecaster, window): step metrics averaged over steps, last-step moves, window numbers.

    Adds ``steps``, ``span`` (time from cutoff to last step), ``predicted_return`` and ``true_return`` (log returns over
    the whole horizon, mean path), ``qlike`` and ``price_ic``, ``price_rank_ic`` (correlation over the steps of one
    window between mean path and truth, NaN for a flat forecast), and where barriers were scored ``brier`` and
    ``first_brier``, the means over whether each is touched and over which is touched first.
    """
    keys, moves = ["forecaster", "window_id"], ["predicted_move", "true_move"]
    averaged = ("crps", "absolute", "energy", "pinball", "covered", "width", "nats")
    grouped = table.groupby(keys, sort=False)
    out = grouped[[c for c in table.columns if c.startswith(averaged)]].mean()
    whole = [*WINDOW_COLUMNS, *(c for c in table.columns if c.startswith(("chance_", "came_", "brier_")))]
    out = out.join(table.loc[grouped["step"].idxmax()].set_index(keys)[whole])
    out["steps"] = grouped.size()
    out["span"] = out["timestamp"] - out["cutoff"]
    out["predicted_return"] = out["predicted_move"] * out["context_volatility"]
    out["true_return"] = out["true_move"] * out["context_volatility"]
    out["qlike"] = metrics.qlike(out["true_volatility"] ** 2, out["variance"])
    if f"brier_{EVENTS[0]}" in out:
        out["brier"], out["first_brier"] = (
            out[[f"brier_{e}" for e in names]].mean(axis=1) for names in (EVENTS, FIRST)
        )
    pairs = [[part[move] for move in moves] for _, part in grouped[moves]]  # in the order of ``out``
    out["price_ic"] = [stats.correlation(*pair) for pair in pairs]
    out["price_rank_ic"] = [stats.rank_correlation(*pair) for pair in pairs]
    return out.reset_index()


class Means:
    """Means over the windows of one forecaster, in one market or ``pooled`` over all of them.

    Over several markets, where "the next date" means nothing, errors are cluster-robust. Otherwise windows are
    averaged over the symbols of a date, and the series of dates gets Newey–West errors, with lags for dates nearer
    than ``span``, from a cutoff to its last step, which share a part of their truths.
    """

    def __init__(self, rows: pd.DataFrame, pooled: bool) -> None:
        self.labels, self.span, self.pooled = cluster_labels(rows), rows["span"].median(), pooled
        self.dates = rows["date"].to_numpy().astype("datetime64[ns]")

    def of(self, values: Any, null: float = 0.0) -> dict[str, float]:
        """``value``, ``low``, ``high`` (95 %), ``error`` (standard error) and ``t`` of the mean against ``null``."""
        x = np.asarray(values, dtype=float)
        if self.pooled:
            test = stats.cluster_test(self.labels, x - null)
        else:
            test = stats.dates_test(pd.Series(x - null).groupby(self.dates).mean().sort_index(), self.span)
        return {**self.function(x), "error": test.error, "t": test.t}

    def function(self, columns: Any, statistic: stats.Statistic = stats.first_mean) -> dict[str, float]:
        """``value``, ``low`` and ``high`` of a function of column means."""
        return stats.cluster_bootstrap(self.labels, columns, statistic).as_dict()

    def correlation(self, x: pd.Series, y: pd.Series) -> dict[str, float]:
        """Pearson's correlation over all windows with its interval; NaN for a constant side."""
        return self._of_moments(x, y, lambda vx, vy, c, _: c / np.sqrt(vx * vy), scaled=True)

    def regression(self, x: pd.Series, y: pd.Series) -> tuple[dict[str, float], dict[str, float]]:
        """Slope and intercept of y on x with their intervals; NaN for a constant side."""
        slope = self._of_moments(x, y, lambda vx, vy, c, _: c / vx)
        return slope, self._of_moments(x, y, lambda vx, vy, c, means: means[1] - c / vx * means[0])

    def _of_moments(self, x: pd.Series, y: pd.Series, of: Callable[..., Any], scaled: bool = False) -> dict[str, float]:
        """A function of the variances of both sides, their covariance and their means; ``scaled``: by size alone."""
        both = np.isfinite(x) & np.isfinite(y)
        a, b = (np.asarray(side[both], float) for side in (x, y))
        if not np.isfinite(stats.correlation(a, b)):
            return Estimate(float("nan")).as_dict()
        if scaled:
            a, b = ((side - side.mean()) / side.std() for side in (a, b))

        def of_means(means: Any) -> Any:
            m, n, mm, nn, mn = np.moveaxis(means, -1, 0)
            return of(mm - m**2, nn - n**2, mn - m * n, (m, n))

        columns = np.column_stack([a, b, a * a, b * b, a * b])
        return stats.cluster_bootstrap(self.labels[both], columns, of_means).as_dict()


def price_row(
    rows: pd.DataFrame, yardstick: pd.DataFrame, pit: npt.NDArray[Any], pooled: bool = False
) -> dict[str, Any]:
    """Figures of the price task for one forecaster in one market, or ``pooled`` over all."""
    means = Means(rows, pooled)
    out: dict[str, Any] = {
        "windows": len(rows),
        "clusters": len(np.unique(means.labels)),
        "crps_ratio": means.function(np.column_stack([rows["crps"], yardstick["crps"]]), stats.ratio_of_means),
        **{name: means.of(rows[column]) for name, column in ERRORS.items()},
        "pit_ks": metrics.ks_distance(pit),
        "pit_histogram": metrics.pit_histogram(pit).tolist(),
        "price_ic": means.of(rows["price_ic"]),
        "price_rank_ic": means.of(rows["price_rank_ic"]),
        "first_open_gap": float(rows["first_gap"].median()),
        "invalid_bars": float(rows["invalid"].mean()),
        "fallbacks": float(rows["fallback"].mean()),
    }
    if rows["nats"].notna().any():
        out["nats_per_bar"] = means.of(rows["nats"])
    out |= {column: means.of(rows[column]) for column in rows.columns if column.startswith("pinball_")}
    for level in metrics.LEVELS:
        tag = f"{round(100 * level)}"
        out[f"coverage_{tag}"] = means.of(rows[f"covered_{tag}"], null=level)
        out[f"width_{tag}"] = means.of(rows[f"width_{tag}"])
    return out


def return_row(rows: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the return task: ordering of symbols on a date, pooled ordering, direction."""
    out: dict[str, Any] = {"windows": len(rows)}
    means, predicted, actual = Means(rows, pooled), rows["predicted_return"], rows["true_return"]
    for name in () if pooled else ("ic", "rank_ic"):  # symbols of different markets are not one cross-section
        by_date = rank_ic_by_date(rows, rank=name == "rank_ic")
        if len(by_date) >= MIN_DATES:
            test, interval = stats.dates_test(by_date, means.span), stats.dates_interval(by_date, means.span)
            out[name] = {**interval.as_dict(), "error": test.error, "t": test.t, "p": test.p}
            out |= {f"{name}_t": test.t, "dates": len(by_date)}
    out["pooled_ic"] = means.correlation(predicted, actual)
    out["pooled_rank_ic"] = means.correlation(predicted.rank(), actual.rank())
    out["hit_rate"] = means.of(rows["hit"], null=0.5)
    out["slope_on_past"] = stats.slope(rows["past_move"], rows["predicted_move"])
    out["true_slope_on_past"] = stats.slope(rows["past_move"], rows["true_move"])
    return out


def rank_ic_by_date(rows: pd.DataFrame, rank: bool = True) -> pd.Series:
    """RankIC of the returns by date, or their IC."""
    dates = rows["date"].to_numpy().astype("datetime64[ns]")
    when, values = stats.ic_by_date(dates, rows["predicted_return"], rows["true_return"], rank=rank)
    return pd.Series(values, index=when)


def volatility_row(rows: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the volatility task; volatilities as log return over the horizon.

    ``slope`` and ``intercept`` are those of Mincer and Zarnowitz, of log realised on log forecast volatility, each over
    the usual one of its context: a forecast whose level is right has 1 and 0, one that is too spread out a slope
    below 1.
    """
    means, real, made = Means(rows, pooled), rows["true_volatility"], rows["volatility"]
    usual = np.log(rows["context_volatility"] * np.sqrt(rows["steps"]))
    ours, theirs = np.log(made.where(made > 0)), np.log(real.where(real > 0))
    squares = np.column_stack([(real - made) ** 2, real**2, real])
    slope, intercept = means.regression(ours - usual, theirs - usual)
    return {
        "windows": len(rows),
        "mae": means.of((made - real).abs()),
        "r2": means.function(squares, lambda m: np.asarray(1.0 - m[..., 0] / (m[..., 1] - m[..., 2] ** 2))),
        "qlike": means.of(rows["qlike"].where(np.isfinite(rows["qlike"]))),
        "log_correlation": means.correlation(ours - usual, theirs - usual),
        "log_correlation_raw": means.correlation(ours, theirs),
        "slope": slope,
        "intercept": intercept,
        "bias": means.of(ours - theirs),
    }


def touch_row(rows: pd.DataFrame, yardstick: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the touch task: Brier scores, alone and over the yardstick's, and what was said against what came."""
    means = Means(rows, pooled)

    def over_yardstick(column: str) -> dict[str, float]:
        return means.function(np.column_stack([rows[column], yardstick[column]]), stats.ratio_of_means)

    def gathered(what: str, events: Sequence[str]) -> npt.NDArray[Any]:
        return rows[[f"{what}_{event}" for event in events]].to_numpy(float)

    said, came = (gathered(what, EVENTS) for what in ("chance", "came"))
    return {
        "windows": len(rows),
        "brier": means.of(rows["brier"]),
        "brier_ratio": over_yardstick("brier"),
        **{f"brier_ratio_{event}": over_yardstick(f"brier_{event}") for event in EVENTS},
        "first_brier": means.of(rows["first_brier"]),
        "first_ratio": over_yardstick("first_brier"),
        "excess_chance": means.of((said - came).mean(axis=1)),
        "reliability": reliability(said, came),
        "first_reliability": reliability(gathered("chance", FIRST), gathered("came", FIRST)),
    }
