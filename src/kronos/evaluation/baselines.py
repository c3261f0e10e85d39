"""Baselines that every forecast is judged against: whole, valid bars without training, by name in ``BASELINES``.

All use one random stream per (seed, context): two forecasters differ by their model, not by their luck.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kronos.errors import ConfigError
from kronos.evaluation.drawing import BarShapes, Baseline, bars_of_line, build_bars, resampled_walk
from kronos.evaluation.variance import EwmaVolatility, Garch, GarchBest, Har, HarRefit
from kronos.protocol import Context, FloatArray, Forecaster


class LastClose(Baseline):
    """Every future price is the last close (a point forecast)."""

    name, meaning = "last-close", "every price is the last close (a point)"
    ranks = straight = True  # its order is no order: RankIC 0

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        return bars_of_line(context, np.full(horizon, context.last_close))


class Drift(Baseline):
    """The line through the first and last close of the context, in logs, goes on (a point forecast)."""

    name, meaning = "drift", "the line through the context's first and last close goes on (a point)"
    ranks = straight = True

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        slope = float(context.log_returns().mean())
        return bars_of_line(context, context.last_close * np.exp(slope * np.arange(1, horizon + 1)))


def season_length(context: Context) -> int:
    """Bars of one season: a day of intraday bars, a week of daily ones (5, or 7 where weekends trade), else 1."""
    days = context.timestamps.astype("datetime64[D]").astype(np.int64)
    per_day = np.unique(days, return_counts=True)[1]
    if np.median(per_day) > 1:
        season = int(np.median(per_day[1:-1])) if len(per_day) > 2 else int(per_day.max())
    elif np.median(np.diff(days)) <= 1:
        season = 7 if np.isin(days % 7, (2, 3)).any() else 5  # day 0 was a Thursday
    else:
        season = 1
    return max(1, min(season, len(days) - 1))


class SeasonalNaive(Baseline):
    """The moves of the last season again, chained from the last close (a point forecast).

    It is judged on volatility too: its path is not straight, and has that of the last season.
    Repeating last season's *prices* would begin with a jump back to them; for prices the season is in the moves.
    """

    name, meaning = "seasonal-naive", "the moves of the last day, or week, again (a point)"
    ranks = True

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        season, shapes = season_length(context), BarShapes.of(context)
        picked = (len(shapes.move) - season + np.arange(horizon) % season)[None, :]
        return build_bars(context.last_close, shapes, picked, shapes.move[picked])


class RandomWalkGaussian(Baseline):
    """Independent normal log moves with the context's standard deviation and no drift."""

    name, meaning = "rw-gaussian", "a random walk of normal moves with the context's volatility"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        shapes = BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
        return build_bars(context.last_close, shapes, picked, rng.standard_normal(picked.shape) * context.volatility())


class RandomWalkResampled(Baseline):
    """Independent draws of the bars of the context.

    Its mean move is taken out: over 24 bars the estimated drift costs more than it brings.
    """

    name = "rw-resampled"
    meaning = (
        "a random walk that draws its moves from the context's own bars, mean move taken out; the walk that all are "
        "measured by"
    )
    drift = False  # whether the mean move stays in

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        return resampled_walk(context, horizon, num_samples, rng, drift=self.drift)


class RandomWalkResampledDrift(RandomWalkResampled):
    """Independent draws of the bars of the context, its mean move among them."""

    name, meaning = "rw-resampled-drift", "the same with the context's mean move left in"
    drift = True


_ALL: tuple[type[Baseline], ...] = (
    LastClose,
    Drift,
    SeasonalNaive,
    RandomWalkGaussian,
    RandomWalkResampled,
    RandomWalkResampledDrift,
    EwmaVolatility,
    Garch,
    GarchBest,
    Har,
    HarRefit,
)
BASELINES: dict[str, type[Baseline]] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by name, each made without arguments."""

MEANINGS = {name: baseline.meaning for name, baseline in BASELINES.items()}
RANKING = tuple(name for name, baseline in BASELINES.items() if baseline.ranks)
STRAIGHT = tuple(name for name, baseline in BASELINES.items() if baseline.straight)


def make_baselines(names: Sequence[str] | str = "all") -> list[Forecaster]:
    """Baselines by name; ``"all"`` gives every one of :data:`BASELINES`.

    Raises:
        ConfigError: an unknown name.
    """
    wanted = list(BASELINES) if names == "all" else [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in wanted if name not in BASELINES]:
        raise ConfigError(f"unknown baseline(s) {', '.join(unknown)}; known: {', '.join(BASELINES)}")
    return [BASELINES[name]() for name in wanted]
