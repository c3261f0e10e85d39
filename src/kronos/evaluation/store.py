"""Scores on disk while an evaluation runs, so that an interrupted one goes on where it stopped.

One folder holds small Parquet parts. Each row belongs to one (forecaster, window); a part is written under a
temporary name and renamed, so a part is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation.windows import Window

KEY = ["forecaster_id", "window_id"]


def window_id(window: Window, num_samples: int, seed: int) -> str:
    """Digest of everything that a window's scores depend on but the forecaster."""
    digest = hashlib.blake2b(digest_size=12)
    context = window.context
    zone = [] if context.zone is None else [str(context.zone)]
    for text in (window.group, context.symbol, str(num_samples), str(seed), *zone):
        digest.update(text.encode() + b"\0")
    for array in (context.timestamps, context.values, context.future_timestamps, window.truth):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class ResultStore:
    """Rows of scores in a folder, or in memory where no folder is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: list[pd.DataFrame] = []
        self._number = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._memory = [pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))]
            self._number = max((int(path.stem.split("-")[1]) for path in folder.glob("part-*.parquet")), default=0)

    def done(self) -> set[tuple[str, str]]:
        """(forecaster_id, window_id) of everything that is stored."""
        pairs: set[tuple[str, str]] = set()
        for part in self._memory:
            pairs |= set(part[KEY].drop_duplicates().itertuples(index=False, name=None))
        return pairs

    def add(self, rows: pd.DataFrame) -> None:
        """Keep a part; on disk it appears at once and whole."""
        self._memory.append(rows)
        if self._folder is None:
            return
        self._number += 1
        final = self._folder / f"part-{self._number:06d}.parquet"
        draft = final.with_suffix(".draft")
        rows.to_parquet(draft, index=False, compression="zstd")
        os.replace(draft, final)

    def figures(self, key: str) -> dict[str, Any] | None:
        """Figures kept under a key by :meth:`keep_figures`, None where there are none."""
        if self._folder is None or not (path := self._folder / f"figures-{key}.json").exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def keep_figures(self, key: str, figures: dict[str, Any]) -> None:
        """Keep figures that belong to a set of windows as a whole; on disk they appear at once."""
        if self._folder is None:
            return
        final = self._folder / f"figures-{key}.json"
        draft = final.with_suffix(".draft")
        draft.write_text(json.dumps(figures), encoding="utf-8")
        os.replace(draft, final)

    def read(self, forecaster_ids: list[str], window_ids: list[str]) -> pd.DataFrame:
        """All rows of the wanted forecasters and windows."""
        if not self._memory:
            return pd.DataFrame(columns=KEY)
        rows = pd.concat(self._memory, ignore_index=True)
        wanted = rows["forecaster_id"].isin(forecaster_ids) & rows["window_id"].isin(window_ids)
        return rows[wanted].drop_duplicates([*KEY, "step"]).reset_index(drop=True)
