"""How many threads a piece of work deserves.

Threads meet at the end of every operation. Where operations take microseconds and another program has the other
core, each meeting waits for the scheduler: a small decoding step becomes ten times slower with two threads than with
one. So small steps run on one thread and large ones on all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Multiply-adds of a step from which all threads pay (measured, see docs/performance.md).
WORTH_SHARING = 150_000_000


def threads_for(multiply_adds: float) -> int:
    """One thread for a step of little work, else as many as torch was given."""
    return torch.get_num_threads() if multiply_adds >= WORTH_SHARING else 1


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Torch works with ``count`` threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
