"""Touches and first touches against closed forms, and bar by bar."""

from __future__ import annotations

from math import comb, erfc, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kronos.barriers import BOTH, LOSS, NEITHER, PROFIT, first_touch, touched
from kronos.errors import ConfigError

Floats = npt.NDArray[np.float64]


def bars(*rows: tuple[float, float, float, float]) -> Floats:
    """One path (1, H, 6) of bars given as open, high, low, close."""
    return np.array([[(*row, 1.0, 1.0) for row in rows]])


def bars_of(walks: npt.NDArray[Any], size: int) -> Floats:
    """(S, H, 6) bars, each of ``size`` steps of walks (S, 1 + H size)."""
    steps = walks[:, 1:].reshape(len(walks), -1, size)
    opens = walks[:, :-1:size]
    high, low = np.maximum(opens, steps.max(axis=-1)), np.minimum(opens, steps.min(axis=-1))
    blank = np.ones_like(opens)
    return np.stack([opens, high, low, steps[..., -1], blank, blank], axis=-1)


# -- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_touches_of_a_gaussian_walk_follow_the_reflection_principle(side: float) -> None:
    """P(max W ≥ b) = 2 P(W_T ≥ b): exact maxima of each bar, drawn from the Brownian bridge between its ends."""
    paths, horizon, sigma, last = 40_000, 24, 0.01, 100.0
    rng = np.random.default_rng(5)
    steps = sigma * rng.standard_normal((paths, horizon))
    ends = np.cumsum(steps, axis=1)
    begin = ends - steps
    reach = np.sqrt(steps**2 - 2 * sigma**2 * np.log(rng.random((2, paths, horizon))))
    highest, lowest = (begin + ends + reach[0]) / 2, (begin + ends - reach[1]) / 2
    prices = [last * np.exp(one) for one in (begin, highest, lowest, ends, begin, begin)]
    samples = np.stack(prices, axis=-1)
    for away in (0.5, 1.0, 2.0):
        barrier = side * away * sigma * sqrt(horizon)
        found = touched(samples, last * np.exp(barrier), last).mean(axis=0)
        told = np.array([erfc(abs(barrier) / (sigma * sqrt(2 * h))) for h in range(1, horizon + 1)])
        error = np.sqrt(told * (1 - told) / paths) + 1e-4
        assert (np.abs(found - told) < 4 * error).all()
        assert (np.diff(found) >= 0).all()


def test_touches_of_a_fine_coin_walk_are_those_counted() -> None:
    """P(max S_n ≥ b) = P(S_n ≥ b) + P(S_n > b) holds without any error of discretisation."""
    paths, horizon, size, barrier = 20_000, 8, 32, 12
    coins = np.random.default_rng(6).integers(0, 2, (paths, horizon * size)) * 2 - 1
    walks = np.pad(np.cumsum(coins, axis=1), ((0, 0), (1, 0))) + 1000.0
    found = touched(bars_of(walks, size), 1000.0 + barrier, 1000.0).mean(axis=0)
    for bar in (1, 3, 8):
        n = bar * size
        at_least = [sum(comb(n, k) for k in range(-(-(n + least) // 2), n + 1)) / 2**n for least in (12, 13)]
        told = sum(at_least)
        assert abs(found[bar - 1] - told) < 4 * sqrt(told * (1 - told) / paths) + 1e-4


@pytest.mark.parametrize(("up", "down"), [(10, 10), (6, 18), (20, 5)])
def test_a_driftless_walk_ends_at_a_barrier_as_gamblers_are_ruined(up: int, down: int) -> None:
    """Odds of the upper one first b / (a + b), of a long position and of a short one, after a b steps on average."""
    paths, horizon, size = 4000, 500, 8
    coins = np.random.default_rng(7).integers(0, 2, (paths, horizon * size), dtype=np.int8) * 2 - 1
    walks = np.pad(np.cumsum(coins, axis=1, dtype=np.float64), ((0, 0), (1, 0))) + 1000.0
    samples = bars_of(walks, size)
    found = first_touch(samples, 1000.0 + up, 1000.0 - down, 1000.0)
    profit, loss, both, neither = found.shares()
    told, error = down / (up + down), sqrt(up * down) / (up + down) / sqrt(paths)
    assert both == 0.0  # eight steps are fewer than from one barrier to the other
    assert neither < 0.005
    assert abs(profit - told) < 4 * error + neither
    assert abs(found.bars.mean() * size / (up * down) - 1) < 0.08 + size / (2 * up * down)
    short = first_touch(samples, 1000.0 - down, 1000.0 + up, 1000.0)
    assert list(short.shares()) == [loss, profit, both, neither]
    assert (short.bars == found.bars).all()


# -- bar by bar -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "outcome", "step"),
    [
        ([(100, 104, 99, 103), (103, 105, 102, 104)], PROFIT, 2),  # a high that reaches it
        ([(100, 101, 95, 96), (96, 110, 96, 109)], LOSS, 1),  # what comes later changes nothing
        ([(100, 106, 94, 100)], BOTH, 1),  # not guessed
        ([(100, 104, 96, 100)], NEITHER, 0),
        ([(106, 107, 94, 95)], PROFIT, 1),  # opened beyond the one before it fell to the other
        ([(94, 106, 93, 105)], LOSS, 1),
        ([(100, 101, 99, 100), (95, 106, 95, 105)], LOSS, 2),  # an open at the barrier
    ],
)
def test_what_is_touched_first(rows: list[tuple[float, float, float, float]], outcome: int, step: int) -> None:
    found = first_touch(bars(*rows), 105.0, 95.0, 100.0)
    assert (found.outcome[0], found.bars[0]) == (outcome, step)
    short = first_touch(bars(*rows), 95.0, 105.0, 100.0)
    assert short.outcome[0] == {PROFIT: LOSS, LOSS: PROFIT}.get(outcome, outcome)


def test_a_price_is_touched_from_its_side_and_stays_touched() -> None:
    path = bars((100, 105, 99, 101), (101, 102, 97, 98), (98, 99, 97, 98))
    assert touched(path, 105.0, 100.0).tolist() == [[True, True, True]]
    assert touched(path, 97.0, 100.0).tolist() == [[False, True, True]]
    assert touched(path, 105.01, 100.0).tolist() == [[False, False, False]]
    gap = bars((108, 109, 107, 108))  # jumped over
    assert touched(gap, 105.0, 100.0).all()
    assert touched(gap, 96.0, 100.0).sum() == 0


def test_windows_and_single_bars_are_taken_with_their_own_prices() -> None:
    path = bars((100, 105, 99, 101), (101, 102, 97, 98))
    windows = np.stack([path, 2 * path])  # (W, S, H, 6)
    last, profit, loss = (np.array([[p], [2 * p]]) for p in (100.0, 105.0, 97.0))
    found = first_touch(windows, profit, loss, last)
    assert found.outcome.tolist() == [[PROFIT], [PROFIT]]
    assert found.shares().shape == (4, 2)
    assert touched(windows, loss, last)[:, 0].tolist() == [[False, True]] * 2
    assert touched(path[0], 105.0, 100.0).tolist() == [True, True]  # what happened, (H, 6)
    happened = first_touch(path[0], 106.0, 97.0, 100.0)
    assert happened.outcome == LOSS
    assert happened.bars == 2


def test_prices_are_compared_in_the_precision_of_the_paths() -> None:
    path = bars((100, 105.1, 99, 101)).astype(np.float32)  # as float64 its high is 105.0999985
    assert touched(path, 105.1, 100.0).all()
    assert first_touch(path, 105.1, 98.0, 100.0).outcome[0] == PROFIT
    assert not touched(path, 1e300, 100.0).any()


@pytest.mark.parametrize("price", [0.0, -3.0, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(price: float) -> None:
    path = bars((100, 105, 99, 101))
    with pytest.raises(ConfigError, match="positive number"):
        touched(path, price, 100.0)
    with pytest.raises(ConfigError, match="positive number"):
        first_touch(path, 105.0, price, 100.0)


def test_the_last_close_itself_and_barriers_of_one_side_are_refused() -> None:
    path = bars((100, 105, 99, 101))
    with pytest.raises(ConfigError, match="100 is the last close itself"):
        touched(path, 100.0, 100.0)
    with pytest.raises(ConfigError, match=r"2506\.85 is the last close itself"):
        touched(path, 2506.85, float(np.float32(2506.85)))
    with pytest.raises(ConfigError, match=r"take profit 105 and the stop loss 103 both lie above the last close 100"):
        first_touch(path, 105.0, 103.0, 100.0)
    with pytest.raises(ConfigError, match="both lie below"):
        first_touch(path, 95.0, 97.0, 100.0)
