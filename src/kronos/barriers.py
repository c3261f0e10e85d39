"""Whether and when paths touch prices: one price by each bar, and which of two barriers is touched first.

Pure functions of arrays of bars (…, H, 6) that follow a last close: sample paths (S, H, 6), windows of them
(W, S, H, 6), or what happened (H, 6). A bar tells how far prices went within it, not in which order: two barriers
touched within one bar are told as ``both``. Only its open comes first, so a bar that opens beyond a barrier touched
that one first.

Prices are compared as exactly as the paths are held: 105.1 is touched by a single-precision high of 105.1.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kronos.errors import ConfigError
from kronos.protocol import HIGH, LOW, OPEN

Paths = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

OUTCOMES: Final = ("profit", "loss", "both", "neither")
"""What is touched first: the take profit, the stop loss, both in one bar that does not say which, or neither."""
PROFIT, LOSS, BOTH, NEITHER = range(4)

_ROUNDING: Final = 1e-7  # relative; of single precision, in which bars are often kept


class FirstTouch(NamedTuple):
    """How each path ends.

    Attributes:
        outcome: (…) places in ``OUTCOMES``.
        bars: (…) bars from the last close to the one that touches, 1 … H; 0 where neither is touched.
    """

    outcome: npt.NDArray[np.int8]
    bars: npt.NDArray[np.intp]

    def shares(self) -> npt.NDArray[np.float64]:
        """(4, …) share of the paths, the last axis, with each outcome, in the order of ``OUTCOMES``."""
        return np.stack([(self.outcome == place).mean(axis=-1) for place in range(len(OUTCOMES))])


def touched(paths: Paths, price: npt.ArrayLike, last_close: npt.ArrayLike) -> Flags:
    """(…, H) whether each path has touched a price by the end of each bar.

    A price above the last close is touched from below, by a high that reaches it; one below it from above, by a low.

    Args:
        paths: (…, H, 6) bars in the order of ``FEATURES``.
        price, last_close: positive, alike or broadcast to (…).

    Raises:
        ConfigError: as :func:`check_price`.
    """
    check_price(price, last_close)
    above = np.asarray(price) > np.asarray(last_close)
    return np.asarray(np.logical_or.accumulate(_reached_in_bars(paths, price, above), axis=-1))


def first_touch(
    paths: Paths, take_profit: npt.ArrayLike, stop_loss: npt.ArrayLike, last_close: npt.ArrayLike
) -> FirstTouch:
    """Which of two barriers each path touches first, and in which bar.

    The last close lies between them: a take profit above it is that of a long position, one below it of a short one.

    Args:
        paths: (…, H, 6) bars in the order of ``FEATURES``.
        take_profit, stop_loss, last_close: positive, alike or broadcast to (…).

    Raises:
        ConfigError: as :func:`check_barriers`.
    """
    check_barriers(take_profit, stop_loss, last_close)
    long = np.asarray(take_profit) > np.asarray(last_close)
    hits = [_reached_in_bars(paths, take_profit, long), _reached_in_bars(paths, stop_loss, ~long)]
    either = hits[0] | hits[1]
    at = either.argmax(axis=-1)[..., None]  # the first bar that touches; 0 where none does
    profit, loss = (np.take_along_axis(hit, at, axis=-1)[..., 0] for hit in hits)
    opens = np.take_along_axis(paths[..., OPEN], at, axis=-1)[..., 0]
    # At its open a bar cannot lie beyond both, and what it opens beyond was touched before all else.
    profit_at_open = _reached(opens, opens, take_profit, long)
    loss_at_open = _reached(opens, opens, stop_loss, ~long)
    outcome = np.select(
        [profit_at_open, loss_at_open, profit & loss, profit, loss], [PROFIT, LOSS, BOTH, PROFIT, LOSS], NEITHER
    )
    return FirstTouch(outcome.astype(np.int8), np.where(outcome == NEITHER, 0, at[..., 0] + 1))


def check_price(price: npt.ArrayLike, last_close: npt.ArrayLike) -> None:
    """Refuse what is no price, and the last close itself, which is touched already.

    Raises:
        ConfigError: says which price.
    """
    prices, last = (np.atleast_1d(a) for a in np.broadcast_arrays(price, last_close))
    if not (good := np.isfinite(prices) & (prices > 0)).all():
        raise ConfigError(f"A price to touch is a positive number; it is {prices[~good][0]:g}.")
    if (same := np.isclose(prices, last, rtol=_ROUNDING, atol=0.0)).any():
        raise ConfigError(
            f"The price {prices[same][0]:.10g} is the last close itself, which is touched already; "
            "give a price above or below it."
        )


def check_barriers(take_profit: npt.ArrayLike, stop_loss: npt.ArrayLike, last_close: npt.ArrayLike) -> None:
    """Refuse two barriers between which the last close does not lie.

    Raises:
        ConfigError: so, or as :func:`check_price`.
    """
    check_price(take_profit, last_close)
    check_price(stop_loss, last_close)
    profit, loss, last = (np.atleast_1d(a) for a in np.broadcast_arrays(take_profit, stop_loss, last_close))
    if (wrong := (profit > last) == (loss > last)).any():
        side = "above" if profit[wrong][0] > last[wrong][0] else "below"
        raise ConfigError(
            f"The take profit {profit[wrong][0]:.10g} and the stop loss {loss[wrong][0]:.10g} both lie {side} the last "
            f"close {last[wrong][0]:.10g}, which must lie between them: of a long position the take profit is above "
            "it and the stop loss below, of a short one the other way round."
        )


def _reached(high: Paths, low: Paths, price: npt.ArrayLike, above: npt.ArrayLike) -> Flags:
    """Whether prices from ``low`` to ``high`` reach one that lies above the last close, or below it."""
    with np.errstate(over="ignore"):  # infinity is out of reach too
        level = np.asarray(price).astype(high.dtype)
    return np.asarray(np.where(above, high >= level, low <= level))


def _reached_in_bars(paths: Paths, price: npt.ArrayLike, above: npt.ArrayLike) -> Flags:
    """(…, H) the same of each bar."""
    return _reached(paths[..., HIGH], paths[..., LOW], np.asarray(price)[..., None], np.asarray(above)[..., None])
