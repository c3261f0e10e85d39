"""From the long table to what a reader wants to know: a table per task and market, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation import metrics
from kronos.evaluation import statistics as stats
from kronos.evaluation.baselines import RANKING, STRAIGHT
from kronos.evaluation.statistics import Estimate

ALL = "all markets"
#: Fewer dates than this with a cross-section cannot carry a mean RankIC.
MIN_DATES = 8
#: Figures of the price task → columns of the scores.
ERRORS = {"crps": "crps", "mae": "absolute_error", "mase": "absolute_scaled_error", "energy": "energy"}
#: What a verdict answers, named before anything is known: task → whom it is asked against, where they are there.
#: Everything else that is compared is a by-product, corrected apart.
QUESTIONS = {
    "price": ("rw-resampled",),
    "volatility": ("garch", "ewma"),
    "coverage": ("90 %",),
    "return": ("last-close",),
    "investment": ("rw-resampled",),
}
#: One family, as they come up in every evaluation; the other tasks are families of their own.
ONE_FAMILY = ("price", "volatility", "coverage")
JUDGED_LEVEL = 0.9  # of the interval whose coverage is asked about
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

    Adds ``span`` (time from cutoff to last step), ``predicted_return`` and ``true_return`` (log returns over the
    whole horizon, mean path), ``qlike`` and ``price_ic``, ``price_rank_ic`` (correlation over the steps of one window
    between mean path and truth, NaN for a flat forecast).
    """
    keys, moves = ["forecaster", "window_id"], ["predicted_move", "true_move"]
    averaged = ("crps", "absolute", "energy", "pinball", "covered", "width", "nats")
    grouped = table.groupby(keys, sort=False)
    out = grouped[[c for c in table.columns if c.startswith(averaged)]].mean()
    out = out.join(table.loc[grouped["step"].idxmax()].set_index(keys)[list(WINDOW_COLUMNS)])
    out["span"] = out["timestamp"] - out["cutoff"]
    out["predicted_return"] = out["predicted_move"] * out["context_volatility"]
    out["true_return"] = out["true_move"] * out["context_volatility"]
    out["qlike"] = metrics.qlike(out["true_volatility"] ** 2, out["variance"])
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
        if not np.isfinite(value := stats.correlation(x, y)):
            return Estimate(value).as_dict()
        both = np.isfinite(x) & np.isfinite(y)
        a, b = (np.asarray(side[both], float) for side in (x, y))
        a, b = ((side - side.mean()) / side.std() for side in (a, b))

        def of_means(means: Any) -> Any:
            m, n, mm, nn, mn = np.moveaxis(means, -1, 0)
            return (mn - m * n) / np.sqrt((mm - m**2) * (nn - n**2))

        columns = np.column_stack([a, b, a * a, b * b, a * b])
        return stats.cluster_bootstrap(self.labels[both], columns, of_means).as_dict()


def price_row(
    rows: pd.DataFrame, yardstick: pd.DataFrame, pit: npt.NDArray[Any], pooled: bool = False
) -> dict[str, Any]:
    """Figures of the price task for one forecaster in one market, or ``pooled`` over all."""
    means = Means(rows, pooled)
    out: dict[str, Any] = {
        "windows": len(rows),
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
        by_date = _by_date(rows, rank=name == "rank_ic")
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


def _by_date(rows: pd.DataFrame, rank: bool = True) -> pd.Series:
    """IC or RankIC of the returns by date."""
    dates = rows["date"].to_numpy().astype("datetime64[ns]")
    when, values = stats.ic_by_date(dates, rows["predicted_return"], rows["true_return"], rank=rank)
    return pd.Series(values, index=when)


def volatility_row(rows: pd.DataFrame, pooled: bool = False) -> dict[str, Any]:
    """Figures of the volatility task; volatilities as log return over the horizon."""
    means, real, made = Means(rows, pooled), rows["true_volatility"], rows["volatility"]
    usual = np.log(rows["context_volatility"])
    ours, theirs = np.log(made.where(made > 0)), np.log(real.where(real > 0))
    squares = np.column_stack([(real - made) ** 2, real**2, real])
    return {
        "windows": len(rows),
        "mae": means.of((made - real).abs()),
        "r2": means.function(squares, lambda m: np.asarray(1.0 - m[..., 0] / (m[..., 1] - m[..., 2] ** 2))),
        "qlike": means.of(rows["qlike"].where(np.isfinite(rows["qlike"]))),
        "log_correlation": means.correlation(ours - usual, theirs - usual),
        "log_correlation_raw": means.correlation(ours, theirs),
        "bias": means.of(ours - theirs),
    }


def _by_market(windows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each market's rows, then all of them where there are several markets."""
    markets = windows.groupby("group")
    yield from ((str(market), rows) for market, rows in markets)
    if len(markets) > 1:
        yield ALL, windows


def task_tables(table: pd.DataFrame, windows: pd.DataFrame, tasks: Iterable[str], yardstick: str) -> dict[str, Any]:
    """``{task: {market: {forecaster: figures}}}`` for price, return and volatility."""
    out: dict[str, Any] = {}
    for task, (market, part) in product(tasks, list(_by_market(windows))):
        base, pooled = part[part["forecaster"] == yardstick].set_index("window_id"), market == ALL
        for name, rows in part.groupby("forecaster", sort=False):
            if task == "volatility" and name in STRAIGHT:
                continue
            if task == "price":
                here = (table["forecaster"] == name) & table["window_id"].isin(rows["window_id"])
                figures = price_row(rows, base.loc[rows["window_id"]], table.loc[here, "pit"].to_numpy(), pooled)
            else:
                figures = (return_row if task == "return" else volatility_row)(rows, pooled)
            out.setdefault(task, {}).setdefault(market, {})[name] = figures
    return out


def horizon_tables(table: pd.DataFrame, horizons: Sequence[int], yardstick: str) -> dict[str, Any]:
    """``{market: {forecaster: {bars ahead: figures}}}`` of the close at single bars ahead.

    Figures are ``crps_ratio`` to the yardstick's and ``coverage_90``. Every horizon comes from the same forecasts, so
    that they differ by nothing but how far ahead the close lies.
    """
    out: dict[str, Any] = {}
    for step in horizons if len(table) else ():
        rows = per_window(table[table["step"] == step])
        for market, part in _by_market(rows):
            base = part[part["forecaster"] == yardstick].set_index("window_id")
            for name, mine in part.groupby("forecaster", sort=False):
                means, theirs = Means(mine, market == ALL), base["crps"].loc[mine["window_id"]]
                ratio = means.function(np.column_stack([mine["crps"], theirs]), stats.ratio_of_means)
                figures = {"crps_ratio": ratio, "coverage_90": means.of(mine["covered_90"], null=0.9)}
                out.setdefault(market, {}).setdefault(str(name), {})[str(step)] = figures
    return out


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

    @property
    def asked(self) -> bool:
        """Whether it is one of the questions of the verdict."""
        return self.baseline in QUESTIONS[self.task]

    @classmethod
    def by_date(
        cls, task: str, market: str, model: str, baseline: str, gap: pd.Series, span: Any, relative: float = np.nan
    ) -> Comparison:
        """By the differences ``gap`` of a series of dates (Diebold–Mariano), not corrected for other comparisons.

        ``span``: from a date to the end of its outcome.
        """
        found, test = stats.dates_interval(gap, span), stats.dates_test(gap, span)
        return cls(task, market, model, baseline, found, relative, test.p, test.p, test.n, "Diebold-Mariano", words="")


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction and the words that follow.

    The questions of a model in a market (or in all of them) are a family, see :data:`ONE_FAMILY`; all that was compared
    beside them is another one, so that straw men do not weigh on what was asked.
    """
    families: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(comparisons):
        key = (one.model, one.market, "" if one.task in ONE_FAMILY else one.task) if one.asked else ()
        families.setdefault(key, []).append(place)
    out = list(comparisons)
    for places in families.values():
        for place, p in zip(places, stats.holm([comparisons[i].p for i in places]).tolist(), strict=True):
            out[place] = replace(out[place], adjusted_p=p, words=_words(comparisons[place], p))
    return out


def _words(one: Comparison, adjusted_p: float) -> str:
    """Which side is taken, if one is."""
    words = stats.verdict(one.baseline, one.difference, adjusted_p)
    if one.task != "coverage":
        return words
    covered = f"{one.baseline} intervals cover {JUDGED_LEVEL + one.difference.value:.1%}"
    if words.startswith("no edge"):
        return f"{covered}, not shown to be off"
    return f"{covered}: too {'narrow' if one.difference.value < 0 else 'wide'}"


def compare(windows: pd.DataFrame, tasks: Iterable[str], models: list[str], baselines: list[str]) -> list[Comparison]:
    """Every model against every baseline, per task and market and over all markets; with prices, its coverage too.

    ``windows`` is the table of :func:`per_window`. Within one market, losses are averaged over the symbols of a date
    and the dates tested by Diebold–Mariano; over all markets a cluster-robust test is used. The return task compares
    RankIC per date with the baseline's (0 where the baseline ranks nothing) and needs a cross-section.
    """
    found: list[Comparison | None] = []
    for task, (market, part) in product(tasks, list(_by_market(windows))):
        silent = {"price": (), "volatility": STRAIGHT}.get(task, [b for b in baselines if b not in RANKING])
        sides = {name: part[part["forecaster"] == name].set_index("window_id") for name in (*models, *baselines)}
        for model, baseline in product(models, [b for b in baselines if b not in silent]):
            ours, theirs = sides[model], sides[baseline].reindex(sides[model].index)
            if len(ours):
                found.append(_compared(ours, theirs, (task, market, model, baseline)))
        if task == "price":
            found += [_coverage(sides[model], market, model) for model in models if len(sides[model])]
    return corrected([one for one in found if one is not None])


def _compared(ours: pd.DataFrame, theirs: pd.DataFrame, sides: tuple[str, str, str, str]) -> Comparison | None:
    """By minus RankIC per date, or by loss per window; ``sides``: task, market, model and baseline."""
    task, market, *_ = sides
    if task == "return":
        mine, base = _by_date(ours), _by_date(theirs)
        if market == ALL or len(mine) < MIN_DATES:
            return None
        gap = -(mine - base.reindex(mine.index).fillna(0.0)).sort_index()
        return Comparison.by_date(*sides, gap, ours["span"].median())
    loss = "crps" if task == "price" else "qlike"
    mine, base = (rows[loss].where(np.isfinite(rows[loss])) for rows in (ours, theirs))
    both = mine.notna() & base.notna()
    if not both.any():
        return None
    gap, relative = (mine - base)[both], float((mine - base)[both].mean() / base[both].mean())
    return _of_windows(gap, ours[both], sides, relative)


def _coverage(rows: pd.DataFrame, market: str, model: str) -> Comparison | None:
    """Share of closes inside the interval, less what it should be; None where there are too few paths for one."""
    gap = (rows[f"covered_{JUDGED_LEVEL * 100:.0f}"] - JUDGED_LEVEL).dropna()
    sides = ("coverage", market, model, QUESTIONS["coverage"][0])
    return _of_windows(gap, rows.loc[gap.index], sides, np.nan) if len(gap) else None


def _of_windows(gap: pd.Series, rows: pd.DataFrame, sides: tuple[str, str, str, str], relative: float) -> Comparison:
    """By a difference per window: by date within a market, by cluster over all of them."""
    if sides[1] != ALL:
        by_date = gap.groupby(rows["date"]).mean().sort_index()
        return Comparison.by_date(*sides, by_date, rows["span"].median(), relative)
    labels = cluster_labels(rows.reset_index())
    test, difference = stats.cluster_test(labels, gap), stats.cluster_bootstrap(labels, gap)
    return Comparison(*sides, difference, relative, test.p, test.p, test.n, "cluster-robust t", words="")


def in_words(comparisons: Iterable[Comparison]) -> list[dict[str, str]]:
    """One sentence per model, task and market: the answers to what was asked."""
    grouped: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for item in (one for one in comparisons if one.asked):
        words = item.words.removesuffix(f" {item.baseline}")  # better than, worse than or no edge shown over
        grouped.setdefault((item.model, item.task, item.market), {}).setdefault(words, []).append(item.baseline)
    lines = []
    for (model, task, market), sides in grouped.items():
        known = [words for words in ("better than", "no edge shown over", "worse than") if words in sides]
        said = "; ".join(f"{words} {', '.join(sides[words])}" for words in known) or "; ".join(sides)
        lines.append({"model": model, "task": task, "market": market, "verdict": said})
    return lines


def headlines(comparisons: Sequence[Comparison]) -> list[str]:
    """Three sentences a model, over all markets together: prices, volatility, intervals."""
    asked = [one for one in comparisons if one.asked and one.task in ONE_FAMILY]
    several = any(one.market == ALL for one in asked)
    lines = []
    for model, (task, said) in product(dict.fromkeys(one.model for one in asked), _SAID.items()):
        found = [one for one in asked if (one.model, one.task) == (model, task) and (one.market == ALL or not several)]
        if found:
            lines.append(f"{model}, {said}: {'; '.join(map(_headline, found))}.")
    return lines


_SAID = {"price": "prices", "volatility": "volatility", "coverage": "intervals"}


def _headline(one: Comparison) -> str:
    """An answer with its size and how sure it is."""
    if not (np.isfinite(one.p) and np.isfinite(one.difference.low)):
        return f"too few dates to compare with {one.baseline}" if one.task != "coverage" else "too few dates to tell"
    sure = f"p {one.adjusted_p:.3f}" if one.adjusted_p >= 0.001 else "p below 0.001"
    if one.task == "coverage":
        return f"{one.words} ({sure})"
    loss = "CRPS" if one.task == "price" else "QLIKE"
    words = one.words.replace("no edge shown over", "no difference shown to")
    return f"{words} ({loss} {abs(one.relative):.1%} {'lower' if one.relative < 0 else 'higher'}, {sure})"
