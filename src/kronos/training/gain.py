"""What a tokenizer's decoded moves must be multiplied by, so that a path's volatility neither wastes away nor grows.

A token is decoded to the mean of the bars it stands for, and a mean moves less than they do. Where the unit of the
next move is a running volatility that feeds on the moves before it (``bar_transform: running``), a path would calm
down bar by bar. With the gain, true and decoded bars change the logarithm of the weighted variance alike on average.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from kronos.bars.transform.running import DECAY, moves_variance
from kronos.model import KronosTokenizer
from kronos.training.stages import TrainingBatch

_SETTLED = 32  # bars after which a window's running volatility is worth the name
_RANGE = (0.8, 1.25)  # beyond it a tokenizer is not trained yet

Variances = NDArray[np.float64]


@torch.inference_mode()
def measured_gain(tokenizer: KronosTokenizer, batches: Iterable[TrainingBatch], fewest: int = 1) -> float | None:
    """The ``move_gain`` of a tokenizer that reads bars by ``running``, from bars of its training side.

    Args:
        tokenizer: in eval mode, on the CPU.
        batches: of windows of more than 32 bars; shorter ones, and the first 32 bars of each, tell nothing.
        fewest: bars that tell something, below which the gain would be noise.

    Returns:
        Within .8 to 1.25, to four places; None where too few bars tell anything.
    """
    true, decoded = [], []
    for batch in batches:
        told = (batch.real[:, _SETTLED:] > 0).numpy()
        back = tokenizer.decode(tokenizer.encode(batch.features, half=True), half=True)
        true.append(_variances(batch.features)[told])
        decoded.append(_variances(back)[told])
    a, b = np.concatenate(true), np.concatenate(decoded)
    return round(_fitted(a, b), 4) if a.size >= fewest else None


def _variances(features: torch.Tensor) -> Variances:
    """(B, T, 6) features -> (B, T - 32) variances of bars, in units of what was expected of them."""
    return np.asarray(moves_variance(np.sinh(features[:, _SETTLED:, :4].double().numpy())))


def _growth(variances: Variances) -> float:
    """Mean change of the logarithm of the weighted variance with a bar."""
    return float(np.log(DECAY + (1.0 - DECAY) * variances).mean())


def _fitted(true: Variances, decoded: Variances) -> float:
    """The gain that gives decoded bars the growth of true ones, by halving."""
    low, high = _RANGE
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if _growth(middle**2 * decoded) < _growth(true) else (low, middle)
    return (low + high) / 2
