"""Estimators of the range, features and regressions of the pooled HAR model, and the one fitted on a context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kronos.protocol import CLOSE, HIGH, LOW, OPEN, Context
from kronos.volatility import (
    FEWEST,
    HORIZONS,
    LONGEST,
    PooledHar,
    features,
    garman_klass,
    har_refit,
    log_levels,
    parkinson,
    pooled_har,
    rogers_satchell,
    squared_moves,
    usual_variance,
)


def walk_bars(bars: int, sigma: float | np.ndarray = 0.01, steps: int = 400, seed: int = 0) -> np.ndarray:
    """(bars, 6) of a Gaussian walk without drift that is watched ``steps`` times a bar."""
    rng = np.random.default_rng(seed)
    scale = np.broadcast_to(sigma, bars)[:, None] / np.sqrt(steps)
    logs = 4.0 + np.cumsum((rng.standard_normal((bars, steps)) * scale).ravel()).reshape(bars, steps)
    start = np.concatenate([[4.0], logs[:-1, -1]])
    inside = np.column_stack([start, logs])
    prices = np.exp(np.stack([start, inside.max(axis=1), inside.min(axis=1), logs[:, -1]], axis=-1))
    return np.concatenate([prices, np.full((bars, 1), 10.0), 10.0 * prices[:, CLOSE:]], axis=1)


def context_of(bars: np.ndarray, ahead: int = 24, every: str = "1h") -> Context:
    step = np.timedelta64(int(every[:-1]), every[-1])
    times = np.datetime64("2024-01-01T00:00", "ns") + np.arange(len(bars) + ahead) * step
    return Context("A", times[: len(bars)], bars, times[len(bars) :])


@pytest.mark.parametrize("estimator", [parkinson, garman_klass, rogers_satchell, squared_moves])
def test_estimators_find_the_variance_of_a_walk(estimator):  # type: ignore[no-untyped-def]
    found = estimator(walk_bars(1500, 0.02, steps=4000))
    assert found.shape == (1499,)
    assert found.mean() == pytest.approx(0.02**2, rel=0.1)  # a range that is not watched all the time misses some of it


def test_ranges_say_more_than_closes() -> None:
    bars = walk_bars(3000)
    spread = {one.__name__: np.std(one(bars)) / one(bars).mean() for one in (garman_klass, parkinson, squared_moves)}
    assert spread["garman_klass"] < spread["parkinson"] < spread["squared_moves"]


def test_estimators_count_the_gap() -> None:
    bars = walk_bars(2)
    bars[1, : CLOSE + 1] *= np.exp(0.1)  # the whole second bar lies higher
    for estimator in (parkinson, garman_klass, rogers_satchell):
        assert estimator(bars)[0] >= 0.1**2 / (4 * np.log(2))


def test_closed_forms() -> None:
    bars = np.array([[100, 100, 100, 100, 1, 1], [100, 110, 95, 104, 1, 1]], dtype=float)
    o, h, low, c = np.log(bars[1, [OPEN, HIGH, LOW, CLOSE]])
    assert garman_klass(bars)[0] == pytest.approx(0.5 * (h - low) ** 2 - (2 * np.log(2) - 1) * (c - o) ** 2)
    assert rogers_satchell(bars)[0] == pytest.approx((h - c) * (h - o) + (low - c) * (low - o))
    assert parkinson(bars)[0] == pytest.approx((h - low) ** 2 / (4 * np.log(2)))


def test_features_do_not_depend_on_price_or_size_of_moves() -> None:
    bars = walk_bars(256)
    logs = np.log(bars[:, : CLOSE + 1])
    other = bars.copy()
    other[:, : CLOSE + 1] = np.exp(2.0 + 3.0 * (logs - logs[0, OPEN]))
    other[:, 4] *= 1000
    np.testing.assert_allclose(features(context_of(bars)), features(context_of(other)), atol=1e-8)


@pytest.mark.parametrize("spoil", ["flat", "no volume", "short", "two bars"])
def test_features_are_numbers(spoil: str) -> None:
    bars = walk_bars({"short": FEWEST, "two bars": 2}.get(spoil, 256))
    if spoil == "flat":
        bars[:, : CLOSE + 1] = 100.0
    if spoil == "no volume":
        bars[:, 4:] = 0.0
    context = context_of(bars)
    assert np.isfinite(features(context)).all()
    found = pooled_har().realized_variance(context, 30)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert (found > 0).all() == (spoil != "flat")


def test_only_the_last_bars_are_read() -> None:
    bars = walk_bars(400)
    changed = bars.copy()
    changed[:144, :4] *= 2
    np.testing.assert_array_equal(features(context_of(bars)), features(context_of(changed)))


def test_pooled_har_knows_a_calm_end_from_a_wild_one() -> None:
    calm = np.where(np.arange(256) < 200, 0.02, 0.004)
    wild = np.where(np.arange(256) < 200, 0.004, 0.02)
    contexts = [context_of(walk_bars(256, sigma)) for sigma in (calm, wild)]
    known = [np.arange(1, 25) * usual_variance(context) for context in contexts]
    found = [pooled_har().realized_variance(one, 24) / usual for one, usual in zip(contexts, known, strict=True)]
    assert (found[0] < 0.6).all()
    assert (found[1] > 2.0).all()


def test_level_of_known_paths() -> None:
    moves = np.array([[0.1, -0.1], [0.2, 0.2]])
    found = log_levels(np.cumsum(moves, axis=1), 0.01)
    assert found == pytest.approx(np.log([[1.02], [4.02]]).mean(axis=0).repeat(2))


def test_fit_finds_known_coefficients_and_smearing(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    found = rng.standard_normal((6000, len(HORIZONS), 2))
    noise = 0.5 * rng.standard_normal((6000, len(HORIZONS)))
    ratios = np.exp(0.3 + found @ [0.5, -0.2] + noise)
    ratios[:3000, -1] = np.nan  # the longest horizon is known of half the windows
    fitted = PooledHar.fit(found, ratios, np.ones(6000), penalty=0.0)
    slopes = fitted.coefficients[:, 1:] / fitted.spread
    np.testing.assert_allclose(slopes, np.tile([0.5, -0.2], (len(HORIZONS), 1)), atol=0.05)
    np.testing.assert_allclose(fitted.smearing, np.exp(0.5**2 / 2), rtol=0.08)
    fitted.write(tmp_path / "har.json", about="a test")
    np.testing.assert_allclose(PooledHar.read(tmp_path / "har.json").coefficients, fitted.coefficients, atol=1e-6)


def test_har_of_one_context_is_the_least_squares_fit() -> None:
    sigma = 0.01 * np.exp(np.sin(np.arange(400) / 15))
    context = context_of(walk_bars(400, sigma))
    v, r = garman_klass(context.values), squared_moves(context.values)
    v, r = v / v[-(LONGEST - 1) :].mean(), r / r[-(LONGEST - 1) :].mean()  # the bars whose variance is the usual one
    rows, truth, by_moves = [], [], []
    for end in range(22, len(v) - 8 + 1):  # the slow obvious way, eight bars ahead
        rows.append([1.0, *(np.log(v[end - n : end].mean() + 0.02) for n in (1, 5, 22))])
        truth.append(np.log(v[end : end + 8].mean() + 0.02))
        by_moves.append(np.log(r[end : end + 8].mean() + 0.02))
    solved, *_ = np.linalg.lstsq(np.array(rows), np.array(truth), rcond=None)
    now = [1.0, *(np.log(v[-n:].mean() + 0.02) for n in (1, 5, 22))]
    wanted = float(np.dot(now, solved)) + np.mean(by_moves) - np.mean(truth)
    assert har_refit(context, 8)[-1] == pytest.approx(wanted)


def test_har_of_one_context_has_the_level_of_squared_moves() -> None:
    found = np.array([har_refit(context_of(walk_bars(256, seed=seed, steps=100)), 24) for seed in range(20)]).mean(
        axis=0
    )
    one = np.random.default_rng(0).standard_normal(100_000) ** 2
    assert found[0] == pytest.approx(np.log(one + 0.02).mean(), abs=0.15)  # -1.1: half of all moves are below .67 σ
    assert found[-1] == pytest.approx(np.log(one[:99_984].reshape(-1, 24).mean(axis=1) + 0.02).mean(), abs=0.15)


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_a_steady_walk_has_the_level_of_one_in_squared_moves(horizon: int) -> None:
    """The log of few squared moves lies far below 0 on average; that of the range does not."""
    truths = np.log(np.random.default_rng(2).chisquare(horizon, 20_000) / horizon + 0.02)
    found = [har_refit(context_of(walk_bars(256, seed=seed, steps=100)), horizon)[-1] for seed in range(8)]
    assert np.mean(found) == pytest.approx(truths.mean(), abs=0.15)


def test_a_horizon_does_not_change_the_bars_before() -> None:
    sigma = 0.01 * (1 + 3 * (np.arange(256) % 24 < 6))  # a season, so that the hours to come count
    bars = walk_bars(256, sigma)
    longest = pooled_har().log_ratios(context_of(bars, 120), 120)
    for horizon in (1, 7, 10, 30, 100):
        found = pooled_har().log_ratios(context_of(bars, horizon), horizon)
        np.testing.assert_allclose(found, longest[:horizon], atol=1e-12)


def test_of_too_few_bars_nothing_is_known_but_their_variance() -> None:
    context = context_of(walk_bars(FEWEST - 1))
    assert np.isnan(pooled_har().log_ratios(context, 5)).all()
    found = pooled_har().realized_variance(context, 5)
    np.testing.assert_allclose(found, usual_variance(context) * np.arange(1, 6))
    assert np.isnan(har_refit(context_of(walk_bars(40)), 5)).all()
