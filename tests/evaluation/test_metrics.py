"""Each metric against a closed form, an independent library, or a count by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from kronos.evaluation import metrics

#: Every score that keeps leading axes, as a function of truths (...) and samples (..., 9).
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "crps": metrics.crps,
    "energy_score": lambda y, x: metrics.energy_score(x[..., 6:], x[..., :6].reshape(*y.shape, 2, 3)),
    "energy_score_of_one": lambda y, x: metrics.energy_score(x[..., 3:6], x[..., None, :3]),
    "sample_quantile": lambda y, x: metrics.sample_quantile(x, [0.2, 0.7]),
    "interval": lambda y, x: np.stack(metrics.interval(x, 0.5), axis=-1),
    "unattainable": lambda y, x: np.stack(metrics.interval(x, 0.95), axis=-1),
    "covered": lambda y, x: metrics.covered(y, x, 0.5),
    "interval_width": lambda y, x: metrics.interval_width(x, 0.5),
    "pinball": lambda y, x: metrics.pinball(y, x[..., 0], 0.3),
    "absolute_error": metrics.absolute_error,
    "mase_scale": lambda y, x: metrics.mase_scale(x, season=2),
    "direction_hit": metrics.direction_hit,
    "realised_volatility": lambda y, x: metrics.realised_volatility(x),
    "qlike": lambda y, x: metrics.qlike(np.abs(y), np.abs(x[..., 0])),
    "invalid_bars": lambda y, x: metrics.invalid_bars(x[..., :6] + [10, 12, 8, 10, 1, 1]),
}  # fmt: skip
POOLED: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "pit_histogram": lambda y, x: metrics.pit_histogram(np.abs(x) / 4, bins=7),
    "ks_distance": lambda y, x: metrics.ks_distance(np.abs(x) / 4),
    "randomised_pit": lambda y, x: metrics.randomised_pit(y, x, np.random.default_rng(0)),
}


@pytest.mark.parametrize("score", SCORES)
def test_leading_axes_are_cases_of_their_own(score: str) -> None:
    rng = np.random.default_rng(9)
    y, x = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 9))
    together = SCORES[score](y, x)
    for case in np.ndindex(3, 4):
        np.testing.assert_allclose(together[case], SCORES[score](y[case], x[case]), rtol=1e-12)


@pytest.mark.parametrize("score", [*SCORES, *POOLED])
def test_single_precision_is_scored_in_double(score: str) -> None:
    rng = np.random.default_rng(10)
    y, x = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(3, 4, 9)).astype(np.float32)
    function = (SCORES | POOLED)[score]
    found = function(y, x)
    assert np.asarray(found).dtype == np.float64
    np.testing.assert_array_equal(found, function(y.astype(np.float64), x.astype(np.float64)))


def gaussian_crps(y: np.ndarray | float, mean: float, sigma: float) -> np.ndarray:
    """Closed form of Gneiting and Raftery (2007), equation 21."""
    z = (np.asarray(y) - mean) / sigma
    return sigma * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


def test_crps_equals_the_pairwise_definition() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 7))
    pairs = np.abs(x[..., :, None] - x[..., None, :]).sum((-1, -2)) / (2 * 7 * 6)
    assert np.allclose(metrics.crps(y, x), np.abs(x - y[..., None]).mean(-1) - pairs, atol=1e-13)


def test_crps_equals_scoringrules() -> None:
    scoringrules = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=20), rng.normal(size=(20, 30))
    theirs = scoringrules.crps_ensemble(y, x, estimator="fair", backend="numpy")
    assert np.allclose(metrics.crps(y, x), theirs, atol=1e-12)


@pytest.mark.parametrize("size", [2, 5, 50])
def test_crps_expectation_does_not_depend_on_the_number_of_samples(size: int) -> None:
    """The estimator is fair: its mean is the closed form already at two samples."""
    rng = np.random.default_rng(size)
    x = rng.normal(0.2, 1.5, size=(200_000 // size, size))
    found = metrics.crps(0.7, x)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - gaussian_crps(0.7, 0.2, 1.5)) < 4 * error


def test_crps_of_a_point_is_its_distance_and_of_the_truth_is_zero() -> None:
    assert metrics.crps(2.0, [5.0]) == pytest.approx(3.0)
    assert metrics.crps(2.0, [2.0, 2.0, 2.0]) == 0.0


def test_crps_rewards_the_true_distribution() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=20_000)
    base = rng.normal(size=(20_000, 20))
    honest = metrics.crps(y, base).mean()
    assert honest < metrics.crps(y, 0.7 * base).mean()
    assert honest < metrics.crps(y, 1.4 * base).mean()
    assert honest < metrics.crps(y, base + 0.3).mean()


def test_energy_score_in_one_dimension_is_the_crps() -> None:
    rng = np.random.default_rng(4)
    y, x = rng.normal(size=6), rng.normal(size=(6, 11))
    assert np.allclose(metrics.energy_score(y[:, None], x[..., None]), metrics.crps(y, x), atol=1e-12)


def test_energy_score_equals_scoringrules() -> None:
    scoringrules = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(5)
    y, x = rng.normal(size=(6, 4)), rng.normal(size=(6, 15, 4))
    theirs = scoringrules.es_ensemble(y, x, m_axis=-2, v_axis=-1, estimator="fair", backend="numpy")
    assert np.allclose(metrics.energy_score(y, x), theirs, atol=1e-12)
    assert metrics.energy_score([0.0, 0.0], [[3.0, 4.0]]) == pytest.approx(5.0)


def test_interval_coverage_is_exact_when_truth_is_one_of_the_crowd() -> None:
    """99 samples cut the line into 100 equally likely gaps; the 90 % interval must hold 90 of them."""
    samples = np.arange(1.0, 100.0)
    gaps = np.arange(0.5, 100.0)
    for level in (0.5, 0.8, 0.9):
        assert metrics.covered(gaps, np.tile(samples, (100, 1)), level).sum() == pytest.approx(100 * level)


@pytest.mark.parametrize("size", [30, 50, 64, 100])
def test_interval_coverage_has_no_finite_sample_bias(size: int) -> None:
    rng = np.random.default_rng(size)
    x, y = rng.normal(size=(40_000, size)), rng.normal(size=40_000)
    for level in metrics.LEVELS:
        assert metrics.covered(y, x, level).mean() == pytest.approx(level, abs=0.008)
    biased = np.quantile(x, [0.05, 0.95], axis=-1)  # numpy's default definition would fail
    if size == 30:
        assert ((y >= biased[0]) & (y <= biased[1])).mean() < 0.87


def test_interval_needs_enough_samples() -> None:
    assert np.isnan(metrics.covered(0.0, np.arange(18.0), 0.9))
    assert metrics.interval(np.arange(1.0, 20.0), 0.9) == (1.0, 19.0)
    assert np.isnan(metrics.interval_width([1.0], 0.5))


def test_interval_width_of_known_samples() -> None:
    assert metrics.interval_width(np.arange(1.0, 100.0), 0.8) == pytest.approx(80.0)


def test_pinball_by_hand_and_its_integral_is_half_the_crps() -> None:
    assert metrics.pinball(3.0, 1.0, 0.9) == pytest.approx(1.8)
    assert metrics.pinball(1.0, 3.0, 0.9) == pytest.approx(0.2)
    levels = (np.arange(20_000) + 0.5) / 20_000
    losses = metrics.pinball(0.4, stats.norm.ppf(levels), levels)
    assert 2 * losses.mean() == pytest.approx(float(gaussian_crps(0.4, 0.0, 1.0)), abs=1e-6)


def test_absolute_error_uses_the_median() -> None:
    assert metrics.absolute_error(1.0, [0.0, 2.0, 100.0]) == pytest.approx(1.0)


def test_mase_scale_by_hand() -> None:
    assert metrics.mase_scale([1.0, 2.0, 4.0, 3.0]) == pytest.approx(4 / 3)
    assert metrics.mase_scale([1.0, 2.0, 4.0, 3.0], season=2) == pytest.approx(2.0)


def test_pit_of_a_calibrated_forecast_is_uniform_also_with_ties() -> None:
    rng = np.random.default_rng(6)
    for draw in (rng.normal, lambda size: rng.integers(3, size=size).astype(float)):
        pit = metrics.randomised_pit(draw(size=20_000), draw(size=(20_000, 9)), rng)
        assert stats.kstest(pit, "uniform").pvalue > 0.001
        assert metrics.ks_distance(pit) == pytest.approx(stats.kstest(pit, "uniform").statistic, abs=1e-12)


def test_pit_sees_bias_and_narrowness() -> None:
    rng = np.random.default_rng(7)
    y, x = rng.normal(size=5000), rng.normal(size=(5000, 40))
    assert metrics.ks_distance(metrics.randomised_pit(y, x + 1.0, rng)) > 0.3
    narrow = metrics.randomised_pit(y, 0.3 * x, rng)
    assert ((narrow < 0.05) | (narrow > 0.95)).mean() > 0.4


def test_pit_histogram_is_a_density() -> None:
    assert metrics.pit_histogram([0.1, 0.2, 0.3, 0.9, np.nan], bins=2).tolist() == [1.5, 0.5]
    assert metrics.pit_histogram([0.4, 0.5], bins=2).tolist() == [1.0, 1.0]  # over (0, 1), not over what is there
    assert metrics.pit_histogram([0.3], bins=2).tolist() == [2.0, 0.0]
    assert metrics.pit_histogram((np.arange(1000) + 0.5) / 1000) == pytest.approx(np.ones(20))
    assert np.isnan(metrics.pit_histogram([np.nan])).all()


def test_ks_distance_closed_forms() -> None:
    assert metrics.ks_distance([0.5]) == pytest.approx(0.5)
    assert metrics.ks_distance((np.arange(10) + 0.5) / 10) == pytest.approx(0.05)
    assert metrics.ks_distance(np.ones(4)) == pytest.approx(1.0)
    assert np.isnan(metrics.ks_distance([np.nan]))


def test_direction_hit_by_hand() -> None:
    samples = np.array([[1.0, 2.0, -1.0], [-1.0, -2.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = metrics.direction_hit([0.5, 0.5, 0.5, 0.0], samples)
    assert found[:3].tolist() == [1.0, 0.0, 0.5]
    assert metrics.direction_hit([-0.5, -0.5], samples[:2]).tolist() == [0.0, 1.0]
    assert np.isnan(found[3])


def test_realised_volatility_by_hand() -> None:
    assert metrics.realised_volatility([0.0, 0.03, -0.01]) == pytest.approx(0.05)


def test_qlike_by_hand_and_its_minimum() -> None:
    assert metrics.qlike(2.0, 1.0) == pytest.approx(1.0 - np.log(2.0))
    assert metrics.qlike(3.0, 3.0) == pytest.approx(0.0)
    assert np.isnan(metrics.qlike(0.0, 1.0))
    y = np.random.default_rng(8).chisquare(3, size=50_000)
    losses = [metrics.qlike(y, f).mean() for f in (2.5, 3.0, 3.5)]
    assert losses[1] == min(losses)  # the mean variance is the best constant


@pytest.mark.parametrize(
    ("bar", "bad"),
    [
        ([10, 12, 9, 11, 5, 50], 0),
        ([10, 10, 10, 10, 0, 0], 0),
        ([10, 10.5, 9, 11, 5, 50], 1),  # high below the close
        ([10, 12, 10.5, 11, 5, 50], 1),  # low above the open
        ([10, 12, 9, 11, -1, 50], 1),
        ([10, 12, 9, 11, 5, -1], 1),
        ([10, 12, 0, 11, 5, 50], 1),
        ([10, np.inf, 9, 11, 5, 50], 1),
        ([10, 12, 9, 11, np.nan, 50], 1),
    ],
)
def test_invalid_bars(bar: list[float], bad: int) -> None:
    assert metrics.invalid_bars(bar) == bad


# -- mirrored draws ---------------------------------------------------------------------------------------------------


def mirrored(half: np.ndarray, axis: int = -1) -> np.ndarray:
    """Each draw of (..., S / 2) followed by its negative."""
    pairs = np.stack([half, -half], axis=axis)
    return pairs.reshape(*half.shape[:-1], 2 * half.shape[-1])


def test_mirrored_draws_score_as_independent_ones_and_the_plain_formula_flatters_them() -> None:
    """Of a right normal law, from 10 paths: the closed form is 1/√π, and counted pairs gain a tenth of it."""
    rng, size = np.random.default_rng(3), 10
    y, x = rng.normal(size=200_000), mirrored(rng.normal(size=(200_000, size // 2)))
    honest = 1 / np.sqrt(np.pi)
    error = 4 * gaussian_crps(y, 0, 1).std() / np.sqrt(len(y))
    assert gaussian_crps(y, 0, 1).mean() == pytest.approx(honest, abs=error)
    found, plain = metrics.crps(y, x, mirrored=True), metrics.crps(y, x)
    independent = metrics.crps(y, rng.normal(size=(200_000, size)))
    assert found.mean() == pytest.approx(gaussian_crps(y, 0, 1).mean(), abs=0.002)
    assert found.mean() == pytest.approx(independent.mean(), abs=0.004)
    # E|x - x'| of a pair and its mirror is 2 E|x|, √2 times that of two draws, for one in S - 1 of the pairs
    gain = (np.sqrt(2) - 1) / np.sqrt(np.pi) / (size - 1)
    assert found.mean() - plain.mean() == pytest.approx(gain, rel=0.02)


@pytest.mark.parametrize("size", [4, 9, 10])
def test_pairs_are_left_out_one_by_one(size: int) -> None:
    rng = np.random.default_rng(size)
    y, half = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, -(-size // 2), 2))
    x = np.stack([half, -half], axis=-2).reshape(3, 4, -1, 2)[..., :size, :]
    kept = [(i, j) for i in range(size) for j in range(size) if i != j and i // 2 != j // 2]
    spread = np.mean([np.abs(x[..., i, 0] - x[..., j, 0]) for i, j in kept], axis=0) / 2
    expected = np.abs(x[..., 0] - y[..., None]).mean(axis=-1) - spread
    np.testing.assert_allclose(metrics.crps(y, x[..., 0], mirrored=True), expected, atol=1e-12)
    spread = np.mean([np.linalg.norm(x[..., i, :] - x[..., j, :], axis=-1) for i, j in kept], axis=0) / 2
    truth = np.stack([y, y], axis=-1)
    expected = np.linalg.norm(x - truth[..., None, :], axis=-1).mean(axis=-1) - spread
    np.testing.assert_allclose(metrics.energy_score(truth, x, mirrored=True), expected, atol=1e-12)


def test_one_pair_alone_has_no_spread_to_tell() -> None:
    assert metrics.crps(2.0, [1.0, -1.0], mirrored=True) == pytest.approx(2.0)
    assert metrics.crps(2.0, [5.0], mirrored=True) == pytest.approx(3.0)


def test_with_the_centre_ranks_and_intervals_of_mirrored_draws_are_exact() -> None:
    rng, size = np.random.default_rng(5), 8
    y, x = rng.normal(size=200_000), mirrored(rng.normal(size=(200_000, size // 2)))
    ranked = metrics.with_centre(x)
    assert ranked.shape == (200_000, size + 1)
    assert metrics.ks_distance(metrics.randomised_pit(y, ranked, rng)) < 0.004
    assert metrics.ks_distance(metrics.randomised_pit(y, x, rng)) > 0.02  # the gap about the centre is twice as likely
    assert metrics.covered(y, ranked, 0.6).mean() == pytest.approx(0.6, abs=0.005)
    assert (metrics.direction_hit(y, ranked) == 0.5).all()
    np.testing.assert_allclose(metrics.absolute_error(y, ranked), np.abs(y))
    np.testing.assert_array_equal(metrics.with_centre([1.0, -1.0, 3.0], 7.0), [1.0, -1.0, 7.0])
