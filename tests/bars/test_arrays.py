"""Bars as memory-mapped arrays: where segments break, what is refused, and a hash that tells data apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.bars import sample_bars
from kronos.bars.arrays import INDEX_FILE, BarArrays, write_arrays
from kronos.bars.schema import FEATURES
from kronos.errors import DataError

N = 200


def table(n: int = N, freq: str = "1h", seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    frame = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=n, freq=freq), "open": close})
    frame["high"], frame["low"], frame["close"] = close * 1.01, close * 0.99, close
    frame["volume"] = rng.integers(1, 100, n).astype(float)
    return frame.assign(amount=frame["volume"] * close)


def ranges(arrays: BarArrays) -> list[tuple[int, int]]:
    return [(s.start, s.stop) for s in arrays.segments]


def written(frame: pd.DataFrame, folder: Path, min_length: int = 10) -> BarArrays:
    return write_arrays([("group", "A", frame)], folder, min_length=min_length)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    one, two = table(seed=1), table(50, seed=2)
    write_arrays([("g", "A", one), ("h", "B", two)], tmp_path, min_length=10)
    arrays = BarArrays.open(tmp_path)
    assert [(s.group, s.symbol, s.start, s.stop) for s in arrays.segments] == [("g", "A", 0, N), ("h", "B", N, N + 50)]
    both = pd.concat([one, two])
    np.testing.assert_array_equal(arrays.values, both[list(FEATURES)].to_numpy(np.float32))
    times = pd.DatetimeIndex(both["timestamp"])
    np.testing.assert_array_equal(arrays.times, times.as_unit("s").asi8)
    expected = np.stack((times.minute, times.hour, times.day_of_week, times.day, times.month), axis=-1)
    np.testing.assert_array_equal(arrays.stamps, expected)


def test_the_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    arrays = written(table(), tmp_path)
    for array in (arrays.values, arrays.stamps, arrays.times):
        assert isinstance(array, np.memmap)
        assert array.mode == "r"
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_times_with_a_zone_are_wall_time(tmp_path: Path) -> None:
    frame = table()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai")
    assert written(frame, tmp_path).stamps[0].tolist() == [0, 8, 0, 1, 1]


@pytest.mark.parametrize(("pause", "breaks"), [("9D", True), ("3D", False)])
def test_a_long_pause_ends_a_segment_and_a_weekend_does_not(tmp_path: Path, pause: str, breaks: bool) -> None:
    frame = table()
    frame.loc[100:, "timestamp"] += pd.Timedelta(pause)
    assert ranges(written(frame, tmp_path)) == ([(0, 100), (100, N)] if breaks else [(0, N)])


def test_daily_bars_may_pause_ten_steps(tmp_path: Path) -> None:
    frame = table(freq="1D")
    frame.loc[50:, "timestamp"] += pd.Timedelta("8D")
    frame.loc[100:, "timestamp"] += pd.Timedelta("12D")
    assert ranges(written(frame, tmp_path)) == [(0, 100), (100, N)]


def test_a_jump_ends_a_segment(tmp_path: Path) -> None:
    frame = table()
    frame.loc[80:, ["open", "high", "low", "close"]] /= 2.0
    assert ranges(written(frame, tmp_path)) == [(0, 80), (80, N)]


def test_times_that_stand_still_end_a_segment(tmp_path: Path) -> None:
    frame = table()
    frame.loc[60, "timestamp"] = frame.loc[59, "timestamp"]
    assert ranges(written(frame, tmp_path)) == [(0, 60), (60, N)]


@pytest.mark.parametrize(
    "fault",
    [{"close": np.nan}, {"low": -1.0}, {"open": np.inf}, {"high": 1.0}, {"low": 1e6}, {"low": 0.0}],
    ids=lambda fault: "-".join(f"{k}={v}" for k, v in fault.items()),
)
def test_a_defective_bar_belongs_to_no_segment(tmp_path: Path, fault: dict[str, float]) -> None:
    frame = table()
    for column, value in fault.items():
        frame.loc[70, column] = value
    assert ranges(written(frame, tmp_path)) == [(0, 70), (71, N)]


def test_defects_at_the_ends(tmp_path: Path) -> None:
    frame = table()
    frame.loc[[0, N - 1], "close"] = np.nan
    assert ranges(written(frame, tmp_path)) == [(1, N - 1)]


def test_short_segments_are_left_out(tmp_path: Path) -> None:
    frame = table()
    frame.loc[[15, 100], "close"] = np.nan
    assert ranges(written(frame, tmp_path, min_length=30)) == [(16, 100), (101, N)]


def test_unknown_volume_and_amount(tmp_path: Path) -> None:
    frame = table()
    frame.loc[3, "volume"] = np.nan
    frame.loc[4, "amount"] = np.nan
    values = written(frame, tmp_path / "a").values
    assert values[3, 4] == 0
    np.testing.assert_allclose(values[4, 5], frame.loc[4, "volume"] * values[4, :4].mean(), rtol=1e-6)
    none = written(frame.drop(columns=["volume", "amount"]), tmp_path / "b").values
    assert (none[:, 4:] == 0).all()
    only = written(frame.drop(columns="amount"), tmp_path / "c").values
    np.testing.assert_allclose(only[:, 5], only[:, 4] * only[:, :4].mean(1), rtol=1e-6)


def test_the_hash_is_of_the_bars(tmp_path: Path) -> None:
    first = written(table(), tmp_path / "a").data_hash
    assert written(table(), tmp_path / "b").data_hash == first
    other = table()
    other.loc[9, "close"] *= 1.0001
    assert written(other, tmp_path / "c").data_hash != first


def test_real_bars_make_long_segments(tmp_path: Path) -> None:
    frame = sample_bars("sp500")
    arrays = written(frame, tmp_path)
    assert sum(map(len, arrays.segments)) == len(frame)
    assert len(arrays.segments) <= 2


def test_select_keeps_the_arrays(tmp_path: Path) -> None:
    arrays = written(table(), tmp_path)
    fewer = arrays.select(arrays.segments[:0])
    assert fewer.segments == ()
    assert fewer.values is arrays.values


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / INDEX_FILE).unlink(),
        lambda folder: (folder / INDEX_FILE).write_text("{"),
        lambda folder: (folder / INDEX_FILE).write_text("[1]"),
        lambda folder: (folder / "values.f32").unlink(),
        lambda folder: (folder / "times.i64").write_bytes(b"12345"),
        lambda folder: edit(folder, rows=N + 1),
        lambda folder: edit(folder, segments=[{"group": "g"}]),
        lambda folder: edit(folder, segments=[{"group": "g", "symbol": "A", "start": 5, "stop": N + 9}]),
        lambda folder: edit(folder, data_hash=None),
    ],
    ids=["no index", "cut index", "no mapping", "no values", "short times", "rows", "segment", "outside", "no hash"],
)
def test_a_damaged_folder(tmp_path: Path, damage) -> None:
    written(table(), tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        BarArrays.open(tmp_path)
    assert len(str(caught.value).splitlines()) <= 2


def edit(folder: Path, **values: object) -> None:
    index = json.loads((folder / INDEX_FILE).read_text())
    index |= values
    (folder / INDEX_FILE).write_text(json.dumps({k: v for k, v in index.items() if v is not None}))


def test_no_bars_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no bars"):
        write_arrays([], tmp_path)


def test_a_folder_half_written_is_no_folder(tmp_path: Path) -> None:
    written(table(), tmp_path)

    def stops():
        yield "group", "A", table()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arrays(stops(), tmp_path)
    with pytest.raises(DataError):
        BarArrays.open(tmp_path)
