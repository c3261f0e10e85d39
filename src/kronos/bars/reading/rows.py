"""Row numbers of a table, counted only when an error or a report asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


class RowNumbers:
    """The number of each row in its source, from 1; computed at the first look, which most files never need.

    Args:
        make: returns one number a row.
    """

    def __init__(self, make: Callable[[], Numbers]) -> None:
        self._make = make
        self._numbers: Numbers | None = None

    @classmethod
    def counted(cls, count: int, first: int = 1) -> RowNumbers:
        """Rows numbered one after the other."""
        return cls(lambda: np.arange(first, first + count))

    def __getitem__(self, positions: Any) -> Any:
        return self.numbers[positions]

    @property
    def numbers(self) -> Numbers:
        """All row numbers."""
        if self._numbers is None:
            self._numbers = self._make()
        return self._numbers

    def picked(self, positions: Any) -> RowNumbers:
        """The numbers of some rows, still uncounted."""
        return RowNumbers(lambda: self.numbers[positions])
