"""The calibrated width of a forecast: how far the paths spread, corrected by horizon.

A trained model's intervals may cover too little or too much. Factors fitted on past forecasts correct that without
touching the order of the paths: with C the last close of the context and p any price of a path at bar h,

    p  →  C · (p / C) ** factor(h)

so every log distance from where the market stands is multiplied by ``factor(h)``. The map is increasing, so a bar
stays valid; it is scale-free; and it looks at no other path. Between the fitted horizons the factor is interpolated
linearly in ln h; beyond them it stays what it was.

In a checkpoint's config: ``"calibration": {"width": {"horizon": [1, 2, 4, …], "factor": [1.1, 1.08, …]}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.model.config import check_width

_N_PRICES = 4


def width_factors(width: Mapping[str, Any], horizon: int) -> npt.NDArray[np.float64]:
    """(H,) the factor of each bar ahead.

    Raises:
        ConfigError: the calibration is not two lists of one length, horizons increasing from 1 or more, factors
            positive.
    """
    check_width(width)
    at, factor = (np.asarray(width[name], dtype=np.float64) for name in ("horizon", "factor"))
    return np.interp(np.log(np.arange(1, horizon + 1)), np.log(at), factor)


def widen(
    bars: npt.NDArray[np.float64], last_close: float, factors: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Paths (S, H, 6) with the log distance of every price from ``last_close`` multiplied by the bar's factor (H,)."""
    out = bars.copy()
    out[..., :_N_PRICES] = last_close * (bars[..., :_N_PRICES] / last_close) ** factors[:, None]
    return out
