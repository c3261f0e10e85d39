"""How much a forecast can tell: from how many distinct paths its numbers come, and with which sampling error.

A share of paths, a quantile or a risk of a handful of paths is no estimate of anything, and of one path it reads as
certainty. Below ``ENOUGH_PATHS`` distinct paths every surface shows mean and median alone, and says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.errors import FewPathsWarning

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

Floats = npt.NDArray[np.float64]

ENOUGH_PATHS = 20
"""Distinct paths that quantiles, chances and risk need: with fewer, the 5 % and 95 % quantiles are single paths."""

OF_PATHS = ("expected", "median", "lower", "upper")
"""Columns of ``Forecast.volatility`` that the paths give; beside them stand those of the past."""
ENDS = ("profit", "loss", "both", "either", "neither")
"""Rows of ``Forecast.first_touch``; ``either`` is one of the first three."""
OF_ENDS = ("chance", "error", "bars", "bars_error", "time")
"""Its columns."""

_ROUNDING = 1e-5  # relative; single precision over a long path

NO_DIRECTION = (
    "The sign of the next bars is close to a coin flip for this model as for others: read how far prices may go, not "
    "which way. This is no advice to trade."
)


MIRRORED = (
    "No direction is given: every path is followed by its mirror about the last close, so that a rise is as likely as "
    "a fall by construction. Read how far prices may go, not which way; direction='model' (--direction model) gives "
    "the model's own directions. This is no advice to trade."
)
"""In the place of ``NO_DIRECTION`` where paths are mirrored."""


def count_distinct(samples: npt.NDArray[np.float32]) -> int:
    """How many of the sample paths (S, H, F) differ by more than rounding, which depends on what is computed together.

    In the order of their means equal paths lie side by side.
    """
    ordered = samples[samples.mean(axis=(1, 2), dtype=np.float64).argsort()]
    same = np.isclose(ordered[1:], ordered[:-1], rtol=_ROUNDING, atol=0).all(axis=(1, 2))
    return len(samples) - int(same.sum())


def few_paths_note(distinct: int) -> str:
    """The caution on a forecast of too few distinct paths."""
    paths = "one path" if distinct == 1 else f"{distinct} distinct paths"
    return (
        f"{paths}, no distribution: intervals, chances and risk need {ENOUGH_PATHS} distinct paths and are left out; "
        f"draw {ENOUGH_PATHS} samples or more (num_samples, --samples) with a temperature above 0 and no top-k of 1"
    )


def beyond_notes(
    name: str,
    context: int,
    horizon: int,
    trained: int,
    judged: Mapping[str, int] | None,
    loaded_by: str | None = None,
) -> list[str]:
    """The cautions on a forecast that goes beyond what its checkpoint was trained or judged on.

    Args:
        name: of the checkpoint.
        context, horizon: bars that are read, and bars ahead.
        trained: bars of the windows that it was trained on, context and horizon together.
        judged: context and horizon that its card's figures are about; None: not stated.
        loaded_by: options of the command line that load it; None: its name does.
    """
    loaded_by, notes = loaded_by or f"--model {name}", []
    if horizon >= trained:
        notes.append(
            f"{name} was trained on windows of {trained:,} bars, and {horizon:,} bars ahead lie beyond them, so it "
            "extrapolates; give a shorter horizon or larger bars"
        )
    if judged is not None and (context > judged["context"] or horizon > judged["horizon"]):
        far = horizon > judged["horizon"]
        drift = f" and goes {horizon:,} ahead, where volatility and volume of its paths may drift" if far else ""
        notes.append(
            f"{name} was judged on {judged['context']:,} bars of context and {judged['horizon']:,} ahead; this "
            f"forecast reads {context:,}{drift}; kronos evaluate BARS {loaded_by} --context {context} "
            f"--horizon {horizon} judges it there"
        )
    return notes


def asks_spread(levels: Sequence[float]) -> bool:
    """Whether any of these quantile levels is other than the median, which one path has too."""
    return any(level != 0.5 for level in levels)


def share_error(share: npt.ArrayLike, paths: int) -> Floats:
    """Standard error of a share p of S independent paths: sqrt(q (1 - q) / S) with q = (p S + 1) / (S + 2).

    Laplace's q keeps a share of 0 or 1 from looking certain.
    """
    drawn_towards_half = (np.asarray(share, dtype=np.float64) * paths + 1) / (paths + 2)
    return np.asarray(np.sqrt(drawn_towards_half * (1 - drawn_towards_half) / paths))


def hit_error(hits: npt.ArrayLike, mirrored: bool = False) -> Floats:
    """Standard error of the share of paths for which something holds: hits (S, …) of true and false -> (…).

    Of ``mirrored`` paths the pairs are independent, not the paths: the error is that of the mean of the pairs, with one
    more, of which one path hits and the other does not, in the place of Laplace's rule. So a share that is one half in
    every pair, as that of a rise, has no error from sampling; what holds for both paths of a pair alike has √2 times
    that of as many independent paths.
    """
    found = np.asarray(hits, dtype=np.float64)
    size, even = len(found), len(found) // 2 * 2
    if not mirrored:
        return share_error(found.mean(axis=0), size)
    pairs = (found[0:even:2] + found[1:even:2]) / 2
    variance = np.concatenate([pairs, np.full_like(pairs[:1], 0.5)]).var(axis=0) * 2 * even
    if size > even:  # the last path stands alone
        variance += share_error(found.mean(axis=0), size) ** 2 * size
    return np.asarray(np.sqrt(variance) / size)


def mean_error(values: npt.ArrayLike, hits: npt.ArrayLike, mirrored: bool = False) -> float:
    """Standard error of the mean of values (S,) over the paths for which something holds, hits (S,) of true and false.

    Of independent paths that of the values; of ``mirrored`` ones the two of a pair count as one draw, since both may
    hit at once. NaN where fewer than two draws hit.
    """
    held = np.asarray(hits, dtype=bool)
    numbers, even = np.asarray(values, dtype=np.float64), len(held) // 2 * 2 if mirrored else 0
    if not held.any():
        return float("nan")
    off = np.where(held, numbers - numbers[held].mean(), 0.0)
    draws = np.concatenate([off[0:even:2] + off[1:even:2], off[even:]])
    count = int((held[0:even:2] | held[1:even:2]).sum() + held[even:].sum())
    return float(np.sqrt((draws**2).sum() * count / (count - 1)) / held.sum()) if count > 1 else float("nan")


class Shown:
    """The numbers of a forecast as every surface shows them: NaN where too few distinct paths cannot tell, and for the
    chance of a rise where the paths have no direction.
    """

    def __init__(self, forecast: Forecast) -> None:
        self.forecast = forecast
        self.enough = forecast.distinct_paths >= ENOUGH_PATHS
        self.known = forecast.history is not None and not forecast.history.empty  # whether the last close is

    @property
    def direction(self) -> str | None:
        """A sentence where the forecast gives no direction, which surfaces show in place of a chance of one half."""
        return MIRRORED if self.forecast.mirrored else None

    @property
    def notes(self) -> list[str]:
        """The cautions on the forecast, as sentences without a full stop."""
        notes = [str(note) for note in self.forecast.metadata.get("warnings", ())]
        few = [] if self.enough else [few_paths_note(self.forecast.distinct_paths)]
        return [*(note for note in few if note not in notes), *notes]

    def quantiles(self, levels: Sequence[float]) -> Floats:
        """(L, H, 6) quantiles; of too few paths only the median's are numbers."""
        if self.enough:
            return self.forecast.quantile_array(levels)
        middle = self.forecast.median().to_numpy()
        return np.stack([middle if level == 0.5 else np.full_like(middle, np.nan) for level in levels])

    def prob_up(self) -> pd.DataFrame:
        """Columns ``prob_up, error`` by timestamp; NaN also where the last close is unknown or no direction given."""
        if self.enough and self.known and self.direction is None:
            return self.forecast.prob_up(error=True)
        return pd.DataFrame(np.nan, self.forecast.timestamps, ["prob_up", "error"])

    def median_error(self) -> pd.DataFrame:
        """Sampling error of ``median()``, one column a feature."""
        if self.enough:
            return self.forecast.median_error()
        return pd.DataFrame(np.nan, self.forecast.timestamps, list(self.forecast.columns))

    def value_at_risk(self, level: float = 0.95) -> float:
        """Over the whole horizon, as ``Forecast.value_at_risk``."""
        return self.forecast.value_at_risk(level) if self.enough and self.known else float("nan")

    def expected_shortfall(self, level: float = 0.95) -> float:
        """Over the whole horizon, as ``Forecast.expected_shortfall``."""
        return self.forecast.expected_shortfall(level) if self.enough and self.known else float("nan")

    def volatility(self, level: float = 0.9) -> pd.DataFrame:
        """As ``Forecast.volatility``, a year; NaN also where the last close or the bar size is unknown.

        What the past tells stands also beside paths that are too few.
        """
        if not self.known or self.forecast.bars_a_year is None:
            return pd.DataFrame(np.nan, self.forecast.timestamps, list(OF_PATHS))
        if self.enough:
            return self.forecast.volatility(level=level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewPathsWarning)
            found = self.forecast.volatility(level=level)
        found[list(OF_PATHS)] = np.nan
        return found

    def prob_touch(self, price: float) -> pd.DataFrame:
        """Columns ``prob_touch, error`` by timestamp, as ``Forecast.prob_touch``."""
        if self.enough and self.known:
            return self.forecast.prob_touch(price, error=True)
        return pd.DataFrame(np.nan, self.forecast.timestamps, ["prob_touch", "error"])

    def first_touch(self, take_profit: float, stop_loss: float) -> pd.DataFrame:
        """As ``Forecast.first_touch``."""
        if self.enough and self.known:
            return self.forecast.first_touch(take_profit, stop_loss)
        return pd.DataFrame(np.nan, pd.Index(ENDS, name="outcome"), list(OF_ENDS)).astype({"time": "timedelta64[s]"})
