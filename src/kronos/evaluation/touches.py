"""Chances that prices are touched within the horizon, against what the truth's highs and lows did.

The barriers of a window lie at ``last close · exp(±k σ √H)``, σ the context's one-bar volatility and H the horizon,
for several k; of the pair at k = 1 also which is touched first: the take profit above or the stop loss below. The share
of a forecaster's paths that touch is its chance. The Brier score of an event is the CRPS of its paths' flags, and fair
as that is: its mean does not depend on the number of paths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kronos.barriers import LOSS, PROFIT, first_touch, touched
from kronos.evaluation import metrics
from kronos.protocol import CLOSE, Context, FloatArray, are_mirrors

#: How far the barriers lie, in σ √H.
MULTIPLES = (0.5, 1.0, 1.5)
#: The multiple of the take profit and of the stop loss.
FIRST_AT = 1.0
#: Log distances σ √H at which barriers can be told from the last close, also in single precision, and from infinity.
TINY, HUGE = 1e-6, 100.0
#: Names of what is asked of each pair of barriers: ``up_050`` is the barrier .5 σ √H above the last close.
EVENTS = tuple(f"{side}_{round(100 * k):03d}" for k in MULTIPLES for side in ("up", "down"))
#: Which barrier is touched first; where one bar touches both, neither of these is known to have happened.
FIRST = ("profit_first", "loss_first")


def touch_scores(context: Context, truth: FloatArray, paths: FloatArray) -> dict[str, float]:
    """Of every event its ``chance_…``, whether it came (``came_…``, 0 or 1) and its fair ``brier_…``.

    Args:
        context: gives last close and σ; everything is NaN where it does not move, or beyond all measure.
        truth: (H, 6) what came; ``paths``: (S, H, 6).
    """
    out: dict[str, float] = {}
    reach, last = context.volatility() * np.sqrt(len(truth)), context.last_close
    if not TINY < reach < HUGE:
        return {f"{what}_{event}": np.nan for event in (*EVENTS, *FIRST) for what in ("chance", "came", "brier")}
    mirrored = are_mirrors(np.log(paths[..., CLOSE] / last))
    for event in EVENTS:
        side, k = event.split("_")
        barrier = last * np.exp((1.0 if side == "up" else -1.0) * int(k) / 100.0 * reach)
        mine, came = (touched(bars, barrier, last)[..., -1] for bars in (paths, truth))
        out |= _scored(event, mine, bool(came), mirrored)
    ends = last * np.exp(FIRST_AT * reach), last * np.exp(-FIRST_AT * reach)
    firsts, first = (first_touch(bars, *ends, last).outcome for bars in (paths, truth))
    for event, outcome in zip(FIRST, (PROFIT, LOSS), strict=True):
        out |= _scored(event, firsts == outcome, bool(first == outcome), mirrored)
    return out


def _scored(event: str, flags: Any, came: bool, mirrored: bool) -> dict[str, float]:
    """The three numbers of an event; ``flags``: (S,) whether each path has it. Of mirrored paths pairs are left out."""
    brier = metrics.crps(float(came), flags.astype(float), mirrored=mirrored)
    return {f"chance_{event}": float(flags.mean()), f"came_{event}": float(came), f"brier_{event}": float(brier)}


def reliability(chance: ArrayLike, came: ArrayLike, bins: int = 10) -> list[dict[str, float]]:
    """What was said against what came, by tenths of the chance: those bins that hold a forecast.

    Each with its ends ``low`` and ``high``, ``number`` of forecasts, mean ``chance`` and share that ``came``. A chance
    of 1 is in the last bin.
    """
    p, y = np.asarray(chance, float).ravel(), np.asarray(came, float).ravel()
    known = np.isfinite(p) & np.isfinite(y)
    p, y = p[known], y[known]
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {
            "low": one / bins,
            "high": (one + 1) / bins,
            "number": int((place == one).sum()),
            "chance": float(p[place == one].mean()),
            "came": float(y[place == one].mean()),
        }
        for one in np.unique(place).tolist()
    ]
