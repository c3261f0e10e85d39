"""Windows by (seed, step): repeatable, inside one segment, with a boundary, and never past a cutoff."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos.bars.arrays import BarArrays, write_arrays
from kronos.bars.windows import WindowPlan, Windows, WindowSampler, aggregate_bars, flip_bars, prefetch
from kronos.errors import DataError

LENGTHS = (300, 40, 24, 120)  # of the four series


def series(n: int, number: int) -> pd.DataFrame:
    """Bars that say who they are: the amount is 1000 × the series, plus the row."""
    rng = np.random.default_rng(number)
    close = 10 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    frame = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=n, freq="1h"), "open": close})
    frame["high"], frame["low"], frame["close"], frame["volume"] = close * 1.02, close * 0.97, close * 1.001, 3.0
    return frame.assign(amount=1000.0 * number + np.arange(n))


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> BarArrays:
    tables = [(f"g{i % 2}", f"S{i}", series(n, i)) for i, n in enumerate(LENGTHS)]
    return write_arrays(tables, tmp_path_factory.mktemp("arrays"), min_length=16)


PLAN = WindowPlan(length=64, boundary=(8, 40))
Draw = Callable[..., list[Windows]]


def draw(arrays: BarArrays, plan: WindowPlan = PLAN, seed: int = 0, steps: int = 40, size: int = 8) -> list[Windows]:
    sampler = WindowSampler(arrays, plan, size, seed)
    return [sampler(step) for step in range(steps)]


def same(a: Windows, b: Windows) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values()))


def test_a_step_is_the_same_batch_whoever_asks(arrays: BarArrays) -> None:
    first, second = draw(arrays), WindowSampler(arrays, PLAN, 8, 0)
    for step in (39, 0, 17):  # in any order
        assert same(first[step], second(step))


def test_other_steps_and_seeds_are_other_batches(arrays: BarArrays) -> None:
    batches = draw(arrays) + draw(arrays, seed=1)
    assert not any(same(batches[0], other) for other in batches[1:])


def test_windows_stay_in_their_segment(arrays: BarArrays) -> None:
    """Rows name their series and place: within a window the series is one and places follow each other."""
    for batch in draw(arrays):
        for values, n in zip(batch.values, batch.valid):
            amount = values[:n, 5]
            assert len(set(amount // 1000)) == 1
            assert (np.diff(amount) == 1).all()
            assert amount[-1] % 1000 < LENGTHS[int(amount[0] // 1000)]


def test_every_place_of_every_segment_is_reached(arrays: BarArrays) -> None:
    seen = np.concatenate([values[:n, 5] for b in draw(arrays, steps=400) for values, n in zip(b.values, b.valid)])
    assert set(seen) == {1000 * i + row for i, n in enumerate(LENGTHS) for row in range(n)}


def test_padding_repeats_the_last_bar(arrays: BarArrays) -> None:
    padded = 0
    for batch in draw(arrays):
        for values, stamps, n in zip(batch.values, batch.stamps, batch.valid):
            assert (values[n:] == values[n - 1]).all()
            assert (stamps[n:] == stamps[n - 1]).all()
            padded += n < PLAN.length
    assert padded


def test_the_boundary_lies_in_its_range(arrays: BarArrays) -> None:
    boundaries = np.concatenate([b.boundary for b in draw(arrays, steps=200)])
    valid = np.concatenate([b.valid for b in draw(arrays, steps=200)])
    assert boundaries.min() == 8
    assert boundaries.max() == 40
    assert (boundaries <= valid - 8).all()


def test_stamps_belong_to_their_bars(arrays: BarArrays) -> None:
    for batch in draw(arrays, steps=5):
        row = (batch.values[..., 5] % 1000).astype(int)
        np.testing.assert_array_equal(batch.stamps[..., 1], row % 24)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_volume_dropout(arrays: BarArrays, share: float) -> None:
    batches = draw(arrays, WindowPlan(64, (8, 40), volume_dropout=share), steps=100)
    silent = np.concatenate([(b.values[..., 4:] == 0).all((1, 2)) for b in batches])
    assert silent.mean() == pytest.approx(share, abs=0.06)
    loud = np.concatenate([(b.values[..., 4] > 0).all(1) for b in batches])
    assert (silent | loud).all()


def test_taken_together_bars_are_bars(arrays: BarArrays) -> None:
    batches = draw(arrays, WindowPlan(32, (8, 16), aggregate=1.0), steps=60)
    values = np.concatenate([b.values[np.arange(8)] for b in batches])
    o, h, low, c = np.moveaxis(values[..., :4], -1, 0)
    assert (low <= np.minimum(o, c)).all()
    assert (h >= np.maximum(o, c)).all()
    assert set(np.unique(values[..., 4])) == {3.0, 6.0, 9.0, 12.0}  # 3 where the segment is too short for more


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_aggregation(n: int, factor: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bars = np.sort(rng.uniform(1, 9, (n * factor, 6)).astype(np.float32), axis=1)[:, [1, 3, 0, 2, 4, 5]]
    out = aggregate_bars(bars, factor)
    assert out.shape == (n, 6)
    for i, bar in enumerate(out):
        part = bars[i * factor : (i + 1) * factor]
        expected = [part[0, 0], part[:, 1].max(), part[:, 2].min(), part[-1, 3], *part[:, 4:].sum(0)]
        np.testing.assert_allclose(bar, expected, rtol=1e-6)


def test_groups_are_weighed(arrays: BarArrays) -> None:
    """With power 0 both groups come as often, with power 1 by their bars."""
    for power, expected in ((0.0, 0.5), (1.0, (300 + 24) / sum(LENGTHS))):
        batches = draw(arrays, WindowPlan(16, (8, 8), group_power=power), steps=300)
        owner = np.concatenate([b.values[:, 0, 5] // 1000 for b in batches])
        assert (owner % 2 == 0).mean() == pytest.approx(expected, abs=0.04)


def test_no_segment_is_long_enough(arrays: BarArrays) -> None:
    with pytest.raises(DataError, match="at least 408 bars"):
        WindowSampler(arrays, WindowPlan(500, (400, 400)), 4, 0)


def test_prefetch_keeps_the_order() -> None:
    assert list(prefetch(lambda k: k * k, 3, 50, workers=4, ahead=7)) == [k * k for k in range(3, 50)]
    assert list(prefetch(lambda k: k, 5, 5)) == []


def test_prefetch_passes_errors_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda k: 1 // (3 - k), 0, 9))


def test_prefetch_stops_when_it_is_left() -> None:
    made: list[int] = []
    batches = prefetch(made.append, 0, 100_000, workers=1, ahead=2)
    next(batches)
    batches.close()
    assert len(made) < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("windows")]


def test_a_file_of_one_bar_size_gives_windows(tmp_path: Path) -> None:
    only = write_arrays([("g", "A", series(40, 7))], tmp_path, min_length=16)
    (batch,) = draw(only, steps=1)
    assert batch.values.shape == (8, 64, 6)
    assert (batch.valid == 40).all()


def test_flipped_bars_keep_sizes_and_stay_bars() -> None:
    rng = np.random.default_rng(3)
    close = np.exp(rng.normal(0, 0.02, (3, 50)).cumsum(1)) * 40
    opened = close * np.exp(rng.normal(0, 0.01, close.shape))
    high = np.maximum(opened, close) * np.exp(rng.exponential(0.01, close.shape))
    low = np.minimum(opened, close) / np.exp(rng.exponential(0.005, close.shape))
    values = np.stack([opened, high, low, close, np.full_like(close, 7.0), close * 7], -1)
    flips = rng.random(close.shape) < 0.5
    flipped = flip_bars(values, flips)
    assert np.allclose(flip_bars(values, np.zeros_like(flips)), values, rtol=1e-12)
    move, mirrored = (np.diff(np.log(v[..., 3]), axis=1) for v in (values, flipped))
    assert np.allclose(mirrored, np.where(flips[:, 1:], -move, move))
    o, h, low_, c = (flipped[..., i] for i in range(4))
    assert (h >= np.maximum(o, c) * (1 - 1e-12)).all()
    assert (low_ <= np.minimum(o, c) * (1 + 1e-12)).all()
    assert np.allclose((np.log(h / low_)), np.log(values[..., 1] / values[..., 2]))  # ranges stay
    assert np.array_equal(flipped[..., 4], values[..., 4])
    assert np.allclose(flipped[..., 5] / flipped[..., 3], 7)
    assert np.allclose(flip_bars(flipped, flips), values)  # twice is never


def test_coin_flips_leave_the_other_draws_as_they_are(arrays) -> None:
    plan = WindowPlan(32, (8, 16))
    plain, tossed = (
        WindowSampler(arrays, dataclasses.replace(plan, coin_flips=share), 8, 0)(5) for share in (0.0, 1.0)
    )
    assert np.array_equal(plain.stamps, tossed.stamps)
    assert np.array_equal(plain.boundary, tossed.boundary)
    assert np.allclose(plain.values[:, 0, :4], tossed.values[:, 0, :4])
    assert not np.allclose(plain.values, tossed.values)
