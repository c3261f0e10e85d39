"""Valid bars from published checkpoints.

They predict the six features of a bar independently, so a decoded bar may have its close above its high, or a
negative volume. :func:`repair_bars` is the smallest change that makes each bar valid. Our own checkpoints need none:
their features cannot express an invalid bar.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_PRICE_FLOOR = 1e-3  # of the last close, for prices that are not positive


def repair_bars(bars: npt.NDArray[np.float64], last_close: float) -> tuple[npt.NDArray[np.float64], int]:
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
    prices = out[..., :4]
    np.copyto(prices, _PRICE_FLOOR * last_close, where=~(prices > 0))
    out[..., 1], out[..., 2] = prices.max(-1), prices.min(-1)
    np.maximum(out[..., 4:], 0.0, out=out[..., 4:])
    return out, int((out != bars).any(-1).sum())
