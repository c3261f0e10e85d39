"""The verdict as plain sentences: who is beaten, what the windows cannot tell, and how many could."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from kronos.evaluation.statistics import FEWEST
from kronos.evaluation.summary import ALL, ONE_FAMILY, Comparison

#: Baselines as one speaks of them; the others by their names.
TITLES = {"rw-resampled": "the random walk", "garch": "GARCH", "har": "HAR", "ewma": "EWMA"}
#: Half the width of the interval of the ratio of CRPS that a verdict on prices should have.
TARGET = 0.01
#: Forecasts that come to it where nothing is known yet (measured, see docs/evaluation.md).
ABOUT_ENOUGH = 1_500

_SAID = {"price": "prices", "volatility": "volatility", "coverage": "intervals", "touch": "barriers"}
_LOSS = {"price": "CRPS", "volatility": "QLIKE", "touch": "Brier score"}


def headlines(comparisons: Sequence[Comparison]) -> list[str]:
    """The verdict: a sentence for each model and question, over all markets together.

    On prices and volatility it says of the random walk, GARCH and HAR, as far as they were asked, whether the model is
    better or worse, or that these windows cannot tell.
    """
    asked = [one for one in comparisons if one.asked and one.task in (*ONE_FAMILY, "touch")]
    several = any(one.market == ALL for one in asked)
    lines = []
    for model, (task, said) in product(dict.fromkeys(one.model for one in asked), _SAID.items()):
        found = [one for one in asked if (one.model, one.task) == (model, task) and (one.market == ALL or not several)]
        if found:
            lines.append(f"{model}, {said}: {'; '.join(map(_answer, found))}.")
    return lines


def _answer(one: Comparison) -> str:
    """What is said against one baseline, with its size and how sure it is."""
    title = TITLES.get(one.baseline, one.baseline)
    known = np.isfinite(one.p) and np.isfinite(one.difference.low)
    if one.task == "coverage":
        return f"{one.words} ({_sure(one.adjusted_p)})" if known else "too few dates to tell"
    if not known:
        return f"cannot tell it from {title}: too few dates"
    side = one.words.removesuffix(f" {one.baseline}")
    said = f"{side} {title}" if side in ("better than", "worse than") else f"cannot tell it from {title}"
    ratio = one.ratio
    ends = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if np.isfinite(ratio.low) else ""
    return f"{said} ({_LOSS[one.task]} {ratio.value:.3f}{ends} of its, {_sure(one.adjusted_p)})"


def _sure(p: float) -> str:
    return f"p {p:.3f}" if p >= 0.001 else "p below 0.001"


@dataclass(frozen=True)
class Precision:
    """How exactly the ratio of CRPS to the random walk's is known, and what it would take to know it within ``TARGET``.

    ``half_width``: of its 95 % interval, NaN with fewer than five clusters; ``needed``: forecasts, about: the width
    goes with one over the root of their number; ``cutoffs``: as many a market; ``most_cutoffs``: what the bars hold, of
    the market that holds most.
    """

    model: str
    market: str
    windows: int
    clusters: int
    half_width: float
    needed: int
    cutoffs: int
    most_cutoffs: int

    @property
    def enough(self) -> bool:
        """Whether the interval is as narrow as it should be."""
        return bool(self.half_width <= TARGET)

    @property
    def words(self) -> str:
        """A sentence."""
        counted = f"{self.windows:,} forecasts in {self.clusters:,} {'clusters' if self.clusters != 1 else 'cluster'}"
        where = "" if self.market == ALL else f" on {self.market}"
        if self.enough:
            return f"{self.model}{where}: {counted} give its CRPS over the random walk's within ±{self.half_width:.1%}."
        wanted = f"±{TARGET:.0%} takes about {self.needed:,} (--windows {self.cutoffs:,}"
        wanted += f"; these bars hold {self.most_cutoffs:,})" if self.most_cutoffs < self.cutoffs else ")"
        if not np.isfinite(self.half_width):
            return f"{self.model}{where}: {counted} are too few to call; {wanted}."
        return (
            f"{self.model}{where}: {counted} give its CRPS over the random walk's within ±{self.half_width:.1%} only, "
            f"too few to call smaller differences; {wanted}."
        )


def precision(
    price: Mapping[str, Mapping[str, Any]], markets: Mapping[str, Mapping[str, Any]], models: Iterable[str]
) -> list[Precision]:
    """Of each model, over all markets, or in the one that there is.

    Args:
        price: the tables of the task; ``markets``: what was drawn from each, with ``cutoffs`` and ``most_cutoffs``.
    """
    market = ALL if ALL in price else next(iter(price), ALL)
    held = [one for name, one in markets.items() if market in (ALL, name)]
    found = []
    for model in models:
        figures = price.get(market, {}).get(model)
        if figures is None:
            continue
        ratio, windows, clusters = figures["crps_ratio"], figures["windows"], figures["clusters"]
        half = (ratio["high"] - ratio["low"]) / 2.0 if clusters >= FEWEST else float("nan")
        times = (half / TARGET) ** 2 if np.isfinite(half) else ABOUT_ENOUGH / windows
        needed = _rounded(max(1.0, times) * windows)
        used, most = max(one["cutoffs"] for one in held), max(one["most_cutoffs"] for one in held)
        found.append(Precision(model, market, windows, clusters, half, needed, _rounded(times * used), most))
    return found


def _rounded(number: float) -> int:
    """Upwards, to two digits: no more is known of it."""
    step = 10 ** max(0, int(np.log10(max(number, 1.0))) - 1)
    return int(np.ceil(number / step - 1e-6) * step)
