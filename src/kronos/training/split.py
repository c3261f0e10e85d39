"""Which bars are for training and which are held apart: later dates, and symbols never seen.

A symbol's side is a hash of its name, so it is the same in every file and for every bar size. A group's cutoff is the
time after which its last 15 % of bars lie. Training sees neither held-apart symbols nor anything after the cutoff.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from kronos.bars.arrays import BarArrays, Segment

HELD_APART_SHARE = 0.12
LATER_SHARE = 0.15


def held_apart(symbol: str) -> bool:
    """Whether a symbol is kept out of training; a ``#source`` suffix does not matter."""
    name = symbol.split("#")[0]
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < HELD_APART_SHARE * 256


def cutoffs(arrays: BarArrays, later_share: float = LATER_SHARE) -> dict[str, int]:
    """For each group the time, in seconds since 1970, after which its last ``later_share`` of bars lie."""
    times: dict[str, list[np.ndarray]] = defaultdict(list)
    for segment in arrays.segments:
        times[segment.group].append(arrays.times[segment.start : segment.stop])
    return {group: int(np.quantile(np.concatenate(parts), 1 - later_share)) for group, parts in times.items()}


def split_segments(arrays: BarArrays, context: int) -> tuple[list[Segment], list[Segment]]:
    """Segments for training and for validation.

    Validation segments begin ``context`` bars before the cutoff, so that everything after their first ``context``
    bars is later than all training. Groups without any held-apart symbol validate on the later dates of all of them.
    """
    cut = cutoffs(arrays)
    with_held_apart = {s.group for s in arrays.segments if held_apart(s.symbol)}
    training, validation = [], []
    for s in arrays.segments:
        border = s.start + int(np.searchsorted(arrays.times[s.start : s.stop], cut[s.group], side="right"))
        apart = held_apart(s.symbol)
        if not apart and border - s.start > 1:
            training.append(Segment(s.group, s.symbol, s.start, border))
        if (apart or s.group not in with_held_apart) and s.stop > border:
            validation.append(Segment(s.group, s.symbol, max(s.start, border - context), s.stop))
    return training, validation
