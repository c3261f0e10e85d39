"""Later dates and unseen symbols: who is held apart, where training ends, and what validation may ask about."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import learnable

from kronos.bars.arrays import BarArrays, Segment, write_arrays
from kronos.bars.windows import WindowPlan, WindowSampler
from kronos.errors import DataError
from kronos.training.config import RunConfig
from kronos.training.data import HELD_APART_SHARE, check_split, cutoffs, held_apart, split_of, split_segments

CONTEXT = 16
APART = next(name for name in (f"S{i}" for i in range(999)) if held_apart(name))
KEPT = [name for name in (f"S{i}" for i in range(9)) if not held_apart(name)][:3]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> BarArrays:
    tables = [("mixed", name, learnable(400, i)) for i, name in enumerate([*KEPT, APART])]
    tables += [("alone", KEPT[0], learnable(300))]
    return write_arrays(tables, tmp_path_factory.mktemp("split"))


def test_a_symbols_side_is_fixed_and_ignores_its_source() -> None:
    names = [f"NAME{i}" for i in range(4000)]
    sides = [held_apart(name) for name in names]
    assert np.mean(sides) == pytest.approx(HELD_APART_SHARE, abs=0.02)
    assert [held_apart(f"{name}#binance") for name in names] == sides
    # pinned: a checkpoint's claim of unseen symbols stands on it
    known = ("AAPL", "BTCUSDT", "600519", "EURUSD", "MSFT", "TSLA", "eurusd", "sp500", "XRPUSDT", "SPY")
    assert [name for name in known if held_apart(name)] == ["AAPL", "600519", "TSLA", "eurusd", "XRPUSDT"]


def test_training_has_no_held_apart_symbol_and_nothing_later(arrays: BarArrays) -> None:
    training, validation = split_segments(arrays, CONTEXT)
    cut = cutoffs(arrays)
    assert {s.symbol for s in training} == set(KEPT)
    assert all(arrays.times[s.stop - 1] <= cut[s.group] for s in training)
    assert {s.symbol for s in validation if s.group == "mixed"} == {APART}
    assert {s.symbol for s in validation if s.group == "alone"} == {KEPT[0]}  # has none held apart
    assert all(arrays.times[s.start + CONTEXT] > cut[s.group] for s in validation)


def test_by_dates_alone_every_symbol_is_on_both_sides(arrays: BarArrays) -> None:
    training, validation = split_segments(arrays, CONTEXT, hold_out="dates")
    assert {s.symbol for s in training} == {s.symbol for s in validation} == {*KEPT, APART}


@pytest.mark.parametrize("embargo", [0, 1, 50])
def test_an_embargo_lies_between_the_two(arrays: BarArrays, embargo: int) -> None:
    training, validation = split_segments(arrays, CONTEXT, hold_out="dates", embargo=embargo)
    first_asked = {(s.group, s.symbol): s.start + CONTEXT for s in validation}
    last_trained = {(s.group, s.symbol): s.stop for s in training}
    assert all(first_asked[key] - stop == embargo for key, stop in last_trained.items())


def test_the_share_of_later_bars(arrays: BarArrays) -> None:
    _, validation = split_segments(arrays, CONTEXT, hold_out="dates", cut=cutoffs(arrays, 0.4))
    assert sum(len(s) - CONTEXT for s in validation) == pytest.approx(0.4 * len(arrays.values), rel=0.02)


def test_no_window_reads_past_its_cutoff(arrays: BarArrays) -> None:
    """Every bar of every training window, and every question of validation, lies on its side of the cutoff."""
    training, validation = split_segments(arrays, CONTEXT, embargo=10)
    border = 0.85 * 400
    early = WindowSampler(arrays.select([s for s in training if s.group == "mixed"]), WindowPlan(40, (8, 24)), 16, 0)
    late = [s for s in validation if s.group == "mixed"]
    asked = WindowSampler(arrays.select(late), WindowPlan(40, (CONTEXT, CONTEXT)), 16, 0)
    for step in range(60):
        batch = early(step)
        assert row_of(arrays, batch.values).max() < border - 10
        batch = asked(step)
        rows = row_of(arrays, batch.values)
        assert rows[:, CONTEXT:].min() >= border


def row_of(arrays: BarArrays, values: np.ndarray) -> np.ndarray:
    """Places of bars within their series, found by their values, which all differ."""
    places = {bar.tobytes(): i % 400 for i, bar in enumerate(np.asarray(arrays.values[:1600]))}
    assert len(places) == 1600
    return np.array([[places[bar.tobytes()] for bar in window] for window in values])


def test_an_empty_validation_set_is_refused(arrays: BarArrays) -> None:
    training, validation = split_segments(arrays, CONTEXT)
    with pytest.raises(DataError, match="validation set is empty"):
        check_split(arrays, training, [], CONTEXT)
    with pytest.raises(DataError, match="validation set is empty"):
        check_split(
            arrays, training, [Segment("mixed", APART, s.start, s.start + CONTEXT) for s in validation], CONTEXT
        )


def test_an_overlapping_validation_set_is_refused(arrays: BarArrays) -> None:
    training, validation = split_segments(arrays, CONTEXT)
    check_split(arrays, training, validation, CONTEXT)
    earlier = [Segment(s.group, s.symbol, s.start - 1, s.stop) for s in validation]
    with pytest.raises(DataError, match="overlaps with training"):
        check_split(arrays, training, earlier, CONTEXT)


def test_a_split_has_room_for_every_group(tmp_path: Path) -> None:
    """A pause within a symbol: the embargo counts back from the cutoff, over the bars that are there."""
    frame = learnable(400).drop(index=range(200, 330)).reset_index(drop=True)
    frame.loc[200:, "timestamp"] += np.timedelta64(30, "D")
    arrays = write_arrays([("g", KEPT[0], frame)], tmp_path, min_length=16)
    assert len(arrays.segments) == 2
    training, validation = split_segments(arrays, CONTEXT, embargo=20)
    assert max(s.stop for s in training) == min(s.start for s in validation) + CONTEXT - 20


@pytest.mark.parametrize("first", [250, 320])
def test_the_embargo_reaches_into_the_file_before(tmp_path: Path, first: int) -> None:
    """A symbol in two files, one after the other: the second begins before the embargo, or within it."""
    frame = learnable(400)
    tables = (frame[:first], frame[first:].reset_index(drop=True))
    arrays = write_arrays([("g", KEPT[0], table) for table in tables], tmp_path, min_length=16)
    training, _ = split_segments(arrays, CONTEXT, hold_out="dates", embargo=40)
    times = arrays.times[arrays.times <= cutoffs(arrays)["g"]]
    assert max(arrays.times[s.stop - 1] for s in training) == times[-41]


def day(time: np.int64) -> date:
    return date.fromisoformat(str(np.datetime64(int(time), "s"))[:10])


@pytest.mark.parametrize("gap", [-3, 0, 4])
def test_periods_by_dates(tmp_path: Path, gap: int) -> None:
    """Which may overlap by a context; days between them belong to none."""
    table = learnable(800)
    arrays = write_arrays([("g", "A", table)], tmp_path)
    days = sorted({day(time) for time in arrays.times})
    training, validation = (days[2], days[14]), (days[15 + gap], days[25])
    data: dict[str, Any] = {"window": 32, "boundary": [CONTEXT, CONTEXT], "embargo": 0, "hold_out": "dates"}
    data |= {"bars": "a.csv", "dates": {"training": training, "validation": validation}}
    trained, asked = split_of(RunConfig.from_dict({"out": tmp_path, "data": data}), arrays)
    assert [(day(arrays.times[s.start]), day(arrays.times[s.stop - 1])) for s in trained] == [training]
    first, last = (arrays.times[i] for s in asked for i in (s.start + CONTEXT, s.stop - 1))
    assert (day(first), day(last)) == (days[15 + max(0, gap)], days[25])
