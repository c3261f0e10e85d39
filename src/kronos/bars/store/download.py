"""Pages of candles into one file: paced, retried, resumable, without the bar that is still forming."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from kronos.errors import DataError
from kronos.files import json_text, replacing

Candles = npt.NDArray[np.float64]

TRIES: Final = 5
_SAVE_EVERY: Final = 20  # pages
_COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")


class TemporaryFailure(Exception):
    """The source asks to wait, or the line broke: worth another try."""


@dataclass
class Download:
    """A download in progress.

    Attributes:
        page: fetches candles ``[epoch ms, open, high, low, close, volume]`` from an epoch (ms) on, oldest first;
            raises ``TemporaryFailure`` where another try is worth it.
        step: milliseconds from one candle to the next.
        what: names the request; a partial file of another request is not resumed.
        since, until: epoch milliseconds, ``until`` not included.
        partial: file that keeps what was fetched so far; None keeps nothing.
        progress: told (candles so far, share of the time span fetched).
        sleep: waits between tries, in seconds.
        notes: what is worth telling.
    """

    page: Callable[[int], list[list[float]]]
    step: int
    what: dict[str, Any]
    since: int
    until: int
    partial: Path | None = None
    progress: Callable[[int, float], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    notes: list[str] = field(default_factory=list)

    def run(self) -> Candles:
        """Fetch every page; returns an (n, 6) array sorted by time.

        What was fetched is kept in the partial file when anything breaks, so that the next run goes on.
        """
        parts = self._resume()
        cursor = int(parts[-1][-1, 0]) + self.step if parts else self.since
        fetched = 0
        try:
            while cursor < self.until:
                page = self._page(cursor)
                fresh = page[(page[:, 0] >= cursor) & (page[:, 0] < self.until)]
                if len(fresh) == 0:
                    break
                parts.append(fresh)
                cursor = int(fresh[-1, 0]) + self.step
                fetched += 1
                if fetched % _SAVE_EVERY == 0:
                    self._save(parts)
                if self.progress is not None:
                    share = (cursor - self.since) / max(self.until - self.since, 1)
                    self.progress(sum(map(len, parts)), min(share, 1.0))
        except BaseException:  # also Ctrl-C: what is here need not be fetched again
            if fetched:
                self._save(parts)
            raise
        return np.concatenate(parts) if parts else np.empty((0, 6))

    def _page(self, cursor: int) -> Candles:
        for attempt in range(TRIES):
            try:
                rows = self.page(cursor)
            except TemporaryFailure as error:
                if attempt == TRIES - 1:
                    again = f" What was fetched is kept in {self.partial}; run the same again to go on."
                    kept = again if self.partial else ""
                    raise DataError(f"{self.what['source']}: gave up after {TRIES} tries ({error}).{kept}") from error
                self.sleep(min(2.0**attempt, 30.0))
                continue
            page = np.array([row[:6] for row in rows], dtype=np.float64).reshape(-1, 6)
            return page[np.argsort(page[:, 0], kind="stable")]
        raise AssertionError("unreachable")

    def _resume(self) -> list[Candles]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.partial is None or not self.partial.exists():
            return []
        try:
            table = pq.read_table(self.partial)
            what = json.loads((table.schema.metadata or {}).get(b"kronos", b"{}"))
        except (pa.ArrowException, OSError, ValueError):
            return []
        if what != self.what or table.num_rows == 0:
            return []
        self.notes.append(f"resumed after {table.num_rows:,} bars of a broken download")
        return [np.column_stack([table.column(name).to_numpy() for name in _COLUMNS])]

    def _save(self, parts: list[Candles]) -> None:
        if self.partial is None or not parts:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        candles = np.concatenate(parts)
        parts[:] = [candles]
        table = pa.table({name: candles[:, k] for k, name in enumerate(_COLUMNS)})
        table = table.replace_schema_metadata({b"kronos": json_text(self.what).encode()})
        with replacing(self.partial) as path:
            pq.write_table(table, path)


def without_forming(candles: Candles, step: int, now: int) -> tuple[Candles, int]:
    """Candles whose time is over at ``now`` (epoch ms), and how many were not."""
    over = candles[:, 0] + step <= now
    return candles[over], int((~over).sum())
