"""Damaged files: every layout, broken in the ways that files break, and the promise that readers keep."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars import FEATURES, read_bars
from kronos.errors import KronosError

TOKENS = (
    b",", b";", b"\t", b"|", b'"', b"'", b"\n", b"\r\n", b"\n\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b" ", b"-", b"+",
    b".", b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"-1", b"0", b"9" * 30, b"1e-400", b"null", b"#N/A", b"Z",
    b"+08:00", b"2024-02-30", b"99999999", b"timestamp", b"open", b"\xe5\xbc\x80", b"\xd7\xdc", b"<DATE>", b"(", b"[",
    b"1,234", b"1.234,5", b"$", b"%", b"PAR1", b"\x1f\x8b", b"A" * 300, b",,,,,", b'""', b'"\n"', b"true", b"1_000",
)  # fmt: skip
SECONDS = 1.0
TIMES_SIZE, FREE = 10, 48 * 2**20  # memory: ten times the file, above what a reader needs for anything


def mutated(data: bytes, rng: np.random.Generator, other: bytes = b"") -> bytes:
    """The file after one to six accidents."""
    for _ in range(int(rng.integers(1, 7))):
        if not data:
            return data
        at = int(rng.integers(len(data)))
        span = int(rng.integers(1, max(2, min(len(data), 400))))
        kind = int(rng.integers(9))
        if kind == 0:  # a flipped byte
            data = data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
        elif kind == 1:  # a piece lost
            data = data[:at] + data[at + span :]
        elif kind == 2:  # a piece twice
            data = data[:at] + data[at : at + span] * int(rng.integers(2, 5)) + data[at + span :]
        elif kind in (3, 4):  # something that does not belong there
            data = data[:at] + TOKENS[int(rng.integers(len(TOKENS)))] + data[at:]
        elif kind == 5:  # cut off
            data = data[:at]
        elif kind == 6:  # lines in another order
            lines = data.split(b"\n")
            a, b = rng.integers(len(lines), size=2)
            lines[a], lines[b] = lines[b], lines[a]
            data = b"\n".join(lines)
        elif kind == 7:  # a cell replaced
            cells = data.split(b",")
            cells[int(rng.integers(len(cells)))] = TOKENS[int(rng.integers(len(TOKENS)))]
            data = b",".join(cells)
        else:  # another file's middle
            data = data[:at] + other[at : at + span] + data[at:]
    return data


@dataclass
class Tally:
    """What happened to the files."""

    files: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    most_memory: int = 0


def check(data: bytes, path: Path, tally: Tally, *, memory: bool = False, **options: Any) -> None:
    """Read a damaged file: valid bars or a typed refusal of one or two lines, soon, in bounded memory."""
    path.write_bytes(data)
    if memory:
        tracemalloc.start()
        before = pa.total_allocated_bytes()
    try:
        taken, bars = attempt(path, options)
    finally:
        if memory:
            peak = tracemalloc.get_traced_memory()[1] + max(pa.total_allocated_bytes() - before, 0)
            tracemalloc.stop()
    if bars is None:
        tally.refused += 1
    else:
        tally.read += 1
        assert_valid(bars)
    tally.files += 1
    if memory:
        tally.most_memory = max(tally.most_memory, peak)
        assert peak <= TIMES_SIZE * len(data) + FREE, f"{peak} bytes for a file of {len(data)}"
        return
    for _ in range(2):  # a collection of garbage or another thread's work may fall into a reading, but not into three
        if taken >= SECONDS:
            taken = min(taken, attempt(path, options)[0])
    tally.slowest = max(tally.slowest, taken)
    assert taken < SECONDS, f"{taken:.2f} s for a file of {len(data)} bytes"


def attempt(path: Path, options: dict[str, Any]) -> tuple[float, pd.DataFrame | None]:
    """Seconds of this process for one reading, and the bars unless they were refused in one or two lines."""
    started = time.process_time()  # other programs on the machine do not count
    try:
        bars = read_bars(path, **options)
        return time.process_time() - started, bars
    except KronosError as error:
        taken = time.process_time() - started
        lines = str(error).splitlines()
    assert 1 <= len(lines) <= 2, lines
    assert max(map(len, lines)) < 700, lines
    return taken, None


def assert_valid(bars: pd.DataFrame) -> None:
    """Everything that a bars table promises."""
    assert list(bars.columns) in (["timestamp", *FEATURES], ["timestamp", "symbol", *FEATURES])
    assert isinstance(bars.index, pd.RangeIndex)
    assert len(bars) >= 1
    values = bars[list(FEATURES)].to_numpy()
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert np.isfinite(values[:, :4].astype(np.float32)).all()
    opens, high, low, close, volume, amount = values.T
    assert (values[:, :4].astype(np.float32) > 0).all()
    slack = 2e-6 * high
    assert (high >= np.maximum(opens, close) - slack).all()
    assert (low <= np.minimum(opens, close) + slack).all()
    assert (volume >= 0).all()
    assert (amount >= 0).all()
    assert not bars["timestamp"].isna().any()
    keys = ["symbol", "timestamp"] if "symbol" in bars.columns else ["timestamp"]
    assert not bars.duplicated(keys).any()
    if "symbol" in bars.columns:
        assert bars.groupby("symbol")["timestamp"].is_monotonic_increasing.all()
    else:
        assert bars["timestamp"].is_monotonic_increasing
    report = bars.attrs["report"]
    assert report.rows == len(bars)
    assert report.rows_read - report.dropped == len(bars)
