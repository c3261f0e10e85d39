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
from kronos.evaluation.statistics import cluster_bootstrap, ratio_of_means
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, FloatArray, Forecaster, sample_in_batches, width_at
from kronos.spec import ForecastSpec

#: Factors of the width that are tried; 1 is among them.
FACTORS = np.exp(np.linspace(np.log(0.5), np.log(2.0), 121))


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
    return np.asarray(metrics.crps(truth, np.moveaxis(paths, 1, -1)).mean(axis=1))


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


def judge(before: FloatArray, after: FloatArray, truth: FloatArray, clusters: npt.NDArray[Any]) -> dict[str, Any]:
    """What a calibration did to forecasts (N, S, H) of windows that it was not fitted on, against truths (N, H).

    Args:
        clusters: (N,) labels of windows that move together, see ``summary.cluster_labels``.

    Returns:
        ``better``, and ``words``, the verdict in a sentence; ``coverage`` of each interval before and after; and
        ``crps_ratio``, mean CRPS after over before, below 1 is better. Figures have intervals of 95 % by clusters.
    """
    ratio = cluster_bootstrap(clusters, np.column_stack([_crps(after, truth), _crps(before, truth)]), ratio_of_means)
    coverage: dict[str, Any] = {"before": {}, "after": {}}
    errors = []
    for side, paths in zip(coverage.values(), (before, after), strict=True):
        for level in metrics.LEVELS:
            inside = metrics.covered(truth, np.moveaxis(paths, 1, -1), level).mean(axis=1)
            side[f"{level:.0%}"] = cluster_bootstrap(clusters, inside).as_dict()
        found = zip(metrics.LEVELS, side.values(), strict=True)
        errors.append(float(np.mean([abs(one["value"] - level) for level, one in found])))
    further, sharper = errors[1] > errors[0], ratio.high < 1
    better = not further and not ratio.low > 1 and (sharper or errors[1] < 0.8 * errors[0])
    if better:
        words = "Better calibrated on later windows"
    elif sharper:
        words = "A better score, but intervals that say less what they cover"
    elif further or ratio.low > 1:
        words = "Not better, keep the checkpoint as it was"
    else:
        words = "No gain shown on later windows"
    words += f": coverage was off by {errors[0]:.3f} on average and is now by {errors[1]:.3f}; "
    words += f"CRPS is {ratio.value:.4f} of what it was [{ratio.low:.4f}, {ratio.high:.4f}]."
    return {"better": better, "words": words, "coverage": coverage, "crps_ratio": ratio.as_dict()}


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
