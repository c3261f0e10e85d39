"""Runs of True in a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def runs(mask: Mask) -> list[tuple[int, int]]:
    """(first, end) of every run of True values, the end excluded."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def long_runs(mask: Mask, longest: int) -> Mask:
    """True on every row of a run of more than ``longest`` True values."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    out = np.zeros(len(mask), dtype=bool)
    out[mask] = np.repeat(edges[1::2] - edges[::2] > longest, edges[1::2] - edges[::2])
    return out
