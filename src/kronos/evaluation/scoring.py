"""From paths and truth to numbers: every metric of one window, in the units that reports use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kronos.evaluation import metrics
from kronos.evaluation.shapes import context_rng
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, OPEN, FloatArray

#: Quantile levels of the pinball loss in the long table.
PINBALL_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class WindowScore:
    """The scores of one forecaster on one window.

    ``steps`` holds one (H,) array per metric; ``whole`` one number per metric. "σ" is the context's one-bar
    volatility; prices enter as logs relative to the last close, divided by σ.
    """

    steps: dict[str, FloatArray]
    whole: dict[str, float]


def score_window(window: Window, paths: FloatArray, seed: int = 0) -> WindowScore:
    """All metrics of one window.

    Args:
        window: context and truth, H bars.
        paths: (S, H, 6) forecast.
        seed: of the random ranks of the PIT, drawn per (seed, context).

    Returns:
        ``steps``: crps [σ], absolute_error [σ], absolute_scaled_error (no unit, mean = MASE on prices),
        pinball_05 … pinball_95 [σ], energy [σ, joint open-high-low-close], hit (0, ½, 1), pit (0–1, NaN for a
        single path), covered_50/80/90 (0, 1), width_50/80/90 [σ], predicted_move and true_move [σ, since the last
        close, predicted = mean path].

        ``whole``: first_gap [σ, median over paths of |ln first open / last close|] and true_first_gap, invalid (share
        of bars), past_move [σ, over the last H bars], volatility (mean over paths) and true_volatility [realised over
        the horizon, log return], variance (mean of the paths' realised variance), context_volatility = σ, num_samples.
    """
    context, truth = window.context, window.truth
    sigma = context.volatility()
    unit = sigma if sigma > 0 else np.nan
    anchor = np.log(context.last_close)
    # volume does not enter: the sample axis goes last, (H, S) and (H, S, 4)
    prices = (np.log(np.moveaxis(paths[..., : CLOSE + 1], 0, 1)) - anchor) / unit
    real = (np.log(truth[:, : CLOSE + 1]) - anchor) / unit
    close, true_close = prices[..., CLOSE], real[:, CLOSE]
    rng = context_rng(seed + 1, context)

    steps: dict[str, FloatArray] = {
        "crps": metrics.crps(true_close, close),
        "absolute_error": metrics.absolute_error(true_close, close),
        "absolute_scaled_error": metrics.absolute_error(truth[:, CLOSE], paths[..., CLOSE].T)
        / metrics.mase_scale(context.values[:, CLOSE]),
        "energy": metrics.energy_score(real, prices),
        "hit": metrics.direction_hit(true_close, close),
        "pit": metrics.randomised_pit(true_close, close, rng) if len(paths) > 1 else np.full(len(truth), np.nan),
        "predicted_move": close.mean(axis=1),
        "true_move": true_close,
    }
    quantiles = metrics.sample_quantile(close, PINBALL_LEVELS)
    for column, level in enumerate(PINBALL_LEVELS):
        steps[f"pinball_{round(level * 100):02d}"] = metrics.pinball(true_close, quantiles[:, column], level)
    for level in metrics.LEVELS:
        tag = f"{round(level * 100)}"
        steps[f"covered_{tag}"] = metrics.covered(true_close, close, level)
        steps[f"width_{tag}"] = metrics.interval_width(close, level)
    return WindowScore(steps, _whole(window, paths, sigma, unit, prices))


def _whole(window: Window, paths: FloatArray, sigma: float, unit: float, prices: FloatArray) -> dict[str, float]:
    """The numbers that belong to the window as a whole."""
    context, horizon = window.context, len(window.truth)
    start = np.log(context.last_close)
    logs = np.log(paths[..., CLOSE])
    path_volatility = metrics.realised_volatility(np.column_stack([np.full(len(logs), start), logs]))
    true_volatility = metrics.realised_volatility(np.concatenate([[start], np.log(window.truth[:, CLOSE])]))
    closes = np.log(context.values[:, CLOSE])
    back = min(horizon, len(closes) - 1)
    return {
        "first_gap": float(np.median(np.abs(prices[0, :, OPEN]))),
        "true_first_gap": float(np.abs(np.log(window.truth[0, OPEN]) - start) / unit),
        "invalid": float(metrics.invalid_bars(paths).mean()),
        "past_move": float((closes[-1] - closes[-1 - back]) / unit),
        "volatility": float(path_volatility.mean()),
        "variance": float((path_volatility**2).mean()),
        "true_volatility": float(true_volatility),
        "context_volatility": sigma,
        "num_samples": float(len(paths)),
    }
