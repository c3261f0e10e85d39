"""Bars of many symbols as memory-mapped arrays, cut into segments that a training window never leaves.

A folder holds ``values.f32`` (N, 6) float32, ``stamps.u8`` (N, 5) uint8 (minute, hour, weekday, day, month),
``times.i64`` (N,) seconds since 1970, and ``index.json`` with the segments and a hash of the bars. Writing streams
one symbol at a time; reading maps the files, so that data larger than memory costs no memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos.bars.schema import FEATURES, TIME_FEATURES
from kronos.errors import DataError
from kronos.files import write_json
from kronos.protocol import traded_value

INDEX_FILE = "index.json"
_LAYOUT = {"values.f32": (np.float32, 6), "stamps.u8": (np.uint8, 5), "times.i64": (np.int64, 0)}

MAX_JUMP = 0.4  # a larger log move from close to close is taken for a split, a roll or an error
# A recipe gives the same windows again only while these stay; the evaluation's are a little wider.
MAX_GAP_STEPS = 10  # a longer pause, in bars and at least …
MAX_GAP_SECONDS = 4 * 86_400  # … this long (a weekend with holidays), ends the segment
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Segment:
    """A run of bars without a gap, a jump or a defective bar: rows ``start … stop - 1`` of the arrays."""

    group: str  # where the bars come from: a market and bar size, or a file
    symbol: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class BarArrays:
    """The mapped arrays and their segments."""

    values: NDArray[np.float32]  # (N, 6)
    stamps: NDArray[np.uint8]  # (N, 5)
    times: NDArray[np.int64]  # (N,)
    segments: tuple[Segment, ...]
    data_hash: str

    @classmethod
    def open(cls, folder: str | Path) -> BarArrays:
        """Maps a folder that :func:`write_arrays` wrote.

        Raises:
            DataError: not such a folder, or its files do not fit its index.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
            rows = int(index["rows"])
            arrays: dict[str, Any] = {}
            for name, (dtype, width) in _LAYOUT.items():
                shape = (rows, width) if width else (rows,)
                expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
                if (folder / name).stat().st_size != expected:
                    raise DataError(
                        f"{folder / name} does not have the {expected:,} bytes of its index; write it again"
                    )
                arrays[name.partition(".")[0]] = np.memmap(folder / name, dtype=dtype, mode="r", shape=shape)
            segments = tuple(Segment(**entry) for entry in index["segments"])
            if not all(0 <= s.start < s.stop <= rows for s in segments):
                raise ValueError("a segment lies outside the rows")
            return cls(**arrays, segments=segments, data_hash=str(index["data_hash"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} holds no bar arrays ({error}); make them with kronos.bars.arrays.write_arrays"
            ) from error

    def select(self, segments: Iterable[Segment]) -> BarArrays:
        """The same arrays with other segments."""
        return BarArrays(self.values, self.stamps, self.times, tuple(segments), self.data_hash)


def write_arrays(
    tables: Iterable[tuple[str, str, pd.DataFrame]], folder: str | Path, *, min_length: int = 64
) -> BarArrays:
    """Writes bars, one (group, symbol, table) after the other, and returns them mapped.

    Volume that is unknown (NaN) becomes 0; amount that is unknown becomes volume × mean price. Bars that break
    low ≤ open, close ≤ high, or whose prices are not positive and finite, end a segment and belong to none.

    Args:
        tables: each symbol's bars, sorted by time.
        min_length: shorter segments are left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX_FILE).unlink(missing_ok=True)  # written last, so that a folder half written is no folder
    segments: list[Segment] = []
    digest = hashlib.blake2b(digest_size=16)  # over all bars as they stream by; runs are known by it
    rows = 0
    with (
        (folder / "values.f32").open("wb") as v,
        (folder / "stamps.u8").open("wb") as s,
        (folder / "times.i64").open("wb") as t,
    ):
        for group, symbol, table in tables:
            values, stamps, times = _columns(table)
            for start, stop in _runs(values, times):
                if stop - start >= min_length:
                    segments.append(Segment(group, symbol, rows + start, rows + stop))
            for file, array in ((v, values), (s, stamps), (t, times)):
                file.write(array.tobytes())
            digest.update(values.tobytes())
            rows += len(values)
    if not rows:
        raise DataError("there are no bars to write; give at least one table with rows")
    index = {"rows": rows, "data_hash": digest.hexdigest(), "segments": [asdict(segment) for segment in segments]}
    write_json(folder / INDEX_FILE, index, indent=None)
    return BarArrays.open(folder)


def _columns(table: pd.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    values = np.zeros((len(table), 6), dtype=np.float32)
    for i, name in enumerate(FEATURES):
        if name in table:
            values[:, i] = table[name].to_numpy(dtype=np.float32, na_value=np.nan)
    volume, amount = values[:, 4], values[:, 5]
    if "volume" in table:
        np.copyto(volume, 0.0, where=~np.isfinite(volume))
        unknown = ~np.isfinite(amount) if "amount" in table else np.ones(len(table), dtype=bool)
        np.copyto(amount, traded_value(values), where=unknown)
    times = pd.DatetimeIndex(table["timestamp"])
    if times.tz is not None:
        times = times.tz_localize(None)
    return values, time_features(times).astype(np.uint8), times.as_unit("s").asi8.copy()


def time_features(times: pd.DatetimeIndex) -> NDArray[np.int64]:
    """(T, 5) minute, hour, weekday (Monday 0), day and month of each timestamp, in its own wall time."""
    attributes = ["day_of_week" if name == "weekday" else name for name in TIME_FEATURES]
    return np.stack([np.asarray(getattr(times, name), dtype=np.int64) for name in attributes], axis=-1)


def _runs(values: NDArray[np.float32], times: NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Half-open row ranges without a break."""
    if len(values) < 2:
        return []
    o, h, low, c = values[:, :4].T
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (low > 0) & np.isfinite(values[:, :4]).all(1)
        good &= (h >= np.maximum(o, c) * (1 - _ROUNDING)) & (low <= np.minimum(o, c) * (1 + _ROUNDING))
        jump = np.abs(np.log(c[1:] / c[:-1])) > MAX_JUMP
    step = np.diff(times)
    longest = max(MAX_GAP_STEPS * float(np.median(step)), MAX_GAP_SECONDS)
    breaks = jump | (step > longest) | (step <= 0) | ~good[1:] | ~good[:-1]
    edges = np.flatnonzero(breaks) + 1
    bounds: NDArray[Any] = np.concatenate(([0], edges, [len(values)]))
    return [(int(a), int(b)) for a, b in itertools.pairwise(bounds) if b - a > 1 and good[a]]
