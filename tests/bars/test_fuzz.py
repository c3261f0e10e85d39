"""Readers never hang, never raise what they did not mean to, and never let an invalid bar through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_files import BUILDERS
from mutate import Tally, assert_valid, check, mutated
from soak_readers import shortened

from kronos.bars import FEATURES, clean_bars, future_times, infer_frequency, validate_bars
from kronos.bars.calendar.guess import HOURS
from kronos.bars.calendar.markets import market
from kronos.bars.reading.defects import _longest_rising
from kronos.errors import KronosError

FILES = 80  # a layout; make soak breaks 100,000 of each

anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=0.5, max_value=2.0),
    st.sampled_from([0.0, -1.0, 1.0, 1e39, 1e-46, 1.0 + 1e-7]),
)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables that are mostly bars, with anything in some cells."""
    count = draw(st.integers(1, 30))
    steps = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    base = 1.0 + np.arange(count) / 100
    columns: dict[str, Any] = {"timestamp": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(steps), unit="h")}
    columns |= {"open": base, "high": base + 0.5, "low": base - 0.5, "close": base, "volume": base, "amount": base}
    for name in draw(st.lists(st.sampled_from(FEATURES), max_size=3)):
        values = np.array(columns[name])
        values[draw(st.integers(0, count - 1))] = draw(anything)
        columns[name] = values
    if draw(st.booleans()):
        columns["symbol"] = draw(st.lists(st.sampled_from(["A", "B"]), min_size=count, max_size=count))
    return pd.DataFrame(columns)


@given(tables())
@settings(max_examples=300, deadline=None)
def test_what_the_validator_lets_through_is_valid(table: pd.DataFrame) -> None:
    before = table.copy()
    try:
        strict = validate_bars(table)
    except KronosError:
        strict = None
    try:
        dropped = validate_bars(table, on_defect="drop")
    except KronosError:
        dropped = None
    pd.testing.assert_frame_equal(table, before)
    if strict is not None:
        assert_valid(strict)
        assert len(strict) == len(table)
        assert dropped is not None
        pd.testing.assert_frame_equal(strict, dropped)
    if dropped is not None:
        assert_valid(dropped)
        again = validate_bars(dropped)  # what was let through once is let through again, unchanged
        pd.testing.assert_frame_equal(again, dropped)


@given(st.lists(st.integers(0, 40), max_size=14))
@settings(max_examples=200, deadline=None)
def test_fewest_rows_are_dropped_for_order(values: list[int]) -> None:
    """Against the obvious quadratic way."""
    best = [1] * len(values)
    for i in range(len(values)):
        best[i] = max([1, *(best[j] + 1 for j in range(i) if values[j] < values[i])])
    chain = _longest_rising(np.array(values, dtype=np.int64))
    assert len(chain) == max(best, default=0)
    kept = [values[k] for k in chain]
    assert kept == sorted(set(kept))


@given(tables().filter(lambda table: "symbol" not in table.columns))
@settings(max_examples=100, deadline=None)
def test_future_times_go_on_after_the_last_bar(table: pd.DataFrame) -> None:
    times = pd.DatetimeIndex(table["timestamp"])
    try:
        found = future_times(times, 7)
    except KronosError:
        return
    assert len(found.timestamps) == len(found.estimated) == 7
    assert found.timestamps[0] > times.max()
    assert found.timestamps.is_monotonic_increasing
    assert found.timestamps.is_unique


@given(st.integers(2, 60), st.sampled_from(["1min", "5min", "1h", "4h", "1D", "7D"]), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_bar_size_of_a_regular_index(count: int, step: str, offset: int) -> None:
    times = pd.date_range(pd.Timestamp("2020-01-01") + pd.Timedelta(minutes=offset), periods=count, freq=step)
    size = infer_frequency(times)
    assert size is not None
    assert size.delta == pd.Timedelta(step)


@given(tables())
@settings(max_examples=60, deadline=None)
def test_cleaning_keeps_only_whole_pieces(table: pd.DataFrame) -> None:
    try:
        bars = validate_bars(table, on_defect="drop")
    except KronosError:
        return
    cleaned = clean_bars(bars, frequency="1w")
    kept = [row for piece in cleaned.pieces for row in range(piece.first, piece.last + 1)]
    assert kept == sorted(set(kept))
    assert all(len(piece) >= cleaned.rule.min_length for piece in cleaned.pieces)
    assert len(cleaned.to_frame()) == len(kept)


@pytest.fixture(scope="module")
def calendars() -> None:
    """All that a guess may look at; a process builds each once, in a fifth of a second (Seoul's in three)."""
    for name in HOURS:
        market(name)


@pytest.mark.slow
@pytest.mark.usefixtures("calendars")
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_damaged_files(name: str, tmp_path: Path) -> None:
    data, other = shortened(name), shortened("stooq")
    tally = Tally()
    for number in range(FILES):
        rng = np.random.default_rng([9, sorted(BUILDERS).index(name), number])
        mode = "drop" if number % 2 else "strict"
        options = BUILDERS[name]().options
        check(mutated(data, rng, other), tmp_path / "b.csv", tally, memory=number % 20 == 0, on_defect=mode, **options)
    assert tally.read + tally.refused == FILES


READ = """
import resource, sys
from kronos.bars import read_bars, sample_bars
import numpy, pandas, pyarrow.csv, pyarrow.parquet, pyarrow.compute
read_bars(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(read_bars(sys.argv[2])) == int(sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_of_a_large_file(tmp_path: Path) -> None:
    """At most ten times the file's size, over what reading a small one takes; measured in a fresh process."""
    rows = 300_000
    price = 100 + np.sin(np.arange(rows) / 1000)
    table = {"timestamp": pd.date_range("2020-01-01", periods=rows, freq="1min").strftime("%d.%m.%Y %H:%M")}
    table |= {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": np.ones(rows)}
    frame = pd.DataFrame(table)
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    for decimal, sep in ((".", ","), (",", ";")):  # the quick way, and by way of text
        frame.head(1000).to_csv(small, index=False, float_format="%.4f", decimal=decimal, sep=sep)
        frame.to_csv(large, index=False, float_format="%.4f", decimal=decimal, sep=sep)
        command = [sys.executable, "-c", READ, str(small), str(large), str(rows)]
        grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024
        assert grown < 10 * large.stat().st_size, f"{grown} bytes for a file of {large.stat().st_size}"
