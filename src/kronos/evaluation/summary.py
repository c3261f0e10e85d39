"""From the long table to what a reader wants to know: a table per task and market, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation import metrics
from kronos.evaluation.signals import correlation, ic_by_date, rank_correlation, slope
from kronos.evaluation.statistics import (
    Estimate,
    Means,
    MeanTest,
    cluster_bootstrap,
    cluster_test,
    dates_interval,
    dates_test,
    first_mean,
    holm,
    r_squared_of_means,
    ratio_of_means,
    time_blocks,
    verdict,
)

ALL = "all markets"
#: Fewer dates than this with a cross-section cannot carry a mean RankIC.
MIN_DATES = 8
#: Baselines that claim an order of returns (the first claims none: RankIC 0). The others rank by chance.
RANKING = ("last-close", "drift", "seasonal-naive")
#: Baselines whose single path says nothing of volatility.
SILENT = ("last-close", "drift")


def cluster_labels(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """(N,) market and block of time of each row (one per window); see ``time_blocks``.

    The market is the group up to its last underscore (``crypto_1h`` and ``crypto_15m`` share their days).
    """
    market = rows["group"].astype(str).str.rsplit("_", n=1).str[0].to_numpy()
    span = rows.groupby("group")["span"].transform("median").to_numpy().astype("timedelta64[ns]")
    blocks = time_blocks(rows["cutoff"].to_numpy(), span)
    return np.array([f"{m}|{b}" for m, b in zip(market, blocks, strict=True)])


def per_window(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (forecaster, window): step metrics averaged over steps, last-step moves, window numbers.

    Adds ``span`` (time from cutoff to last step), ``predicted_return`` and ``true_return`` (log returns over the
    whole horizon, mean path), ``qlike`` and ``price_ic``, ``price_rank_ic`` (correlation over the steps of one window
    between mean path and truth, NaN for a flat forecast).
    """
    keys = ["forecaster", "window_id"]
    steps = [
        c for c in table.columns if c.startswith(("crps", "absolute", "energy", "pinball", "covered", "width", "nats"))
    ]
    grouped = table.groupby(keys, sort=False)
    out = grouped[steps].mean()
    last = table.loc[grouped["step"].idxmax()].set_index(keys)
    carried = ["group", "symbol", "date", "cutoff", "hit", "first_gap", "true_first_gap", "invalid", "past_move"]
    carried += ["volatility", "variance", "true_volatility", "context_volatility", "num_samples", "fallback"]
    out = out.join(last[[*carried, "predicted_move", "true_move", "timestamp"]])
    out["span"] = out["timestamp"] - out["cutoff"]
    out["predicted_return"] = out["predicted_move"] * out["context_volatility"]
    out["true_return"] = out["true_move"] * out["context_volatility"]
    out["qlike"] = metrics.qlike(out["true_volatility"] ** 2, out["variance"])
    pairs = dict(iter(table[[*keys, "predicted_move", "true_move"]].groupby(keys, sort=False)))
    out["price_ic"] = [correlation(pairs[k]["predicted_move"], pairs[k]["true_move"]) for k in out.index]
    out["price_rank_ic"] = [rank_correlation(pairs[k]["predicted_move"], pairs[k]["true_move"]) for k in out.index]
    return out.reset_index()


def means_of(rows: pd.DataFrame, pooled: bool = False) -> Means:
    """The means of a table with one row per window."""
    dates = rows["date"].to_numpy().astype("datetime64[ns]")
    return Means(cluster_labels(rows), dates, rows["span"].median(), pooled)


def price_row(
    rows: pd.DataFrame, yardstick: pd.DataFrame, pit: npt.NDArray[Any], pooled: bool = False
) -> dict[str, Any]:
    """Figures of the price task for one forecaster in one market, or ``pooled`` over all."""
    means = means_of(rows, pooled)
    pairs = np.column_stack([rows["crps"], yardstick["crps"]])
    out: dict[str, Any] = {
        "windows": len(rows),
        "crps_ratio": means.function(pairs, ratio_of_means),
        "crps": means.of(rows["crps"]),
        "mae": means.of(rows["absolute_error"]),
        "mase": means.of(rows["absolute_scaled_error"]),
        "energy": means.of(rows["energy"]),
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
    for name in [column for column in rows.columns if column.startswith("pinball_")]:
        out[name] = means.of(rows[name])
    for level in metrics.LEVELS:
        tag = f"{round(100 * level)}"
        out[f"coverage_{tag}"] = means.of(rows[f"covered_{tag}"], null=level)
        out[f"width_{tag}"] = means.of(rows[f"width_{tag}"])
    return out


def return_row(rows: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the return task: ordering of symbols on a date, pooled ordering, direction."""
    out: dict[str, Any] = {"windows": len(rows)}
    means = means_of(rows, pooled)
    predicted, actual = rows["predicted_return"].to_numpy(), rows["true_return"].to_numpy()
    for name, rank in (("ic", False), ("rank_ic", True)):
        when, values = ic_by_date(means.dates, predicted, actual, rank=rank)
        if len(when) >= MIN_DATES and not pooled:  # symbols of different markets are not one cross-section
            by_date = pd.Series(values, index=when)
            test = dates_test(by_date, means.span)
            interval = dates_interval(by_date, means.span).as_dict()
            out[name] = {**interval, "error": test.error, "t": test.t, "p": test.p}
            out |= {f"{name}_t": test.t, "dates": len(when)}
    out["pooled_ic"] = means.correlation(predicted, actual)
    out["pooled_rank_ic"] = means.correlation(_ranks(predicted), _ranks(actual))
    out["hit_rate"] = means.of(rows["hit"], null=0.5)
    out["slope_on_past"] = slope(rows["past_move"], rows["predicted_move"])
    out["true_slope_on_past"] = slope(rows["past_move"], rows["true_move"])
    return out


def volatility_row(rows: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the volatility task; volatilities as log return over the horizon."""
    means, real, made = means_of(rows, pooled), rows["true_volatility"], rows["volatility"]
    usual = np.log(rows["context_volatility"])
    ours, theirs = np.log(made.where(made > 0)), np.log(real.where(real > 0))
    return {
        "windows": len(rows),
        "mae": means.of((made - real).abs()),
        "r2": means.function(np.column_stack([(real - made) ** 2, real**2, real]), r_squared_of_means),
        "qlike": means.of(rows["qlike"].where(np.isfinite(rows["qlike"]))),
        "log_correlation": means.correlation(ours - usual, theirs - usual),
        "log_correlation_raw": means.correlation(ours, theirs),
        "bias": means.of(ours - theirs),
    }


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(pd.Series(values).rank())


@dataclass(frozen=True)
class Comparison:
    """One model against one baseline in one task and market."""

    task: str
    market: str
    model: str
    baseline: str
    difference: Estimate  # loss of the model minus loss of the baseline
    relative: float  # difference over the baseline's mean loss; NaN where the loss can be zero or negative
    p: float
    adjusted_p: float
    n: int  # dates, or clusters for all markets together
    test: str
    words: str

    @classmethod
    def by_date(
        cls,
        task: str,
        market: str,
        model: str,
        baseline: str,
        gap: pd.Series,
        span: Any,
        relative: float = float("nan"),
    ) -> Comparison:
        """By the differences ``gap`` of a series of dates (Diebold–Mariano), not corrected for other comparisons.

        ``span``: from a date to the end of its outcome.
        """
        difference, test = dates_interval(gap, span), dates_test(gap, span)
        return cls(
            task, market, model, baseline, difference, relative, test.p, test.p, test.n, "Diebold-Mariano", words=""
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction over all of them, and the words that follow."""
    adjusted = holm([one.p for one in comparisons])
    return [
        replace(one, adjusted_p=float(p), words=verdict(one.baseline, one.difference, float(p)))
        for one, p in zip(comparisons, adjusted, strict=True)
    ]


def compare(windows: pd.DataFrame, tasks: Iterable[str], models: list[str], baselines: list[str]) -> list[Comparison]:
    """Every model against every baseline, per task and market and over all markets; Holm over the whole list.

    ``windows`` is the table of :func:`per_window`. Within one market, losses are averaged over the symbols of a date
    and the dates tested by Diebold–Mariano; over all markets a cluster-robust test is used. The return task compares
    RankIC per date with the baseline's (0 where the baseline ranks nothing) and needs a cross-section.
    """
    markets = sorted(windows["group"].unique())
    found: list[Comparison] = []
    for task in tasks:
        for market in [*markets, ALL] if len(markets) > 1 and task != "return" else markets:
            part = windows if market == ALL else windows[windows["group"] == market]
            for model in models:
                ours = part[part["forecaster"] == model].set_index("window_id")
                for baseline in [b for b in baselines if _speaks(b, task) and len(ours)]:
                    theirs = part[part["forecaster"] == baseline].set_index("window_id").reindex(ours.index)
                    one = (_compare_ranks if task == "return" else _compare_losses)(
                        ours, theirs, (task, market, model, baseline)
                    )
                    found += [] if one is None else [one]
    return corrected(found)


def _speaks(baseline: str, task: str) -> bool:
    """Whether a baseline makes a statement in a task."""
    if task == "return":
        return baseline in RANKING
    return not (task == "volatility" and baseline in SILENT)


def _compare_losses(ours: pd.DataFrame, theirs: pd.DataFrame, sides: tuple[str, str, str, str]) -> Comparison | None:
    """By loss per window; ``sides``: task, market, model and baseline."""
    task, market, _, _ = sides
    loss = "crps" if task == "price" else "qlike"
    mine, base = (rows[loss].where(np.isfinite(rows[loss])) for rows in (ours, theirs))
    both = mine.notna() & base.notna()
    if not both.any():
        return None
    gap, relative = (mine - base)[both], float((mine - base)[both].mean() / base[both].mean())
    if market != ALL:
        by_date = gap.groupby(ours.loc[both, "date"]).mean().sort_index()
        return Comparison.by_date(*sides, by_date, ours["span"].median(), relative)
    labels = cluster_labels(ours[both].reset_index())
    test: MeanTest = cluster_test(labels, gap)
    difference = cluster_bootstrap(labels, gap, first_mean)
    return Comparison(*sides, difference, relative, test.p, test.p, test.n, "cluster-robust t", words="")


def _compare_ranks(ours: pd.DataFrame, theirs: pd.DataFrame, sides: tuple[str, str, str, str]) -> Comparison | None:
    """By minus RankIC per date."""
    series = []
    for rows in (ours, theirs):
        dates = rows["date"].to_numpy().astype("datetime64[ns]")
        when, values = ic_by_date(dates, rows["predicted_return"], rows["true_return"], rank=True)
        series.append(pd.Series(values, index=when))
    if len(series[0]) < MIN_DATES:
        return None
    gap = -(series[0] - series[1].reindex(series[0].index).fillna(0.0)).sort_index()
    return Comparison.by_date(*sides, gap, ours["span"].median())


def in_words(comparisons: Iterable[Comparison]) -> list[dict[str, str]]:
    """One sentence per model, task and market."""
    grouped: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for item in comparisons:
        kind = item.words.split(" ", 1)[0]  # better, worse or no
        grouped.setdefault((item.model, item.task, item.market), {}).setdefault(kind, []).append(item.baseline)
    lines = []
    for (model, task, market), sides in grouped.items():
        phrases = [("better", "better than"), ("no", "no edge shown over"), ("worse", "worse than")]
        words = "; ".join(f"{phrase} {', '.join(sides[kind])}" for kind, phrase in phrases if kind in sides)
        lines.append({"model": model, "task": task, "market": market, "verdict": words})
    return lines


def task_tables(table: pd.DataFrame, windows: pd.DataFrame, tasks: Iterable[str], yardstick: str) -> dict[str, Any]:
    """``{task: {market: {forecaster: figures}}}`` for price, return and volatility."""
    markets = sorted(windows["group"].unique())
    out: dict[str, Any] = {}
    for task in tasks:
        for market in [*markets, ALL] if len(markets) > 1 else markets:
            part = windows if market == ALL else windows[windows["group"] == market]
            base = part[part["forecaster"] == yardstick].set_index("window_id")
            for name in [n for n in part["forecaster"].unique() if not (task == "volatility" and n in SILENT)]:
                rows, pooled = part[part["forecaster"] == name], market == ALL
                if task == "price":
                    here = (table["forecaster"] == name) & table["window_id"].isin(rows["window_id"])
                    figures = price_row(rows, base.loc[rows["window_id"]], table.loc[here, "pit"].to_numpy(), pooled)
                else:
                    figures = (return_row if task == "return" else volatility_row)(rows, pooled)
                out.setdefault(task, {}).setdefault(market, {})[name] = figures
    return out
