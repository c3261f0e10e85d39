"""From the long table to what a reader wants to know: a table per task and market, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation import statistics as stats
from kronos.evaluation.baselines import RANKING, STRAIGHT
from kronos.evaluation.figures import (
    MIN_DATES,
    Means,
    cluster_labels,
    per_window,
    price_row,
    rank_ic_by_date,
    return_row,
    touch_row,
    volatility_row,
)
from kronos.evaluation.statistics import Estimate

ALL = "all markets"
UNKNOWN = Estimate(float("nan"))
#: Whom prices and volatility are asked against, where they are among the baselines: the random walk stands beside every
#: verdict, then the usual models of volatility.
RIVALS = ("rw-resampled", "garch", "har")
#: What a verdict answers, named before anything is known: task → whom it is asked against, where they are there.
#: Everything else that is compared is a by-product, corrected apart.
QUESTIONS = {
    "price": RIVALS,
    "volatility": (*RIVALS, "ewma"),
    "coverage": ("90 %",),
    "touch": ("rw-resampled",),
    "return": ("last-close",),
    "investment": ("rw-resampled",),
}
#: One family, as they come up in every evaluation; the other tasks are families of their own.
ONE_FAMILY = ("price", "volatility", "coverage")
JUDGED_LEVEL = 0.9  # of the interval whose coverage is asked about
#: What is compared window by window: task → column of the loss.
LOSSES = {"price": "crps", "volatility": "qlike", "touch": "brier"}
#: Where a straight line has nothing to say: it does not move, and has no chances.
NO_LINES = ("volatility", "touch")


def _by_market(windows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each market's rows, then all of them where there are several markets."""
    markets = windows.groupby("group")
    yield from ((str(market), rows) for market, rows in markets)
    if len(markets) > 1:
        yield ALL, windows


def task_tables(table: pd.DataFrame, windows: pd.DataFrame, tasks: Iterable[str], yardstick: str) -> dict[str, Any]:
    """``{task: {market: {forecaster: figures}}}`` for price, return, volatility and touch."""
    out: dict[str, Any] = {}
    for task, (market, part) in product(tasks, list(_by_market(windows))):
        base, pooled = part[part["forecaster"] == yardstick].set_index("window_id"), market == ALL
        for name, rows in part.groupby("forecaster", sort=False):
            if task in NO_LINES and name in STRAIGHT:
                continue
            if task == "price":
                here = (table["forecaster"] == name) & table["window_id"].isin(rows["window_id"])
                figures = price_row(rows, base.loc[rows["window_id"]], table.loc[here, "pit"].to_numpy(), pooled)
            elif task == "touch":
                figures = touch_row(rows, base.loc[rows["window_id"]], pooled)
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
    ratio: Estimate  # mean loss of the model over the baseline's; NaN where the loss can be zero or negative
    p: float
    adjusted_p: float
    n: int  # dates, or clusters for all markets together
    test: str
    words: str

    @property
    def relative(self) -> float:
        """Difference over the baseline's mean loss."""
        return self.ratio.value - 1.0

    @property
    def asked(self) -> bool:
        """Whether it is one of the questions of the verdict."""
        return self.baseline in QUESTIONS[self.task]

    @classmethod
    def by_date(
        cls, task: str, market: str, model: str, baseline: str, gap: pd.Series, span: Any, ratio: Estimate = UNKNOWN
    ) -> Comparison:
        """By the differences ``gap`` of a series of dates (Diebold–Mariano), not corrected for other comparisons.

        ``span``: from a date to the end of its outcome.
        """
        found, test = stats.dates_interval(gap, span), stats.dates_test(gap, span)
        return cls(task, market, model, baseline, found, ratio, test.p, test.p, test.n, "Diebold-Mariano", words="")


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
    if one.ratio.low <= 1.0 <= one.ratio.high:  # what is shown must not contradict what is said
        words = stats.verdict(one.baseline, one.difference, 1.0)
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
        silent = STRAIGHT if task in NO_LINES else [b for b in baselines if task == "return" and b not in RANKING]
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
        mine, base = rank_ic_by_date(ours), rank_ic_by_date(theirs)
        if market == ALL or len(mine) < MIN_DATES:
            return None
        gap = -(mine - base.reindex(mine.index).fillna(0.0)).sort_index()
        return Comparison.by_date(*sides, gap, ours["span"].median())
    loss = LOSSES[task]
    mine, base = (rows[loss].where(np.isfinite(rows[loss])) for rows in (ours, theirs))
    both = mine.notna() & base.notna()
    if not both.any():
        return None
    labels = cluster_labels(ours[both].reset_index())
    ratio = stats.cluster_bootstrap(labels, np.column_stack([mine[both], base[both]]), stats.ratio_of_means)
    return _of_windows((mine - base)[both], ours[both], sides, ratio)


def _coverage(rows: pd.DataFrame, market: str, model: str) -> Comparison | None:
    """Share of closes inside the interval, less what it should be; None where there are too few paths for one."""
    gap = (rows[f"covered_{JUDGED_LEVEL * 100:.0f}"] - JUDGED_LEVEL).dropna()
    sides = ("coverage", market, model, QUESTIONS["coverage"][0])
    return _of_windows(gap, rows.loc[gap.index], sides, UNKNOWN) if len(gap) else None


def _of_windows(gap: pd.Series, rows: pd.DataFrame, sides: tuple[str, str, str, str], ratio: Estimate) -> Comparison:
    """By a difference per window: by date within a market, by cluster over all of them."""
    if sides[1] != ALL:
        by_date = gap.groupby(rows["date"]).mean().sort_index()
        return Comparison.by_date(*sides, by_date, rows["span"].median(), ratio)
    labels = cluster_labels(rows.reset_index())
    test, difference = stats.cluster_test(labels, gap), stats.cluster_bootstrap(labels, gap)
    return Comparison(*sides, difference, ratio, test.p, test.p, test.n, "cluster-robust t", words="")


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
