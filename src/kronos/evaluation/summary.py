"""From the long table to what a reader wants to know: a table per task and market, and verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation import metrics
from kronos.evaluation.signals import MIN_NAMES, correlation, ic_by_date, rank_correlation, slope
from kronos.evaluation.statistics import (
    Estimate,
    MeanTest,
    block_bootstrap,
    cluster_bootstrap,
    cluster_test,
    diebold_mariano,
    first_mean,
    holm,
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


def price_row(rows: pd.DataFrame, yardstick: pd.DataFrame, pit: npt.NDArray[Any]) -> dict[str, Any]:
    """Figures of the price task for one forecaster in one market."""
    labels = cluster_labels(rows)
    pairs = np.column_stack([rows["crps"], yardstick["crps"]])
    out: dict[str, Any] = {
        "windows": len(rows),
        "crps": cluster_bootstrap(labels, rows["crps"], first_mean).as_dict(),
        "crps_ratio": cluster_bootstrap(labels, pairs, ratio_of_means).as_dict(),
        "mae": float(rows["absolute_error"].mean()),
        "mase": float(rows["absolute_scaled_error"].mean()),
        "energy": float(rows["energy"].mean()),
        "pit_ks": metrics.ks_distance(pit),
        "price_ic": float(rows["price_ic"].mean()),
        "price_rank_ic": float(rows["price_rank_ic"].mean()),
        "first_open_gap": float(rows["first_gap"].median()),
        "invalid_bars": float(rows["invalid"].mean()),
        "fallbacks": float(rows["fallback"].mean()),
    }
    if rows["nats"].notna().any():
        out["nats_per_bar"] = float(rows["nats"].mean())
    for level in ("50", "80", "90"):
        out[f"coverage_{level}"] = cluster_bootstrap(labels, rows[f"covered_{level}"], first_mean).as_dict()
        out[f"width_{level}"] = float(rows[f"width_{level}"].mean())
    return out


def return_row(rows: pd.DataFrame) -> dict[str, Any]:
    """Figures of the return task: ordering of symbols on a date, pooled ordering, direction."""
    out: dict[str, Any] = {"windows": len(rows)}
    predicted, actual = rows["predicted_return"].to_numpy(), rows["true_return"].to_numpy()
    dates = rows["date"].to_numpy().astype("datetime64[ns]")
    for name, rank in (("ic", False), ("rank_ic", True)):
        when, values = ic_by_date(dates, predicted, actual, rank=rank)
        if len(when) >= MIN_DATES:
            overlap = overlap_of(when, rows["span"].median())
            test = diebold_mariano(values, np.zeros(len(values)), overlap)
            out[name] = block_bootstrap(values, _block(len(values), overlap)).as_dict()
            out |= {f"{name}_t": test.t, f"{name}_p": test.p, "dates": len(when)}
    labels = cluster_labels(rows)
    out["pooled_ic"] = pooled_correlation(labels, predicted, actual).as_dict()
    out["pooled_rank_ic"] = pooled_correlation(labels, _ranks(predicted), _ranks(actual)).as_dict()
    out["hit_rate"] = cluster_bootstrap(labels, rows["hit"], first_mean).as_dict()
    out["slope_on_past"] = slope(rows["past_move"], rows["predicted_move"])
    out["true_slope_on_past"] = slope(rows["past_move"], rows["true_move"])
    return out


def volatility_row(rows: pd.DataFrame) -> dict[str, Any]:
    """Figures of the volatility task; volatilities as log return over the horizon."""
    labels, real = cluster_labels(rows), rows["true_volatility"]
    usual = np.log(rows["context_volatility"])
    ours, theirs = np.log(rows["volatility"].where(rows["volatility"] > 0)), np.log(real.where(real > 0))
    finite = rows["qlike"].where(np.isfinite(rows["qlike"]))
    return {
        "windows": len(rows),
        "mae": float((rows["volatility"] - real).abs().mean()),
        "r2": metrics.r_squared(real, rows["volatility"]),
        "qlike": cluster_bootstrap(labels, finite, first_mean).as_dict(),
        "log_correlation": correlation(ours - usual, theirs - usual),
        "log_correlation_raw": correlation(ours, theirs),
        "bias": float(ours.mean() - theirs.mean()),
    }


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(pd.Series(values).rank())


def pooled_correlation(labels: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Estimate:
    """Correlation over all windows with an interval by clusters; NaN for a constant side."""
    value = correlation(x, y)
    if not np.isfinite(value):
        return Estimate(value, value, value)
    a, b = (x - np.nanmean(x)) / np.nanstd(x), (y - np.nanmean(y)) / np.nanstd(y)

    def statistic(m: npt.NDArray[Any]) -> npt.NDArray[Any]:
        cross = m[..., 4] - m[..., 0] * m[..., 1]
        return np.asarray(cross / np.sqrt((m[..., 2] - m[..., 0] ** 2) * (m[..., 3] - m[..., 1] ** 2)))

    return cluster_bootstrap(labels, np.column_stack([a, b, a * a, b * b, a * b]), statistic)


def overlap_of(dates: npt.NDArray[np.datetime64], span: Any) -> int:
    """How many consecutive dates share a part of their truths (1: none)."""
    if len(dates) < 2:
        return 1
    gap = float(np.median(np.diff(np.sort(dates)).astype("timedelta64[ns]").astype(np.int64)))
    shared = math.ceil(float(pd.Timedelta(span).value) / max(gap, 1.0) - 1e-9)
    return max(1, shared)


def _block(size: int, overlap: int) -> int:
    return max(overlap, round(float(np.cbrt(size))))


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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def losses(rows: pd.DataFrame, task: str) -> pd.Series | None:
    """Loss per window (price, volatility), or None where the loss belongs to a date (return)."""
    if task == "price":
        return rows["crps"]
    if task == "volatility":
        return rows["qlike"].where(np.isfinite(rows["qlike"]))
    return None


def compare(windows: pd.DataFrame, tasks: Iterable[str], models: list[str], baselines: list[str]) -> list[Comparison]:
    """Every model against every baseline, per task and market and over all markets; Holm over the whole list.

    ``windows`` is the table of :func:`per_window`. Within one market, losses are averaged over the symbols of a date
    and the dates tested by Diebold–Mariano; over all markets a cluster-robust test is used. The return task compares
    RankIC per date with the baseline's (0 where the baseline ranks nothing) and needs a cross-section.
    """
    markets = sorted(windows["group"].unique())
    raw: list[tuple[str, str, str, str, Estimate, float, MeanTest, str]] = []
    for task in tasks:
        for market in [*markets, ALL] if len(markets) > 1 and task != "return" else markets:
            part = windows if market == ALL else windows[windows["group"] == market]
            for model in models:
                for baseline in [b for b in baselines if _speaks(b, task)]:
                    found = _one(part, task, model, baseline, market == ALL)
                    if found is not None:
                        raw.append((task, market, model, baseline, *found))
    adjusted = holm([item[6].p for item in raw])
    return [
        Comparison(
            task=task,
            market=market,
            model=model,
            baseline=baseline,
            difference=difference,
            relative=relative,
            p=test.p,
            adjusted_p=float(p),
            n=test.n,
            test=kind,
            words=verdict(baseline, difference, float(p)),
        )
        for (task, market, model, baseline, difference, relative, test, kind), p in zip(raw, adjusted, strict=True)
    ]


def _speaks(baseline: str, task: str) -> bool:
    """Whether a baseline makes a statement in a task."""
    if task == "return":
        return baseline in RANKING
    return not (task == "volatility" and baseline in SILENT)


def _one(
    part: pd.DataFrame, task: str, model: str, baseline: str, pooled: bool
) -> tuple[Estimate, float, MeanTest, str] | None:
    """Difference with interval, relative difference, test and its name."""
    ours = part[part["forecaster"] == model].set_index("window_id")
    theirs = part[part["forecaster"] == baseline].set_index("window_id").reindex(ours.index)
    if ours.empty:
        return None
    if task == "return":
        return _compare_ranks(ours, theirs)
    mine, base = losses(ours, task), losses(theirs, task)
    if mine is None or base is None:
        return None
    both = mine.notna() & base.notna()
    if not both.any():
        return None
    gap, relative = (mine - base)[both], float((mine - base)[both].mean() / base[both].mean())
    if pooled:
        labels = cluster_labels(ours[both].reset_index())
        return cluster_bootstrap(labels, gap, first_mean), relative, cluster_test(labels, gap), "cluster-robust t"
    by_date = gap.groupby(ours.loc[both, "date"]).mean().sort_index()
    overlap = overlap_of(by_date.index.to_numpy(), ours["span"].median())
    interval = block_bootstrap(by_date, _block(len(by_date), overlap))
    return interval, relative, diebold_mariano(by_date, np.zeros(len(by_date)), overlap), "Diebold-Mariano"


def _compare_ranks(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[Estimate, float, MeanTest, str] | None:
    """Minus RankIC per date, ours minus theirs."""
    series = []
    for rows in (ours, theirs):
        dates = rows["date"].to_numpy().astype("datetime64[ns]")
        when, values = ic_by_date(dates, rows["predicted_return"], rows["true_return"], rank=True, min_names=MIN_NAMES)
        series.append(pd.Series(values, index=when))
    if len(series[0]) < MIN_DATES:
        return None
    gap = -(series[0] - series[1].reindex(series[0].index).fillna(0.0)).sort_index()
    overlap = overlap_of(gap.index.to_numpy(), ours["span"].median())
    test = diebold_mariano(gap, np.zeros(len(gap)), overlap)
    return block_bootstrap(gap, _block(len(gap), overlap)), float("nan"), test, "Diebold-Mariano"


def task_tables(table: pd.DataFrame, windows: pd.DataFrame, tasks: Iterable[str], yardstick: str) -> dict[str, Any]:
    """``{task: {market: {forecaster: figures}}}`` for price, return and volatility."""
    markets = sorted(windows["group"].unique())
    groups = [*markets, ALL] if len(markets) > 1 else markets
    out: dict[str, Any] = {}
    for task in tasks:
        for market in groups:
            part = windows if market == ALL else windows[windows["group"] == market]
            base = part[part["forecaster"] == yardstick].set_index("window_id")
            for name in part["forecaster"].unique():
                if task == "volatility" and name in SILENT:
                    continue
                rows = part[part["forecaster"] == name]
                if task == "price":
                    pit = table.loc[
                        (table["forecaster"] == name) & table["window_id"].isin(rows["window_id"]), "pit"
                    ].to_numpy()
                    figures = price_row(rows, base.loc[rows["window_id"]], pit)
                else:
                    figures = return_row(rows) if task == "return" else volatility_row(rows)
                out.setdefault(task, {}).setdefault(market, {})[name] = figures
    return out
