"""Which bars the model sees when more are known than it can read.

A window of at most ``max_context`` bars ends with the newest bar. When it is full, ``stride`` bars are dropped at
once and everything after them is read again: kept states would still depend on the dropped bars, so a cache that
merely forgets its oldest entry computes another function. A stride of 1 is the published behaviour; a longer one
costs a little memory of the past and saves most of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kronos.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """The sliding window over a context of ``context`` bars and the bars sampled after it.

    Args:
        context: T, bars of context.
        max_context: bars that the model reads at most.
        stride: bars dropped at once when the window is full.

    Raises:
        ConfigError: a size below 1, or a stride that would drop the whole window.
    """

    context: int
    max_context: int
    stride: int = 1

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ConfigError(f"the context has {self.context} bars; at least 1 is needed")
        if self.max_context < 2:
            raise ConfigError(f"max_context is {self.max_context}; at least 2 bars are needed")
        if not 1 <= self.stride < self.max_context:
            raise ConfigError(f"window_stride is {self.stride}; it must be from 1 to {self.max_context - 1}")

    def start(self, known: int) -> int:
        """First bar of the window when ``known`` ≥ context bars are known (context and sampled together)."""
        first = max(0, self.context - self.max_context)
        excess = known - first - self.max_context
        drops = -(-excess // self.stride) if excess > 0 else 0
        return first + drops * self.stride

    def slides(self, horizon: int) -> bool:
        """Whether a forecast of ``horizon`` bars ever drops a bar."""
        return self.start(self.context + horizon - 1) > 0

    def decode_blocks(self, horizon: int) -> Iterator[tuple[int, int, int]]:
        """How sampled tokens become bars: ``(window start, first, end)``, the bars of the horizon [first, end).

        A bar is decoded from the window that ends with it or shortly after, and that starts where the schedule says;
        so a longer horizon never changes an earlier bar. Not so with a stride of 1: there all bars are decoded from
        the last ``max_context`` tokens in one go, as published (in half windows where the horizon exceeds that), so
        that once the window slides, a longer horizon moves the earlier bars a little.
        """
        if self.stride == 1:
            block = horizon if horizon <= self.max_context else max(1, self.max_context // 2)
            for first in range(0, horizon, block):
                end = min(first + block, horizon)
                yield max(0, self.context + end - self.max_context), first, end
            return
        first = 0
        while first < horizon:
            start = self.start(self.context + first + 1)
            end = min(horizon, start + self.max_context - self.context)  # from there on the window is full
            yield start, first, end
            first = end
