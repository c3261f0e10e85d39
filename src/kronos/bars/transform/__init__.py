"""Bars ↔ the six features that a tokenizer reads.

Three transforms, chosen by ``bar_transform`` in the tokenizer's config:

``zscore`` (published checkpoints)
    every column standardised over the context, clipped. Not scale-free, and a decoded bar need not be valid.

``returns``
    with σ the standard deviation of the context's close-to-close log returns, each bar after the first becomes

    - ``asinh(ln(open / previous close) / σ)`` — the gap,
    - ``asinh(ln(high / max(open, close)) / σ)`` — the upper shadow, never negative,
    - ``asinh(ln(min(open, close) / low) / σ)`` — the lower shadow, never negative,
    - ``asinh(ln(close / open) / σ)`` — the body,
    - log volume and log amount, standardised over the context; zero stands apart at the lower end.

    The inverse accumulates from the context's last close, so a path starts where the market stands and every bar is
    valid by construction; scaling prices or volumes by a constant scales the forecast by the same constant.

``running`` (kronos-nano)
    the same, but a bar's σ, and the mean and spread of its volumes, come from the bars before it, recent ones
    weighing most. No feature knows anything of a later bar, so a training window has no boundary to keep.

Statistics never know the future. Shapes: ``…`` any leading dimensions, T bars, H horizon, 6 features in the order of
:data:`kronos.bars.schema.FEATURES`.
"""

from __future__ import annotations

from kronos.bars.transform.base import DEFAULT_CLIP, BarTransform, Returns, ZScore
from kronos.bars.transform.running import RunningReturns
from kronos.errors import ConfigError

__all__ = ["DEFAULT_CLIP", "BarTransform", "Returns", "RunningReturns", "ZScore", "get_transform"]


def get_transform(name: str, move_gain: float = 1.0) -> BarTransform:
    """The transform that a tokenizer's ``bar_transform`` names.

    Args:
        move_gain: of the tokenizer; see :class:`RunningReturns`, which alone has one.

    Raises:
        ConfigError: no such transform.
    """
    if name == "zscore":
        return ZScore()
    if name == "returns":
        return Returns()
    if name == "running":
        return RunningReturns(move_gain)
    raise ConfigError(f"bar_transform is {name!r}; choose 'zscore', 'returns', 'running'")
