"""How many threads a piece of work deserves, and how the caller watches and stops it.

Torch's threads meet at the end of every operation. Where operations take microseconds and another program has the
other core, each meeting waits for the scheduler: a small decoding step becomes ten times slower with two threads than
with one. So small steps run on one thread. Work that can be divided, many series or many paths, is divided instead:
each worker computes its part on a single thread, and they meet once, at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TypeVar

import torch

from kronos.errors import Cancelled

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[int, int], None] | None
Cancel = Callable[[], bool] | None

#: Multiply-adds from which torch's own threads pay: of a whole pass, and of one row where weights come from memory.
WORTH_SHARING = 1_000_000_000
WORTH_SHARING_A_ROW = 15_000_000
ROWS_A_WORKER = 12  # paths of one bar that keep a worker busy with products rather than with calls


@dataclass
class Monitor:
    """What the caller hears and says while bars are sampled, by several workers at the same time."""

    progress: OnProgress = None  # called with (bars done so far, bars in all), by time; decoding is the last of it
    cancel: Cancel = None  # called before every bar; True stops
    total: int = 0  # bars in all
    failed: Event = field(default_factory=Event)  # set when one of several workers has failed, so that the others stop
    _done: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def check(self) -> None:
        """Raises Cancelled when the caller wants to stop or another worker has failed."""
        if self.failed.is_set() or (self.cancel is not None and self.cancel()):
            raise Cancelled("stopped on request before the forecast was complete")

    def add(self, bars: float) -> None:
        """So many more bars have been sampled; parts of bars are added up and told when they are whole."""
        with self._lock:
            self._done += bars
            if self.progress is not None:
                self.progress(int(self._done + 1e-6), self.total)


class Pace:
    """Which share of a batch's time is over, by what its parts have taken so far.

    Bars alone would not tell: windows are opened now and then, each for as long as many bars take, and at the end
    everything is decoded, which takes about as long a bar as encoding the context did.

    Args:
        positions, bars: how many positions are read to open windows, and how many bars drawn from an open one.
        decoding: seconds that the end will take.
        spent: seconds so far.
    """

    def __init__(self, positions: int, bars: int, decoding: float, spent: float) -> None:
        self._left, self._each = {True: positions, False: bars}, {True: 0.0, False: 0.0}
        self._decoding, self._told, self._last = decoding, 0.0, time.perf_counter()
        self._began = self._last - spent

    def share(self, *, read: int = 0, bars: int = 1) -> float:
        """The share, from 0 to 1, after a window of ``read`` positions was opened, or else ``bars`` were drawn.

        It never falls.
        """
        now, opened, count = time.perf_counter(), read > 0, read or bars
        each = (now - self._last) / count
        self._each[opened] = (self._each[opened] + each) / 2 if self._each[opened] else each
        self._left[opened] -= count
        self._last = now
        if all(self._each[kind] or not left for kind, left in self._left.items()):
            rest = self._decoding + sum(left * self._each[kind] for kind, left in self._left.items())
            spent = now - self._began
            self._told = max(self._told, spent / (spent + rest) if spent + rest else 0.0)
        return self._told


def threads_for(rows: int, weights: int) -> int:
    """One thread for a small pass of ``rows`` positions of ``weights`` multiply-adds, else as many as torch has."""
    large = weights >= WORTH_SHARING_A_ROW or rows * weights >= WORTH_SHARING
    return torch.get_num_threads() if large else 1


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Torch works with ``count`` threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def run_tasks(work: Callable[[T], R], tasks: Sequence[T], workers: int, failed: Event) -> list[R]:
    """``work`` on every task, on ``workers`` threads of one torch thread each; the results in order.

    ``failed`` is set when a task has failed or the caller was interrupted; running tasks should look at it and end.
    """
    if workers <= 1 or len(tasks) <= 1:
        return [work(task) for task in tasks]
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "kronos-engine", lambda: torch.set_num_threads(1))
    try:
        return list(pool.map(work, tasks))
    except BaseException:
        failed.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the workers have also set what threads to come begin with
