"""Pieces of work in this process: one worker, shared by threads.

What a piece's result is may not depend on the engine (:class:`~kronos.protocol.WorkEngine`): every worker has one
thread, since the number of threads decides how floating-point sums are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from kronos.errors import ConfigError

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class LocalEngine:
    """Computes in this process: one worker, shared by threads that each take a piece at a time.

    Args:
        workers: threads; None: as many as torch would use on a CPU, one for a GPU.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def device(self) -> str:
        """See ``WorkEngine.device``."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``WorkEngine.map``."""
        import torch

        work = make()
        workers = self.workers or (1 if torch.cuda.is_available() else torch.get_num_threads())
        with _single_threads(), ThreadPoolExecutor(workers, "kronos-scale", single_thread) as pool:
            try:
                yield from _as_finished(pool, work, pieces, workers)
            finally:
                pool.shutdown(cancel_futures=True)


def _as_finished(pool: ThreadPoolExecutor, work: Callable[[P], R], pieces: Sequence[P], at_once: int) -> Iterator[R]:
    """Results in order of completion, with few pieces on their way at any time."""
    waiting: set[Future[R]] = set()
    rest = iter(pieces)
    while True:
        waiting.update(pool.submit(work, piece) for piece in islice(rest, at_once - len(waiting)))
        if not waiting:
            return
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


@contextmanager
def _single_threads() -> Iterator[None]:
    """Torch's setting as it was, after threads have set it for themselves and for threads to come."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def single_thread() -> None:
    """This thread, or process, computes on one core."""
    import torch

    torch.set_num_threads(1)


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers below one.

    Raises:
        ConfigError: says so.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; at least one is needed.")
