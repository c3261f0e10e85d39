"""Paths without a direction: each is followed by its mirror about the last close.

A price p becomes last_close² / p, so that a path that rises by 2 % stands beside one that falls as far (in logarithms):
the median is flat, a rise as likely as a fall, and quantiles of the price carry less noise than those of as many
independent paths. What else the model knows, how far prices move, when and with which volume, stays.

:func:`kronos.protocol.are_mirrors` tells such paths from others, for whoever counts or scores them.
"""

from __future__ import annotations

import numpy as np

from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, FloatArray

_PRICES = slice(CLOSE + 1)


def with_mirrors(bars: FloatArray, last_close: float, num_samples: int) -> FloatArray:
    """Valid paths (ceil(S / 2), H, 6) -> (S, H, 6): path 2i is the i-th of them and 2i + 1 its mirror.

    Of an odd number of paths the last has no mirror. The mirror's high is that of the low; volume stays, and amount
    keeps its ratio to volume times the mean price. The map is decreasing, also when rounded, so bars stay valid.
    """
    mirrors = bars.copy()
    prices = last_close * (last_close / bars[..., _PRICES])
    prices[..., [HIGH, LOW]] = prices[..., [LOW, HIGH]]
    mirrors[..., _PRICES] = prices
    mirrors[..., AMOUNT] *= prices.mean(axis=-1) / bars[..., _PRICES].mean(axis=-1)
    return np.stack([bars, mirrors], axis=1).reshape(-1, *bars.shape[1:])[:num_samples]
