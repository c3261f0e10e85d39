"""Tests of the tests: closed forms, another library, and rejection rates on simulated data."""

from __future__ import annotations

import sys
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from kronos.errors import MissingExtraError
from kronos.evaluation.statistics import (
    Estimate,
    _expanded_tail,
    automatic_lags,
    block_bootstrap,
    cluster_bootstrap,
    cluster_test,
    diebold_mariano,
    first_mean,
    holm,
    newey_west,
    ratio_of_means,
    time_blocks,
    verdict,
)

NAN = float("nan")


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
    assert astuple(newey_west([1.0, NAN, 2.0])) == pytest.approx((1.5, NAN, NAN, NAN, 0, 2), nan_ok=True)
    assert astuple(newey_west([])) == pytest.approx((NAN, NAN, NAN, NAN, 0, 0), nan_ok=True)
    for few in ([], [NAN]):
        assert astuple(block_bootstrap(few, 1)) == pytest.approx((NAN, NAN, NAN), nan_ok=True)
    assert astuple(block_bootstrap([1.0, 2.0, 3.0, 6.0], 1)) == pytest.approx((3.0, NAN, NAN), nan_ok=True)
    assert astuple(block_bootstrap(np.arange(9.0), 5)) == pytest.approx((4.0, NAN, NAN), nan_ok=True)
    assert np.isfinite(astuple(block_bootstrap(np.arange(5.0), 1))).all()
    assert np.isfinite(astuple(block_bootstrap(np.arange(10.0), 5))).all()


def test_observations_that_are_all_the_same() -> None:
    assert astuple(newey_west([1.0, 1.0, 1.0])) == (1.0, 0.0, np.inf, 0.0, 1, 3)
    assert astuple(newey_west([-1.0, -1.0, -1.0])) == (-1.0, 0.0, -np.inf, 0.0, 1, 3)
    assert astuple(newey_west([0.0, 0.0, 0.0])) == pytest.approx((0.0, 0.0, NAN, NAN, 1, 3), nan_ok=True)


def test_lags_are_the_asked_ones_as_far_as_there_are_dates() -> None:
    assert [automatic_lags(size) for size in (0, 1, 4, 100)] == [0, 1, 2, 12]
    x = np.random.default_rng(7).normal(size=30)
    assert [newey_west(x, lags).lags for lags in (None, 0, 3, 99)] == [7, 0, 3, 28]
    assert [diebold_mariano(x, 0 * x, overlap).lags for overlap in (1, 2, 4, 5, 9)] == [7, 7, 7, 9, 17]
    gaps = x.copy()
    gaps[3] = NAN
    assert diebold_mariano(gaps, 0 * x, 5) == diebold_mariano(np.delete(x, 3), np.zeros(29), 5)
    assert diebold_mariano(0 * x, x).mean == -diebold_mariano(x, 0 * x).mean
    assert newey_west(x.astype(np.float32)) == newey_west(x.astype(np.float32).astype(float))


def test_p_value_without_lags_is_students() -> None:
    x = np.random.default_rng(3).normal(size=9)
    found = newey_west(x, lags=0)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(x.mean() / (x.std() / 3.0)), 8), abs=1e-12)


def test_fixed_b_widens_with_the_lags() -> None:
    """cv(.5) of Kiefer and Vogelsang is 3.48: at T = 20, 9 lags, t = 3.48 is just significant at 5 %."""
    found = newey_west(np.random.default_rng(12).normal(0.3, 1, 20), lags=9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.t) * 1.96 / 3.482, 19), rel=1e-3)


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
    theirs = stats.ttest_1samp(x, 0.0)
    found = astuple(plain)
    assert found == pytest.approx((x.mean(), plain.error, theirs.statistic, theirs.pvalue, 0, 30), rel=1e-10)


def test_cluster_test_of_unequal_clusters_by_hand() -> None:
    """Mean 2; the clusters' sums of deviations are -2, 0, 1, 2, -1: error² = 5/4 · 10 / 7²."""
    labels = np.array([3, 3, 7, 9, 11, 11, 5, 1])
    found = cluster_test(labels, [0.0, 2.0, 2.0, 3.0, 3.0, 3.0, 1.0, NAN])
    error = np.sqrt(5 / 4 * 10) / 7
    wanted = (2.0, error, 2.0 / error, 2 * stats.t.sf(2.0 / error, 4), 0, 5)
    assert astuple(found) == pytest.approx(wanted, rel=1e-12)


def test_too_few_clusters_give_no_test() -> None:
    found = cluster_test(np.array(list("aabc")), [1.0, 2.0, 3.0, 6.0])
    assert astuple(found) == pytest.approx((3.0, NAN, NAN, NAN, 0, 3), nan_ok=True)
    assert astuple(cluster_test(np.array(["a"]), [7.0])) == pytest.approx((7.0, NAN, NAN, NAN, 0, 1), nan_ok=True)
    assert astuple(cluster_test(np.array(["a"]), [NAN])) == pytest.approx((NAN, NAN, NAN, NAN, 0, 0), nan_ok=True)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, np.nan]) == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert holm([0.7, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.02, 0.02, 0.02]).tolist() == [0.06, 0.06, 0.06]


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


def test_block_bootstrap_of_a_known_mean() -> None:
    x = np.random.default_rng(8).normal(3, 1, 64)
    found = block_bootstrap(x, 1, draws=20_000)
    assert found == block_bootstrap([*x, NAN], 0, draws=20_000)  # a block is one observation at least
    assert found != block_bootstrap(x, 1, draws=20_000, seed=1)
    assert found.value == x.mean()
    half = stats.t.isf(0.025, 63) * x.std(ddof=1) / 8
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.02)
    middle = block_bootstrap(x, 1, draws=20_000, level=0.5)
    half = stats.t.isf(0.25, 63) * x.std(ddof=1) / 8
    assert (middle.low, middle.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.02)


def test_block_bootstrap_draws_the_blocks_of_arch() -> None:
    bootstrap = pytest.importorskip("arch.bootstrap")
    x = np.random.default_rng(11).normal(size=61)
    blocks = bootstrap.CircularBlockBootstrap(4, x, seed=np.random.default_rng([0, 61, 4]))
    means = blocks.apply(np.mean, 500)[:, 0]
    tail = _expanded_tail(0.95, 16)
    found = block_bootstrap(x, 4, draws=500)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [tail, 1 - tail]), rel=1e-12)


def test_blocks_keep_neighbours_together() -> None:
    """Opposite neighbours cancel in blocks of two that begin at any place, also across the end."""
    found = block_bootstrap(np.tile([1.0, -1.0], 20), 2)
    assert astuple(found) == (0.0, 0.0, 0.0)
    whole = block_bootstrap(np.tile([1.0, -1.0, 0.0], 7), 3)
    assert astuple(whole) == pytest.approx((0.0, 0.0, 0.0), abs=1e-15)


@pytest.mark.parametrize(("level", "units"), [(0.95, 5), (0.8, 20)])
def test_expanded_tail_is_where_students_interval_ends(level: float, units: int) -> None:
    """A bootstrap of G units has the spread s √((G - 1) / G): that many normal widths reach Student's end."""
    z = stats.norm.isf(_expanded_tail(level, units))
    reach = stats.t.ppf((1 + level) / 2, units - 1)
    assert z * np.sqrt((units - 1) / units) == pytest.approx(reach, rel=1e-10)


def test_cluster_bootstrap_of_single_observations_is_students_interval() -> None:
    x = np.random.default_rng(9).normal(3, 1, 64)
    names = np.arange(64)
    for level in (0.95, 0.5):
        found = cluster_bootstrap(names, x, first_mean, draws=20_000, level=level)
        half = stats.t.isf((1 - level) / 2, 63) * x.std(ddof=1) / 8
        assert found.value == pytest.approx(x.mean())
        assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.02)
    usual = cluster_bootstrap(names, x, first_mean)
    assert usual == cluster_bootstrap(names, x, first_mean, draws=2000, level=0.95, seed=0)
    assert usual != cluster_bootstrap(names, x, first_mean, seed=1)


def test_cluster_bootstrap_keeps_clusters_together_and_leaves_gaps_out() -> None:
    x = np.random.default_rng(10).normal(3, 1, (30, 2))
    plain = cluster_bootstrap(np.arange(30), x, ratio_of_means)
    assert plain.value == pytest.approx(x[:, 0].mean() / x[:, 1].mean())
    copied = cluster_bootstrap(np.repeat(np.arange(30), 3), np.repeat(x, 3, axis=0), ratio_of_means)
    assert astuple(copied) == pytest.approx(astuple(plain), rel=1e-12)
    holes = np.vstack([x, [[NAN, 5.0], [5.0, NAN]]])
    assert cluster_bootstrap(np.arange(32), holes, ratio_of_means) == plain
    uneven = cluster_bootstrap(np.array(list("aaabbcdeef")), np.tile([2.0, 8.0], (10, 1)), ratio_of_means)
    assert astuple(uneven) == (0.25, 0.25, 0.25)  # a cluster weighs as many observations as it has


def test_cluster_bootstrap_needs_five_clusters() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    few = cluster_bootstrap(np.array(list("abcdd")), x, first_mean)
    assert few.as_dict() == pytest.approx({"value": 3.0, "low": NAN, "high": NAN}, nan_ok=True)
    assert np.isfinite(astuple(cluster_bootstrap(np.array(list("abcde")), x, first_mean))).all()
    one = cluster_bootstrap(np.array(["a"]), [7.0], first_mean)
    assert astuple(one) == pytest.approx((7.0, NAN, NAN), nan_ok=True)
    none = cluster_bootstrap(np.array(["a"]), [NAN], first_mean)
    assert astuple(none) == pytest.approx((NAN, NAN, NAN), nan_ok=True)


def test_time_blocks_are_as_long_as_the_forecast() -> None:
    cutoffs = np.array(["1970-01-05T23:00", "1970-01-06T00:00", "1970-01-07T12:00", "1970-01-06T00:00"], "M8[h]")
    spans = np.array([5, 24, 25, 0], "m8[h]")
    assert time_blocks(cutoffs, spans).tolist() == ["1d:4", "1d:5", "2d:3", "1d:5"]


def test_verdict_needs_both_the_interval_and_the_p_value() -> None:
    good = Estimate(-0.1, -0.2, -0.05)
    assert verdict("X", good, 0.01) == "better than X"
    assert verdict("X", good, 0.20) == "no edge shown over X"
    assert verdict("X", good, 0.05) == "no edge shown over X"
    assert verdict("X", Estimate(-0.1, -0.2, 0.0), 0.01) == "no edge shown over X"
    assert verdict("X", Estimate(0.1, 0.0, 0.2), 0.01) == "no edge shown over X"
    assert verdict("X", Estimate(-0.1, -0.2, 0.05), 0.01) == "no edge shown over X"
    assert verdict("X", Estimate(0.1, 0.05, 0.2), 0.01) == "worse than X"
    assert verdict("X", Estimate(0.1, 0.05, 0.2), 0.01, lower_is_better=False) == "better than X"
    assert verdict("X", Estimate(-0.1, float("nan"), float("nan")), float("nan")) == "no edge shown over X"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.stats.multitest", None)
    with pytest.raises(MissingExtraError, match=r"pip install.*'arch"):
        holm([0.1])
