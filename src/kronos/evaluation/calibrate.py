"""Make intervals honest: fit a temperature and a width by horizon on past windows, judge on later ones.

Pure numpy. ``paths`` are log closes of sampled paths relative to the last close, (N, S, H), ``truth`` (N, H) the same
of what came; divide both by the context's one-bar volatility first, so that all windows weigh alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.errors import ConfigError
from kronos.evaluation import metrics
from kronos.evaluation.statistics import Estimate, cluster_bootstrap, first_mean, ratio_of_means
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, Forecaster, sample_in_batches
from kronos.spec import ForecastSpec

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WidthCurve:
    """A factor on every log distance from the last close, by step ahead.

    Between knots the factor is linear in the logarithm of the step; beyond them it is constant. The same curve, and
    the same names in :meth:`as_dict`, as the ``calibration`` entry of a checkpoint's config.

    Args:
        steps: knots, ascending, from 1.
        factors: positive; above 1 widens.
    """

    steps: tuple[int, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or len(self.steps) != len(self.factors) or not ascending or self.steps[0] < 1:
            raise ConfigError(f"width curve: knots {self.steps} and factors {self.factors} do not make a curve")
        if not all(np.isfinite(f) and f > 0 for f in self.factors):
            raise ConfigError(f"width curve: factors must be positive, found {self.factors}")

    def at(self, horizon: int) -> FloatArray:
        """(horizon,) factors of steps 1 … horizon."""
        return np.asarray(np.interp(np.log(np.arange(1, horizon + 1)), np.log(self.steps), self.factors))

    def apply(self, paths: FloatArray) -> FloatArray:
        """Paths (N, S, H), logs relative to the last close, multiplied by the factor of their step."""
        return np.asarray(paths * self.at(paths.shape[2]))

    def as_dict(self) -> dict[str, list[int] | list[float]]:
        """``{"horizon": […], "factor": […]}``, the width entry of a checkpoint's calibration."""
        return {"horizon": list(self.steps), "factor": [round(f, 4) for f in self.factors]}


def fit_temperature(
    paths_by_temperature: Mapping[float, FloatArray], truth: FloatArray, weights: npt.ArrayLike | None = None
) -> float:
    """The temperature of the grid with the lowest mean CRPS (a proper score: it cannot be won by mere width).

    Args:
        paths_by_temperature: paths (N, S, H) sampled at each temperature.
        weights: (N,) of the windows, by default equal.
    """
    if not paths_by_temperature:
        raise ConfigError("no temperature to choose from")
    weigh = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    scores = {
        temperature: float((_crps(paths, truth) * weigh).sum() / weigh.sum())
        for temperature, paths in paths_by_temperature.items()
    }
    return min(scores, key=lambda t: (scores[t], abs(t - 1.0)))


def _crps(paths: FloatArray, truth: FloatArray) -> FloatArray:
    """(N,) mean over the steps."""
    _check(paths, truth)
    return np.asarray(metrics.crps(truth, np.moveaxis(paths, 1, -1)).mean(axis=1))


def default_knots(horizon: int) -> tuple[int, ...]:
    """1, 2, 4, 8 … and the horizon itself: forecasts change on a logarithmic scale."""
    knots = [1 << k for k in range(horizon.bit_length())]
    if knots[-1] < horizon:
        if horizon / knots[-1] < 1.5 and len(knots) > 1:
            knots.pop()
        knots.append(horizon)
    return tuple(knots)


def fit_width(
    paths: FloatArray,
    truth: FloatArray,
    *,
    knots: Sequence[int] | None = None,
    bounds: tuple[float, float] = (0.5, 2.0),
    sweeps: int = 3,
    levels: Sequence[float] = (0.5, 0.8, 0.9),
) -> WidthCurve:
    """The width curve whose intervals cover what they say.

    Minimises the mean pinball loss of the quantiles at the ends of ``levels`` (proper for quantiles: the minimum lies
    where the coverage is right, and a window with a small spread counts little) by coordinate descent over the
    knots. Each step's loss is tabulated once on a grid of factors, so the descent itself costs nothing.

    Args:
        paths: (N, S, H), truth: (N, H).
        knots: steps of the curve; by default powers of two up to H.
        bounds: smallest and largest factor.
    """
    _check(paths, truth)
    horizon = paths.shape[2]
    chosen = tuple(sorted({min(max(int(k), 1), horizon) for k in (knots or default_knots(horizon))}))
    grid = np.exp(np.linspace(np.log(bounds[0]), np.log(bounds[1]), 121))
    loss = _loss_table(paths, truth, grid, levels)  # (H, G)

    def total(factors: FloatArray) -> float:
        wanted = WidthCurve(chosen, tuple(factors)).at(horizon)
        return float(sum(np.interp(w, grid, loss[h]) for h, w in enumerate(wanted)))

    factors = np.full(len(chosen), grid[int(loss.sum(axis=0).argmin())])
    for _ in range(sweeps):
        for k in range(len(factors)):
            trials = [total(np.where(np.arange(len(factors)) == k, value, factors)) for value in grid]
            factors[k] = grid[int(np.argmin(trials))]
    return WidthCurve(chosen, tuple(float(v) for v in factors))


def _loss_table(paths: FloatArray, truth: FloatArray, grid: FloatArray, levels: Sequence[float]) -> FloatArray:
    """(H, G) mean pinball loss over the windows at each step for each factor."""
    tails = sorted({t for level in levels for t in ((1 - level) / 2, 1 - (1 - level) / 2)})
    reach = metrics.sample_quantile(np.moveaxis(paths, 1, -1), tails)  # (N, H, Q)
    out = np.zeros((paths.shape[2], len(grid)))
    for (column, tail), (place, factor) in product(enumerate(tails), enumerate(grid)):
        out[:, place] += metrics.pinball(truth, factor * reach[..., column], tail).mean(axis=0)
    return out


def relative_closes(window: Window, paths: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Log closes relative to the last close over the context's volatility: paths (S, H) and truth (H,)."""
    start, sigma = np.log(window.context.last_close), window.context.volatility()
    made, real = np.log(np.asarray(paths, float)[..., CLOSE]), np.log(window.truth[:, CLOSE])
    return (made - start) / sigma, (real - start) / sigma


def sample_closes(
    forecaster: Forecaster,
    windows: Sequence[Window],
    num_samples: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Forecasts of windows of one horizon as :func:`relative_closes`: paths (N, S, H) and truths (N, H).

    ``progress`` is called with the number of windows that are done.
    """
    pairs, contexts = [], [window.context for window in windows]
    spec = ForecastSpec(horizon=len(windows[0].truth), num_samples=num_samples, seed=seed)
    for index, paths in sample_in_batches(forecaster, contexts, spec, batch_size=16):
        pairs.append(relative_closes(windows[index], paths))
        if progress is not None:
            progress(index + 1)
    made, real = (np.stack(side) for side in zip(*pairs, strict=True))
    return made, real


@dataclass(frozen=True)
class Judgement:
    """What a calibration did to forecasts of windows that it was not fitted on; intervals of 95 % by clusters.

    ``crps_ratio`` is mean CRPS after over before, of the same windows; below 1 is better.
    """

    before: dict[float, Estimate]
    after: dict[float, Estimate]
    crps_ratio: Estimate

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        coverage = {
            side: {f"{level:.0%}": found.as_dict() for level, found in levels.items()}
            for side, levels in (("before", self.before), ("after", self.after))
        }
        return {"coverage": coverage, "crps_ratio": self.crps_ratio.as_dict()}

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        errors = [
            float(np.mean([abs(found.value - level) for level, found in side.items()]))
            for side in (self.before, self.after)
        ]
        ratio = self.crps_ratio
        moved = f"coverage was off by {errors[0]:.3f} on average and is now by {errors[1]:.3f}"
        figure = f"CRPS is {ratio.value:.4f} of what it was [{ratio.low:.4f}, {ratio.high:.4f}]"
        further, sharper = errors[1] > errors[0], ratio.high < 1
        if sharper and further:
            return f"A better score, but intervals that say less what they cover: {moved}; {figure}."
        if further or ratio.low > 1:
            return f"Not better, keep the checkpoint as it was: {moved}; {figure}."
        if sharper or errors[1] < 0.8 * errors[0]:
            return f"Better calibrated on later windows: {moved}; {figure}."
        return f"No gain shown on later windows: {moved}; {figure}."


def judge(before: FloatArray, after: FloatArray, truth: FloatArray, clusters: npt.NDArray[Any]) -> Judgement:
    """Forecasts before and after a calibration, (N, S, H) each, against truths (N, H).

    Args:
        clusters: (N,) labels of windows that move together, see ``summary.cluster_labels``.
    """
    scores = np.column_stack([_crps(after, truth), _crps(before, truth)])

    def coverage(paths: FloatArray, level: float) -> Estimate:
        inside = metrics.covered(truth, np.moveaxis(paths, 1, -1), level).mean(axis=1)
        return cluster_bootstrap(clusters, inside, first_mean)

    sides = [{level: coverage(paths, level) for level in metrics.LEVELS} for paths in (before, after)]
    return Judgement(sides[0], sides[1], cluster_bootstrap(clusters, scores, ratio_of_means))


def split_by_time(
    cutoffs: npt.NDArray[np.datetime64], embargo: np.timedelta64, share: float = 0.5
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks (N,) of windows to fit on and of later ones to judge on.

    Args:
        cutoffs: (N,) ends of the contexts.
        embargo: left out between the two; at least the span of the horizon, so that no fitted truth is judged.
        share: of the windows that fit.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"share {share} is outside (0, 1)")
    border = np.sort(cutoffs)[int(share * (len(cutoffs) - 1))]
    return cutoffs <= border, cutoffs > border + embargo


def _check(paths: FloatArray, truth: FloatArray) -> None:
    if paths.ndim != 3 or truth.shape != (paths.shape[0], paths.shape[2]) or paths.shape[1] < 2:
        raise ConfigError(f"paths {paths.shape} and truth {truth.shape}: need (N, S, H) with S ≥ 2, and (N, H)")
