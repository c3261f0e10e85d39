"""Which bars are for training and which are held apart: later dates, and symbols never seen.

A symbol's side is a hash of its name, so it is the same in every file and for every bar size. A group's cutoff is the
time after which its last 15 % of bars lie. Training sees neither held-apart symbols nor anything after the cutoff.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from kronos.bars.arrays import BarArrays, Segment
from kronos.errors import DataError

HELD_APART_SHARE = 0.12
LATER_SHARE = 0.15


def held_apart(symbol: str) -> bool:
    """Whether a symbol is kept out of training; a ``#source`` suffix does not matter."""
    name = symbol.split("#")[0]
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < HELD_APART_SHARE * 256


def cutoffs(arrays: BarArrays, later_share: float = LATER_SHARE) -> dict[str, int]:
    """For each group the time, in seconds since 1970, after which its last ``later_share`` of bars lie."""
    times: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    for segment in arrays.segments:
        times[segment.group].append(arrays.times[segment.start : segment.stop])
    return {group: _quantile(parts, 1 - later_share) for group, parts in times.items()}


def _quantile(parts: list[NDArray[np.int64]], share: float) -> int:
    """``np.quantile`` of sorted runs taken together, which may be mapped files larger than memory."""
    place = (sum(map(len, parts)) - 1) * share
    below = int(place)
    pair = [_ranked(parts, below), _ranked(parts, min(below + 1, sum(map(len, parts)) - 1))]
    return int(np.quantile(pair, place - below))


def _ranked(parts: list[NDArray[np.int64]], rank: int) -> int:
    """The value that ``rank`` others precede: halving the range of times, each half counted by its edges."""
    low, high = min(int(part[0]) for part in parts), max(int(part[-1]) for part in parts)
    while low < high:
        middle = (low + high) // 2
        if sum(int(np.searchsorted(part, middle, side="right")) for part in parts) > rank:
            high = middle
        else:
            low = middle + 1
    return low


def split_segments(
    arrays: BarArrays, context: int, *, hold_out: str = "symbols", later_share: float = LATER_SHARE, embargo: int = 0
) -> tuple[list[Segment], list[Segment]]:
    """Segments for training and for validation.

    Validation segments begin ``context`` bars before the cutoff, so that everything after their first ``context``
    bars is later than all training. Groups without any held-apart symbol validate on the later dates of all of them.

    Args:
        context: bars of context in a validation window.
        hold_out: "symbols" trains on no held-apart symbol; "dates" trains on all, up to the cutoff.
        later_share: of each group's bars, the last ones.
        embargo: bars before the cutoff that training leaves out too, counted over a symbol's files as they follow each
            other. Where two hold the same dates it is the later one that is cut.
    """
    cut = cutoffs(arrays, later_share)
    by_symbol = hold_out == "symbols"
    with_held_apart = {s.group for s in arrays.segments if by_symbol and held_apart(s.symbol)}
    last_bars: dict[tuple[str, str], int] = defaultdict(int)  # before the cutoff, over all segments of a symbol
    borders = []
    for s in arrays.segments:
        border = s.start + int(np.searchsorted(arrays.times[s.start : s.stop], cut[s.group], side="right"))
        borders.append(border)
        if border > s.start:
            last_bars[s.group, s.symbol] = max(last_bars[s.group, s.symbol], border)
    training, validation = [], []
    for s, border in zip(arrays.segments, borders):
        apart = by_symbol and held_apart(s.symbol)
        stop = min(border, last_bars[s.group, s.symbol] - embargo)
        if not apart and stop - s.start > 1:
            training.append(Segment(s.group, s.symbol, s.start, stop))
        if (apart or s.group not in with_held_apart) and s.stop > border:
            validation.append(Segment(s.group, s.symbol, max(s.start, border - context), s.stop))
    return training, validation


def check_split(arrays: BarArrays, training: list[Segment], validation: list[Segment], context: int) -> None:
    """Refuses a validation set that is empty, or whose questions are not later than all training of their group.

    Args:
        context: leading bars of a validation segment that are never asked about.

    Raises:
        DataError: says which, and what to do.
    """
    long_enough = [s for s in validation if len(s) > context]
    if not long_enough:
        raise DataError(
            f"the validation set is empty: no run of {context} bars of context and more behind it; give more bars, "
            f"a smaller data.boundary or a larger data.later_share"
        )
    latest: dict[str, int] = defaultdict(lambda: -(2**62))
    for s in training:
        latest[s.group] = max(latest[s.group], int(arrays.times[s.stop - 1]))
    for s in long_enough:
        first = int(arrays.times[s.start + context])
        if first <= latest[s.group]:
            raise DataError(
                f"the validation set overlaps with training: {s.symbol} of {s.group} is asked about "
                f"{np.datetime64(first, 's')}, training reaches {np.datetime64(latest[s.group], 's')}"
            )
