"""Make intervals honest: fit a temperature and a width by horizon on past windows, judge on later ones.

Pure numpy. ``paths`` are log closes of sampled paths relative to the last close, (N, S, H), ``truth`` (N, H) the same
of what came; divide both by the context's one-bar volatility first, so that all windows weigh alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.errors import ConfigError
from kronos.evaluation import metrics
from kronos.evaluation.statistics import Estimate, cluster_bootstrap, ratio_of_means
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, FloatArray, Forecaster, are_mirrors, sample_in_batches, width_at
from kronos.spec import ForecastSpec

#: Factors of the width that are tried; 1 is among them.
FACTORS = np.exp(np.linspace(np.log(0.5), np.log(2.0), 121))
#: CRPS after over before that is surely not passed where a better coverage is to count although CRPS did not fall.
DEAREST = 1.02


def fit_temperature(paths_by_temperature: Mapping[float, FloatArray], truth: FloatArray) -> float:
    """The temperature of the grid with the lowest mean CRPS (a proper score: it cannot be won by mere width).

    Args:
        paths_by_temperature: paths (N, S, H) sampled at each temperature.
    """
    scores = {temperature: float(_crps(paths, truth).mean()) for temperature, paths in paths_by_temperature.items()}
    return min(scores, key=lambda t: (scores[t], abs(t - 1.0)))


def _crps(paths: FloatArray, truth: FloatArray) -> FloatArray:
    """(N,) mean over the steps."""
    if paths.ndim != 3 or truth.shape != (paths.shape[0], paths.shape[2]) or paths.shape[1] < 2:
        raise ConfigError(f"paths {paths.shape} and truth {truth.shape}: need (N, S, H) with S ≥ 2, and (N, H)")
    mirrored = _are_mirrors(paths)
    return np.asarray(metrics.crps(truth, np.moveaxis(paths, 1, -1), mirrored=mirrored).mean(axis=1))


def _are_mirrors(paths: FloatArray) -> bool:
    """Whether the paths (N, S, H) of all windows are mirrored."""
    return are_mirrors(np.moveaxis(paths, 1, 0))


def mirrored_closes(paths: FloatArray) -> FloatArray:
    """(N, S, H) closes as the forecasts without direction have them: the earlier half, each followed by its mirror."""
    half = paths[:, : -(-paths.shape[1] // 2)]
    pairs = np.stack([half, -half], axis=2).reshape(len(paths), -1, paths.shape[2])
    return np.asarray(pairs[:, : paths.shape[1]])


def default_knots(horizon: int) -> tuple[int, ...]:
    """1, 2, 4, 8 … and the horizon itself: forecasts change on a logarithmic scale."""
    knots = [1 << k for k in range(horizon.bit_length())]
    if 1 < horizon / knots[-1] < 1.5 and len(knots) > 1:
        knots.pop()
    return tuple(dict.fromkeys([*knots, horizon]))


def fit_width(paths: FloatArray, truth: FloatArray, knots: Sequence[int] | None = None) -> dict[str, list[Any]]:
    """The width by horizon whose intervals cover what they say, as :func:`~kronos.protocol.width_at` reads it.

    Minimises the mean pinball loss of the quantiles at the ends of the 50, 80 and 90 % intervals (proper for
    quantiles: the minimum lies where the coverage is right, and a window with a small spread counts little) by
    coordinate descent over the knots. Each step's loss is tabulated once on a grid of factors, so the descent itself
    costs nothing.

    Args:
        paths: (N, S, H), truth: (N, H).
        knots: steps at which there is a factor; by default powers of two up to H.
    """
    horizon = paths.shape[2]
    steps = list(knots or default_knots(horizon))
    tails = sorted({t for level in metrics.LEVELS for t in ((1 - level) / 2, 1 - (1 - level) / 2)})
    reach = metrics.sample_quantile(np.moveaxis(paths, 1, -1), tails)  # (N, H, Q)
    loss = np.zeros((horizon, len(FACTORS)))  # mean pinball loss over the windows
    for (column, tail), (place, factor) in product(enumerate(tails), enumerate(FACTORS)):
        loss[:, place] += metrics.pinball(truth, factor * reach[..., column], tail).mean(axis=0)

    def total(factors: FloatArray) -> float:
        wanted = width_at({"horizon": steps, "factor": factors}, horizon)
        return float(sum(np.interp(w, FACTORS, loss[h]) for h, w in enumerate(wanted)))

    factors = np.full(len(steps), FACTORS[int(loss.sum(axis=0).argmin())])
    for k in [*range(len(steps))] * 3:
        trials = [total(np.where(np.arange(len(steps)) == k, value, factors)) for value in FACTORS]
        factors[k] = FACTORS[int(np.argmin(trials))]
    return {"horizon": steps, "factor": [round(float(factor), 4) for factor in factors]}


def relative_closes(window: Window, paths: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Log closes relative to the last close over the context's volatility: paths (S, H) and truth (H,)."""
    start, sigma = np.log(window.context.last_close), window.context.volatility()
    made, real = np.log(np.asarray(paths, float)[..., CLOSE]), np.log(window.truth[:, CLOSE])
    return (made - start) / sigma, (real - start) / sigma


def sample_closes(
    forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int, count: Callable[[], object]
) -> tuple[FloatArray, FloatArray]:
    """Forecasts of windows of one horizon as :func:`relative_closes`: paths (N, S, H) and truths (N, H).

    ``count`` is called after each window.
    """
    pairs, contexts = [], [window.context for window in windows]
    spec = ForecastSpec(horizon=len(windows[0].truth), num_samples=num_samples, seed=seed)
    for index, paths in sample_in_batches(forecaster, contexts, spec, batch_size=16):
        pairs.append(relative_closes(windows[index], paths))
        count()
    made, real = (np.stack(side) for side in zip(*pairs, strict=True))
    return made, real


def judge_direction(paths: FloatArray, truth: FloatArray, clusters: npt.NDArray[Any]) -> dict[str, Any]:
    """Whether the directions of forecasts (N, S, H), of windows that nothing was fitted on, are worth anything.

    They are where their mean CRPS over that of the same forecasts mirrored lies below 1 with its whole interval.
    Directions cost nothing where they are right by chance, so without that proof none are given.

    Returns:
        ``chosen``: ``model`` or ``none``; ``words``, the reason in a sentence; ``crps_ratio`` with its interval of
        95 % by clusters.
    """
    scores = np.column_stack([_crps(paths, truth), _crps(mirrored_closes(paths), truth)])
    ratio = cluster_bootstrap(clusters, scores, ratio_of_means)
    chosen = "model" if ratio.high < 1 else "none"
    found = f"CRPS with the model's own is {ratio.value:.4f} of that of mirrored paths {_bounds(ratio, 4)}"
    verdict = {"model": "The model's directions are kept", "none": "No directions are given"}[chosen]
    return {"chosen": chosen, "words": f"{verdict}: {found}.", "crps_ratio": ratio.as_dict()}


def judge(before: FloatArray, after: FloatArray, truth: FloatArray, clusters: npt.NDArray[Any]) -> dict[str, Any]:
    """What a calibration did to forecasts (N, S, H) of windows that it was not fitted on, against truths (N, H).

    It is better where the interval of one figure says so: CRPS fell, or coverage came nearer to what the intervals say
    and CRPS did not pay for it. Chance alone moves both figures, so neither counts by its value.

    Args:
        clusters: (N,) labels of windows that move together, see ``summary.cluster_labels``.

    Returns:
        ``better``, and ``words``, the verdict in a sentence; ``coverage`` of each interval before and after, and
        ``coverage_gain``, by how much it is nearer to its level, on average over the intervals; ``crps_ratio``, mean
        CRPS after over before, below 1 is better. Figures have intervals of 95 % by clusters.
    """
    ratio = cluster_bootstrap(clusters, np.column_stack([_crps(after, truth), _crps(before, truth)]), ratio_of_means)
    inside = {side: _inside(paths, truth) for side, paths in (("before", before), ("after", after))}
    coverage = {
        side: {f"{x:.0%}": cluster_bootstrap(clusters, found[:, k]).as_dict() for k, x in enumerate(metrics.LEVELS)}
        for side, found in inside.items()
    }
    gain = cluster_bootstrap(clusters, np.hstack([inside["before"], inside["after"]]), _nearer)
    errors = [_off(found.mean(axis=0)) for found in inside.values()]
    sharper, nearer = ratio.high < 1, gain.low > 0
    unpaid = not ratio.low > 1 and (ratio.value <= 1 or ratio.high < DEAREST)
    better = (sharper and gain.value >= 0) or (nearer and unpaid)
    if better:
        words = "Better calibrated on later windows"
    elif sharper:
        words = "A better score, but intervals that say less what they cover"
    elif gain.value < 0 or ratio.low > 1:
        words = "Not better, keep the checkpoint as it was"
    else:
        words = "No gain shown on later windows"
    words += f": coverage was off by {errors[0]:.3f} on average and is now by {errors[1]:.3f}, {gain.value:.3f} nearer "
    words += f"{_bounds(gain, 3)}; CRPS is {ratio.value:.4f} of what it was {_bounds(ratio, 4)}."
    figures = {"coverage": coverage, "coverage_gain": gain.as_dict(), "crps_ratio": ratio.as_dict()}
    return {"better": better, "words": words, **figures}


def _bounds(found: Estimate, digits: int) -> str:
    """The interval in brackets."""
    known = np.isfinite(found.low)
    return f"[{found.low:.{digits}f}, {found.high:.{digits}f}]" if known else "[too few dates for an interval]"


def _inside(paths: FloatArray, truth: FloatArray) -> FloatArray:
    """(N, L) share of the steps at which the interval of each level holds the truth."""
    samples = np.moveaxis(paths, 1, -1)
    samples = metrics.with_centre(samples) if _are_mirrors(paths) else samples
    return np.column_stack([metrics.covered(truth, samples, level).mean(axis=1) for level in metrics.LEVELS])


def _off(coverage: FloatArray) -> FloatArray:
    """Mean distance of coverages (…, L) from their levels."""
    return np.asarray(np.abs(coverage - np.array(metrics.LEVELS)).mean(axis=-1))


def _nearer(means: FloatArray) -> FloatArray:
    """By how much the coverages (…, 2 L), before and after, came nearer to their levels: for a bootstrap."""
    before, after = np.split(means, 2, axis=-1)
    return _off(before) - _off(after)


def split_by_time(
    cutoffs: npt.NDArray[np.datetime64], embargo: np.timedelta64
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks (N,) of the earlier half of windows, to fit on, and of later ones to judge on.

    Args:
        cutoffs: (N,) ends of the contexts.
        embargo: left out between the two; at least the span of the horizon, so that no fitted truth is judged.
    """
    border = np.sort(cutoffs)[(len(cutoffs) - 1) // 2]
    return cutoffs <= border, cutoffs > border + embargo
