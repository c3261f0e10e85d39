"""How much prices will move: estimators of a bar's variance from its range, and a pooled log-HAR model of what comes.

HAR (heterogeneous autoregression) explains the realised volatility to come by that of the last few, last dozen and
last hundred bars. Pooled: one set of coefficients for all markets and bar sizes, fitted on many series, with every
number relative to the context's own mean, so that only the shape of the past counts. The horizon is forecast directly
(Ghysels and others, 2019): one regression for each of ``HORIZONS``.

Sources: Corsi (2009) for HAR; Garman and Klass (1980), Rogers and Satchell (1991), Parkinson (1980) for the range.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from kronos.files import write_json
from kronos.protocol import CLOSE, HIGH, LOW, OPEN, VOLUME, Context

Floats = npt.NDArray[np.float64]

HORIZONS: Final = (1, 2, 4, 8, 16, 24, 48, 96)
"""Bars ahead whose realised variance has a regression of its own; others lie between in ln h."""
LONGEST: Final = 256
"""Bars of the context that are read."""
FEWEST: Final = 16
"""Bars of the context below which there is nothing to forecast from but its own variance."""

_LOOKBACKS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_WIDE: Final = (4, 16, 64, 128)
_SLOT: Final = np.timedelta64(30, "m")  # of the day, over which the season is averaged
_PSEUDO: Final = 3.0  # bars of the usual size that every slot begins with
_WEIGHT: Final = 0.25  # of the context's mean in the mean over a lookback, so that its logarithm exists
_LEAST: Final = 0.02  # of the context's mean, added before a logarithm is taken
_HAR: Final = (1, 5, 22)  # Corsi's day, week and month
_FEWEST_PAIRS: Final = 40  # of past and future, for a fit on one context
_CLIP: Final = 4.0  # standard deviations beyond which a feature counts as no larger


# -- the variance of one bar ------------------------------------------------------------------------------------------


def parkinson(bars: Floats) -> Floats:
    """(T-1,) variance by the range of bars (T, 6), the close before counted among the prices of a bar."""
    logs = np.log(bars[:, : CLOSE + 1])
    top, bottom = np.maximum(logs[1:, HIGH], logs[:-1, CLOSE]), np.minimum(logs[1:, LOW], logs[:-1, CLOSE])
    return np.asarray((top - bottom) ** 2 / (4.0 * np.log(2.0)))


def garman_klass(bars: Floats) -> Floats:
    """(T-1,) variance by range and body of bars (T, 6), and the square of the gap before them."""
    logs = np.log(bars[:, : CLOSE + 1])
    now = logs[1:]
    inside = 0.5 * (now[:, HIGH] - now[:, LOW]) ** 2 - (2 * np.log(2.0) - 1) * (now[:, CLOSE] - now[:, OPEN]) ** 2
    return np.asarray(np.maximum(inside, 0.0) + (now[:, OPEN] - logs[:-1, CLOSE]) ** 2)


def rogers_satchell(bars: Floats) -> Floats:
    """(T-1,) variance by range and body of bars (T, 6), free of drift, and the square of the gap before them."""
    logs = np.log(bars[:, : CLOSE + 1])
    opened, high, low, close = logs[1:].T
    inside = (high - close) * (high - opened) + (low - close) * (low - opened)
    return np.asarray(np.maximum(inside, 0.0) + (opened - logs[:-1, CLOSE]) ** 2)


def squared_moves(bars: Floats) -> Floats:
    """(T-1,) squared log moves from close to close."""
    return np.asarray(np.diff(np.log(bars[:, CLOSE])) ** 2)


# -- what a context says about the volatility to come -----------------------------------------------------------------


def _recent(values: Floats, lookbacks: tuple[int, ...]) -> list[float]:
    """Log of the mean over the last bars, relative to the mean over all; 0 where all are 0."""
    mean = values.mean()
    if not mean > 0:
        return [0.0] * len(lookbacks)
    summed = np.cumsum(values[::-1])
    ends = np.minimum(lookbacks, len(values))
    return list(np.log((summed[ends - 1] / mean + _WEIGHT) / (ends + _WEIGHT)))


def _season(values: Floats, slots: npt.NDArray[Any], ahead: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """The usual size of bars (T-1,) and of those to come (H,) at their time of the day, relative to the mean."""
    known, place = np.unique(slots, return_inverse=True)
    mean = values.mean()
    if len(known) < 2 or not mean > 0:
        return np.ones(len(values)), np.ones(len(ahead))
    count = np.bincount(place)
    profile = (np.bincount(place, values / mean) + _PSEUDO) / (count + _PSEUDO)
    where = np.minimum(np.searchsorted(known, ahead), len(known) - 1)
    return profile[place], np.where(known[where] == ahead, profile[where], 1.0)


def features(context: Context, horizons: Sequence[int] = HORIZONS) -> Floats:
    """(len(horizons), K) numbers that the regressions read: one row for each horizon, logarithms without a unit.

    Rows differ by the time of day of the bars up to their horizon alone, the last column.
    """
    bars = context.values[-LONGEST:]
    stamps, future = (
        context.local(times).tz_localize(None).to_numpy()
        for times in (context.timestamps[-len(bars) :], context.future_timestamps)
    )
    moves = np.diff(np.log(bars[:, CLOSE]))
    ranges, bodies, drawn = parkinson(bars), garman_klass(bars), rogers_satchell(bars)
    squares = moves**2
    slots, ahead = ((times - times.astype("datetime64[D]")) // _SLOT for times in (stamps[1:], future))
    usual, coming = _season(ranges, slots, ahead)
    recent, regular = _recent(ranges, _LOOKBACKS), _recent(ranges / usual, _LOOKBACKS)
    found = [
        *recent,
        *(level**2 for level in recent),  # a wild hour fades faster than a calm one fills
        *_recent(bodies, _LOOKBACKS),
        *_recent(drawn, _WIDE),
        *_recent(squares, _WIDE),
        *_recent(np.abs(moves), _WIDE),
        *regular,
        *(level * regular[0] for level in regular),
        *_recent(np.maximum(bars[1:, VOLUME], 0.0), _WIDE),
    ]
    sigma = np.sqrt(squares.mean())
    scaled = moves / sigma if sigma > 0 else moves
    found += [float(np.arcsinh(scaled[-n:].sum() / np.sqrt(n))) for n in (1, 4, 16, 64)]
    steps = np.diff(stamps).astype("timedelta64[s]").astype(np.float64)
    usual_step = max(float(np.median(steps)), 1.0)
    next_step = float((future[0] - stamps[-1]) / np.timedelta64(1, "s"))
    found += [
        float(np.log((scaled**4).mean())) if sigma > 0 else 0.0,
        float(np.log(usual_step)),
        float(np.log(usual_step) ** 2),
        float(np.log(max(next_step / usual_step, 1.0))),
        float((moves == 0).mean()),
        float(np.log((ranges.mean() + 1e-300) / (squares.mean() + 1e-300))),
        float(np.log(len(bars) / LONGEST)),
    ]
    summed = np.cumsum(coming)
    ends = np.minimum(horizons, len(coming))
    season = np.log(summed[ends - 1] / ends)
    return np.column_stack([np.tile(found, (len(ends), 1)), season])


# -- the regressions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PooledHar:
    """Coefficients of all horizons: ln(realised variance over that of the context) = intercept + Σ coefficient × z.

    z are the features less ``center`` in units of ``spread``, cut at four of them.
    """

    center: Floats  # (J, K), one row for each of ``HORIZONS``
    spread: Floats  # (J, K)
    coefficients: Floats  # (J, K + 1), the intercept first
    smearing: Floats  # (J,) mean of the true ratio over the exponential of the forecast one (Duan, 1983)

    @classmethod
    def fit(cls, found: Floats, ratios: Floats, weights: Floats, penalty: float = 30.0) -> PooledHar:
        """Ridge regressions of many windows.

        Args:
            found: (N, J, K) features.
            ratios: (N, J) mean squared move up to each horizon over that of the context; NaN where it is not known.
            weights: (N,) of the windows.
            penalty: on the coefficients, in windows.
        """
        parts = []
        for j in range(found.shape[1]):
            known = np.isfinite(ratios[:, j])
            x, truth, weight = found[known, j], ratios[known, j], weights[known] / weights[known].mean()
            center = np.average(x, axis=0, weights=weight)
            spread = np.sqrt(np.average((x - center) ** 2, axis=0, weights=weight)) + 1e-9
            z = _standard(x, center, spread)
            keep = np.diag([0.0, *[penalty] * x.shape[1]])
            solved = np.linalg.solve((z.T * weight) @ z + keep, (z.T * weight) @ np.log(truth + _LEAST))
            parts.append((center, spread, solved, np.average(truth / np.exp(z @ solved), weights=weight)))
        return cls(*(np.array(part) for part in zip(*parts, strict=True)))

    @classmethod
    def read(cls, path: Any) -> PooledHar:
        """The coefficients that :meth:`write` kept."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(*(np.array(kept[field.name]) for field in fields(cls)))

    def write(self, path: Path, **about: Any) -> None:
        """Keeps the coefficients as JSON, with what there is to say about them."""
        write_json(path, {**about, **{f.name: getattr(self, f.name).round(6).tolist() for f in fields(self)}}, indent=1)

    def log_ratios(self, context: Context, horizon: int) -> Floats:
        """(horizon,) expected ln of the mean squared move up to each bar ahead, over that of the context.

        Between two of ``HORIZONS`` linear in ln h, from the bars up to there alone: a longer horizon leaves the
        earlier bars as they are. ``_LEAST`` is part of the ratio, as in :func:`log_levels`. NaN, as nothing is known,
        of a context of fewer than ``FEWEST`` bars or one that stands still.
        """
        if len(context.values) < FEWEST or not usual_variance(context) > 0:
            return np.full(horizon, np.nan)
        steps = range(1, horizon + 1)
        z = _standard(features(context, steps)[:, None], self.center, self.spread)  # (horizon, J, K + 1)
        at_knots = (z * self.coefficients).sum(axis=-1)
        return np.array(
            [np.interp(np.log(h), np.log(HORIZONS), found) for h, found in zip(steps, at_knots, strict=True)]
        )

    def realized_variance(self, context: Context, horizon: int) -> Floats:
        """(horizon,) expected sum of the squared log moves up to each bar ahead.

        Where :meth:`log_ratios` knows nothing, that of the context goes on.
        """
        steps = np.arange(1, horizon + 1)
        smearing = np.interp(np.log(steps), np.log(HORIZONS), np.log(self.smearing))
        found = self.log_ratios(context, horizon) + smearing
        return np.asarray(usual_variance(context) * steps * np.exp(np.where(np.isnan(found), 0.0, found)))


def usual_variance(context: Context) -> float:
    """Mean squared move of the bars that are read."""
    return float(squared_moves(context.values[-LONGEST:]).mean())


def log_levels(closes: Floats, usual: float) -> Floats:
    """(H,) mean over the paths of ln of the mean squared move up to each bar, over the usual one.

    Args:
        closes: (S, H) log closes less that of the last close.
        usual: mean squared move of the context, above 0.
    """
    moves = np.diff(closes, axis=1, prepend=0.0)
    means = np.cumsum(moves**2, axis=1) / np.arange(1, closes.shape[1] + 1)
    return np.asarray(np.log(means / usual + _LEAST).mean(axis=0))


def _standard(x: Floats, center: Floats, spread: Floats) -> Floats:
    """Features (…, K) in standard units, with a one before them."""
    z = np.clip((x - center) / spread, -_CLIP, _CLIP)
    return np.concatenate([np.ones((*z.shape[:-1], 1)), z], axis=-1)


@cache
def pooled_har() -> PooledHar:
    """The coefficients that ship with the package."""
    return PooledHar.read(files("kronos.pretrained") / "har.json")


def har_refit(context: Context, horizon: int) -> Floats:
    """(horizon,) as :meth:`PooledHar.log_ratios`, by a log-HAR fitted on this context alone.

    Least squares of the log of the mean Garman–Klass variance up to each of ``HORIZONS`` on that of the last 1, 5 and
    22 bars. A range tells the variance with less noise than a squared move does, so that its logarithm is larger on
    average: by how much in this context is taken off. Where too few bars are there to fit a horizon, the longest one
    that can be fitted stands for it; NaN where none can be, or the context stands still.
    """
    variance, squares, steps = garman_klass(context.values), squared_moves(context.values), np.arange(1, horizon + 1)
    mean, usual = float(variance[1 - LONGEST :].mean()), usual_variance(context)
    if not mean > 0 or not usual > 0:
        return np.full(horizon, np.nan)
    ranges, moves = (np.concatenate([[0.0], np.cumsum(each)]) for each in (variance / mean, squares / usual))
    ends = np.arange(_HAR[-1], len(variance) + 1)  # bars known
    past = (np.log((ranges[ends] - ranges[ends - back]) / back + _LEAST) for back in _HAR)
    x = np.column_stack([np.ones(len(ends)), *past])
    at, found = [], []
    for ahead in HORIZONS:
        pairs = len(ends) - ahead
        if pairs < _FEWEST_PAIRS:
            break
        here = ends[:pairs]
        by_range, by_moves = (np.log((sums[here + ahead] - sums[here]) / ahead + _LEAST) for sums in (ranges, moves))
        solved = np.linalg.lstsq(x[:pairs], by_range, rcond=None)[0]
        at.append(ahead)
        found.append(float(x[-1] @ solved + (by_moves - by_range).mean()))
    return np.asarray(np.interp(np.log(steps), np.log(at), found)) if at else np.full(horizon, np.nan)
