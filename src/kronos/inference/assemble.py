"""What is done to sampled bars before they are a ``Forecast``, and the record of where they come from.

*Width.* A trained model's intervals may cover too little or too much. Factors fitted on past forecasts correct that
without touching the order of the paths: with C the last close of the context and p any price of a path at bar h,

    p  →  C · (p / C) ** factor(h)

so every log distance from where the market stands is multiplied by ``factor(h)``. The map is increasing, so a bar
stays valid; it is scale-free; and it looks at no other path. In a checkpoint's config:
``"calibration": {"width": {"horizon": [1, 2, 4, …], "factor": [1.1, 1.08, …]}}``.

*Repair.* Published checkpoints predict the six features of a bar independently, so a decoded bar may have its close
above its high, or a negative volume. :func:`repair_bars` is the smallest change that makes each bar valid. Our
checkpoints need none: their features cannot express an invalid bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.inference.inputs import FutureTimes, PastBars
from kronos.inference.settings import DecodeSettings
from kronos.model.config import check_width
from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, VOLUME
from kronos.spec import ForecastSpec

Floats = npt.NDArray[np.float64]

_PRICES = slice(CLOSE + 1)
_PRICE_FLOOR = 1e-3  # of the last close, for prices that are not positive


def width_factors(width: Mapping[str, Any], horizon: int) -> Floats:
    """(H,) the factor of each bar ahead: linear in ln h between the fitted horizons, constant beyond them.

    Raises:
        ConfigError: the calibration is not two lists of one length, horizons increasing from 1 or more, factors
            positive.
    """
    check_width(width)
    at, factor = (np.asarray(width[name], dtype=np.float64) for name in ("horizon", "factor"))
    return np.interp(np.log(np.arange(1, horizon + 1)), np.log(at), factor)


def widen(bars: Floats, last_close: float, factors: Floats) -> Floats:
    """Paths (S, H, 6) with the log distance of every price from ``last_close`` multiplied by the bar's factor (H,)."""
    out = bars.copy()
    out[..., _PRICES] = last_close * (bars[..., _PRICES] / last_close) ** factors[:, None]
    return out


def repair_bars(bars: Floats, last_close: float) -> tuple[Floats, int]:
    """Makes every bar obey ``0 < low <= open, close <= high``, ``volume >= 0`` and ``amount >= 0``.

    A price at or below zero becomes a thousandth of the last close; then high is raised to the highest and low
    lowered to the lowest of the bar's prices; negative volume and amount become 0. Open and close are never moved
    otherwise, and a valid bar is left as it is.

    Args:
        bars: (S, H, 6).
        last_close: of the context, positive.

    Returns:
        The repaired bars, and how many of them were changed.
    """
    out = bars.copy()
    prices = out[..., _PRICES]
    np.copyto(prices, _PRICE_FLOOR * last_close, where=~(prices > 0))
    out[..., HIGH], out[..., LOW] = prices.max(-1), prices.min(-1)
    traded = slice(VOLUME, AMOUNT + 1)
    out[..., traded] = np.maximum(out[..., traded], 0.0)
    return out, int((out != bars).any(-1).sum())


def metadata(
    past: PastBars, future: FutureTimes, spec: ForecastSpec, settings: DecodeSettings, notes: list[str]
) -> dict[str, Any]:
    """What to know about a forecast besides its numbers and its model; plain types only.

    Args:
        notes: cautions about the context.
    """
    beyond = f"{future.estimated} timestamps lie beyond the calendar's end and are estimated"
    return {
        "seed": spec.seed,
        "settings": {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "num_samples": spec.num_samples,
            "window_stride": settings.window_stride,
        },
        "cutoff": past.times[-1].isoformat(),
        "horizon": spec.horizon,
        "calendar": future.calendar,
        "frequency": future.frequency,
        "context_length": len(past.bars),
        "estimated_timestamps": future.estimated,
        "warnings": [*notes, *future.notes, *([beyond] if future.estimated else [])],
    }
