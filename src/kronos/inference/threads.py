"""How many threads a piece of work deserves, and how the caller watches and stops it.

Torch's threads meet at the end of every operation. Where operations take microseconds and another program has the
other core, each meeting waits for the scheduler: a small decoding step becomes ten times slower with two threads than
with one. So small steps run on one thread. Work that can be divided, many series or many paths, is divided instead:
each worker computes its part on a single thread, and they meet once, at the end.
"""

from __future__ import annotations

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

    progress: OnProgress = None  # called with (bars sampled so far, bars in all)
    cancel: Cancel = None  # called before every bar; True stops
    total: int = 0  # bars in all
    failed: Event = field(default_factory=Event)  # set when one of several workers has failed, so that the others stop
    _done: int = 0
    _lock: Lock = field(default_factory=Lock)

    def check(self) -> None:
        """Raises Cancelled when the caller wants to stop or another worker has failed."""
        if self.failed.is_set() or (self.cancel is not None and self.cancel()):
            raise Cancelled("stopped on request before the forecast was complete")

    def add(self, bars: int) -> None:
        """So many more bars have been sampled."""
        with self._lock:
            self._done += bars
            if self.progress is not None:
                self.progress(self._done, self.total)


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
