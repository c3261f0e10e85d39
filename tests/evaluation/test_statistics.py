"""Tests of the tests: closed forms, another library, and rejection rates on simulated data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kronos.evaluation.statistics import (
    Estimate,
    _fixed_b,
    block_bootstrap,
    cluster_test,
    diebold_mariano,
    holm,
    newey_west,
    verdict,
)


def autoregression(length: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """AR(1) with unit innovations, begun in its stationary law."""
    x = np.empty(length)
    x[0] = rng.standard_normal() / np.sqrt(1 - rho**2)
    for t in range(1, length):
        x[t] = rho * x[t - 1] + rng.standard_normal()
    return x


def test_newey_west_without_lags_is_the_plain_error() -> None:
    x = np.random.default_rng(0).normal(0.3, 1, 40)
    found = newey_west(x, lags=0)
    assert found.error == pytest.approx(x.std() / np.sqrt(40), abs=1e-12)
    assert found.t == pytest.approx(x.mean() / found.error, abs=1e-12)


def test_newey_west_by_hand() -> None:
    """e = (-1, 0, 1, 0): γ0 = .5, γ1 = 0, γ2 = -.25; two lags weigh 2/3 and 1/3."""
    found = newey_west([0.0, 1.0, 2.0, 1.0], lags=2)
    assert found.error == pytest.approx(np.sqrt((0.5 - 2 / 3 * 0.25) / 4), abs=1e-12)


def test_newey_west_equals_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    x = autoregression(120, 0.5, np.random.default_rng(1))
    theirs = api.OLS(x, np.ones(120)).fit(cov_type="HAC", cov_kwds={"maxlags": 5})
    assert newey_west(x, lags=5).error == pytest.approx(float(theirs.bse[0]), rel=1e-10)


def test_newey_west_sees_autocorrelation() -> None:
    rng = np.random.default_rng(2)
    x = autoregression(20_000, 0.6, rng)
    assert newey_west(x, lags=40).error == pytest.approx(1 / (1 - 0.6) / np.sqrt(20_000), rel=0.12)


def test_too_few_dates_give_no_test() -> None:
    assert np.isnan(newey_west([1.0, 2.0]).p)
    assert np.isnan(block_bootstrap([1.0, 2.0, 3.0], 1).low)
    assert np.isnan(newey_west([]).mean)
    assert newey_west([1.0, 1.0, 1.0]).p == 0.0
    assert np.isnan(newey_west([0.0, 0.0, 0.0]).p)


def test_p_value_without_lags_is_students() -> None:
    x = np.random.default_rng(3).normal(size=9)
    found = newey_west(x, lags=0)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(x.mean() / (x.std() / 3.0)), 8), abs=1e-12)


def test_fixed_b_widens_with_the_lags() -> None:
    """cv(.5) of Kiefer and Vogelsang is 3.48: at T = 20, 9 lags, t = 3.48 is just significant at 5 %."""
    assert _fixed_b(9, 20) * 1.96 == pytest.approx(3.482, abs=0.001)
    assert _fixed_b(0, 20) == 1.0


@pytest.mark.parametrize(("length", "rho"), [(12, 0.0), (20, 0.3), (40, 0.3)])
def test_small_samples_hold_their_level(length: int, rho: float) -> None:
    """Fat tails, few dates, autocorrelation: the textbook version rejects three times too often here."""
    rng = np.random.default_rng(length)
    rejected = 0
    for _ in range(1000):
        x = rng.standard_t(4, size=length + 20)
        for t in range(1, len(x)):
            x[t] += rho * x[t - 1]
        rejected += diebold_mariano(x[20:], np.zeros(length)).p < 0.05
    assert 0.015 < rejected / 1000 < 0.09


@pytest.mark.parametrize(("overlap", "limit"), [(1, 0.08), (4, 0.09)])
def test_diebold_mariano_holds_its_level_and_finds_a_difference(overlap: int, limit: float) -> None:
    rng = np.random.default_rng(4)
    rejected = found = 0
    for _ in range(400):
        noise = rng.normal(size=120 + overlap)
        difference = np.convolve(noise, np.ones(overlap), "valid")[:120]  # moving average: overlapping outcomes
        rejected += diebold_mariano(difference, np.zeros(120), overlap).p < 0.05
        found += diebold_mariano(difference + 0.5 * overlap, np.zeros(120), overlap).p < 0.05
    assert rejected / 400 < limit
    assert found / 400 > 0.9


def test_cluster_test_by_hand_and_its_level() -> None:
    """Without ties between observations it is the plain t-test up to the divisor; with copies it is not fooled."""
    x = np.random.default_rng(6).normal(size=30)
    plain = cluster_test(np.arange(30).astype(str), x)
    assert plain.error == pytest.approx(x.std(ddof=1) / np.sqrt(30), abs=1e-12)
    copied = cluster_test(np.repeat(np.arange(30), 7).astype(str), np.repeat(x, 7))
    assert copied.error == pytest.approx(plain.error, abs=1e-12)
    assert copied.n == 30
    assert np.isnan(cluster_test(np.array(list("aabb")), x[:4]).p)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, np.nan]) == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]


def test_block_bootstrap_covers_and_widens_with_dependence() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        estimate = block_bootstrap(autoregression(300, 0.5, rng), 15, draws=300, seed=seed)
        held += estimate.low <= 0.0 <= estimate.high
    assert 0.86 < held / 200 < 0.99
    x = autoregression(500, 0.7, rng)
    narrow, wide = block_bootstrap(x, 1), block_bootstrap(x, 25)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(500), rel=0.1)


def test_verdict_needs_both_the_interval_and_the_p_value() -> None:
    good = Estimate(-0.1, -0.2, -0.05)
    assert verdict("X", good, 0.01) == "better than X"
    assert verdict("X", good, 0.20) == "no edge shown over X"
    assert verdict("X", Estimate(-0.1, -0.2, 0.05), 0.01) == "no edge shown over X"
    assert verdict("X", Estimate(0.1, 0.05, 0.2), 0.01) == "worse than X"
    assert verdict("X", Estimate(0.1, 0.05, 0.2), 0.01, lower_is_better=False) == "better than X"
    assert verdict("X", Estimate(-0.1, float("nan"), float("nan")), float("nan")) == "no edge shown over X"
