"""Training windows, drawn by index: step k of seed s is always the same batch, on any machine.

A window is a run of bars inside one segment, with a boundary drawn at random: the bars before it are the context that
gives the statistics, the bars after it are what the model is asked about. Nothing is kept between steps, so a run
resumes at any step, and several loaders never repeat each other's windows.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kronos.bars.arrays import BarArrays
from kronos.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class WindowPlan:
    """How windows are drawn.

    Args:
        length: bars in a window; segments that are shorter give shorter windows, padded at the end.
        boundary: the context's length is uniform between these, inclusive.
        volume_dropout: share of windows whose volume and amount are unknown.
        aggregate: share of windows made of bars that are each 2, 3 or 4 of the original ones.
        group_power: a group of n bars is drawn with weight n ** group_power.
        coin_flips: share of windows whose bars each go up or down by the toss of a coin: sizes, shadows and volume
            stay, so that volatility can be learnt there and a direction cannot.
    """

    length: int
    boundary: tuple[int, int]
    volume_dropout: float = 0.0
    aggregate: float = 0.0
    group_power: float = 0.5
    coin_flips: float = 0.0


@dataclass(frozen=True)
class Windows:
    """A batch: B windows of L bars."""

    values: NDArray[np.float32]  # (B, L, 6); rows beyond `valid` repeat the last bar
    stamps: NDArray[np.uint8]  # (B, L, 5)
    valid: NDArray[np.int64]  # (B,) bars before the padding
    boundary: NDArray[np.int64]  # (B,) bars of context


class WindowSampler:
    """Draws windows from segments, by (seed, step).

    Args:
        batch_size: windows of a call.
        rank, ranks: which of several processes this is. A step's batch is then ``ranks * batch_size`` windows, the
            same as one process with that batch size would draw, and each process makes its own part of it.

    Raises:
        DataError: no segment is long enough for the smallest context and eight bars to predict.
    """

    _MIN_TARGETS = 8

    def __init__(
        self, arrays: BarArrays, plan: WindowPlan, batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self.arrays, self.plan, self.batch_size, self.seed = arrays, plan, batch_size, seed
        self.drawn = batch_size * ranks
        self.part = slice(rank * batch_size, (rank + 1) * batch_size)
        shortest = plan.boundary[0] + self._MIN_TARGETS
        segments = [s for s in arrays.segments if len(s) >= shortest]
        if not segments:
            raise DataError(
                f"no run of at least {shortest} bars without a gap among {len(arrays.segments)} segments; "
                f"give more bars or a smaller context"
            )
        self.starts = np.array([s.start for s in segments])
        self.lengths = np.array([len(s) for s in segments])
        groups, group_of = np.unique([s.group for s in segments], return_inverse=True)
        bars = np.bincount(group_of, weights=self.lengths, minlength=len(groups))
        weights = self.lengths / bars[group_of] * bars[group_of] ** plan.group_power
        self._cumulative = np.cumsum(weights / weights.sum())

    def __call__(self, step: int) -> Windows:
        """The batch of a step, or this process's part of it."""
        rng = np.random.default_rng([self.seed, step])
        size, length = self.drawn, self.plan.length
        chosen = np.searchsorted(self._cumulative, rng.random(size), side="right").clip(max=len(self.starts) - 1)
        wanted = np.where(rng.random(size) < self.plan.aggregate, rng.integers(2, 5, size), 1)
        enough = self.lengths[chosen] // wanted >= self.plan.boundary[0] + self._MIN_TARGETS
        factors = np.where(enough, wanted, 1)  # how many bars are taken together, 1 where the segment is too short
        spans = np.minimum(self.lengths[chosen], length * factors) // factors * factors
        starts = self.starts[chosen] + np.floor(rng.random(size) * (self.lengths[chosen] - spans + 1)).astype(np.int64)
        valid = spans // factors
        low, high = self.plan.boundary
        highest = np.minimum(high, valid - self._MIN_TARGETS)
        boundary = low + np.floor(rng.random(size) * (highest - low + 1)).astype(np.int64)
        silent = rng.random(size) < self.plan.volume_dropout
        tossed = np.zeros(size, dtype=bool)
        flipped = np.zeros((size, length), dtype=bool)
        if self.plan.coin_flips:
            tossed = rng.random(size) < self.plan.coin_flips
            flipped[tossed] = rng.random((int(tossed.sum()), length)) < 0.5
        # Everything is drawn for all processes, which costs little; bars are read for this one alone.
        part = self.part
        values, stamps = self._read(starts[part], valid[part], factors[part])
        values[silent[part], :, 4:] = 0.0
        tossed = tossed[part]
        if tossed.any():
            values[tossed] = flip_bars(values[tossed], flipped[part][tossed])
        return Windows(values, stamps, valid[part], boundary[part])

    def _read(
        self, starts: NDArray[np.int64], valid: NDArray[np.int64], factors: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Values (B, L, 6) and stamps (B, L, 5) of windows; the padding repeats the last bar."""
        size, length = len(starts), self.plan.length
        values = np.empty((size, length, 6), dtype=np.float32)
        stamps = np.empty((size, length, 5), dtype=np.uint8)
        for i, (start, n, factor) in enumerate(zip(starts, valid, factors)):
            rows = slice(start, start + n * factor)
            values[i, :n] = aggregate_bars(self.arrays.values[rows], factor)
            stamps[i, :n] = self.arrays.stamps[rows][::factor]
            values[i, n:], stamps[i, n:] = values[i, n - 1], stamps[i, n - 1]
        return values, stamps


def aggregate_bars(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """(n · factor, 6) bars -> (n, 6) bars, each made of ``factor`` consecutive ones."""
    if factor == 1:
        return values
    grouped = values.reshape(-1, factor, 6)
    first, last = grouped[:, 0], grouped[:, -1]
    return np.column_stack(
        (first[:, 0], grouped[:, :, 1].max(1), grouped[:, :, 2].min(1), last[:, 3], grouped[:, :, 4:].sum(1))
    )


def flip_bars(values: NDArray[np.float32], flipped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(B, L, 6) bars with the log moves of some of them, (B, L), turned upside down; the first bar stays.

    A flipped bar that opened 1 % up and closed 2 % higher opens 1 % down and closes 2 % lower; its shadows change
    places. The path is joined up again from bar to bar, and amount follows the price.
    """
    prices = np.log(values[..., :4].astype(np.float64))
    before = prices[:, :-1, 3:]
    sign = np.where(flipped[:, 1:], -1.0, 1.0)[..., None]
    moves = (prices[:, 1:] - before) * sign  # open, high, low, close from the previous close
    moves[..., 1:3] = np.where(sign < 0, moves[..., 2:0:-1], moves[..., 1:3])
    close = np.cumsum(moves[..., 3:], axis=1)
    out = values.copy()
    out[:, 1:, :4] = np.exp(prices[:, :1, 3:] + close - moves[..., 3:] + moves)
    out[:, :, 5] *= out[:, :, 3] / values[:, :, 3]
    return out


def prefetch(make: Callable[[int], T], start: int, stop: int, workers: int = 2, ahead: int = 4) -> Generator[T]:
    """``make(start) … make(stop - 1)`` in order, computed ahead of time by threads."""
    with ThreadPoolExecutor(workers, thread_name_prefix="windows") as pool:
        steps = iter(range(start, stop))
        pending: deque[Future[T]] = deque(pool.submit(make, step) for step in itertools.islice(steps, ahead))
        try:
            while pending:
                ready = pending.popleft().result()
                for step in itertools.islice(steps, 1):
                    pending.append(pool.submit(make, step))
                yield ready
        finally:  # whoever stops early does not wait for what was computed ahead
            for future in pending:
                future.cancel()
