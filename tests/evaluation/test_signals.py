"""Correlations against scipy, and the dates that do not count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kronos.evaluation import statistics


def test_correlations_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50).round(1)  # with ties
    y = (x + rng.normal(size=50)).round(1)
    assert statistics.correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert statistics.rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert statistics.slope(x, y) == pytest.approx(stats.linregress(x, y).slope, abs=1e-12)


def test_constant_sides_and_missing_pairs() -> None:
    assert np.isnan(statistics.correlation([1, 1, 1], [1, 2, 3]))
    assert np.isnan(statistics.slope([1, 1, 1], [1, 2, 3]))
    assert statistics.correlation([1, 2, np.nan, 3], [1, 2, 50, 3]) == pytest.approx(1.0)
    assert statistics.rank_correlation([1, 2, 300], [1, 2, 3]) == pytest.approx(1.0)


def test_ic_by_date_is_taken_within_each_date() -> None:
    """The score orders names rightly on each date although the pooled correlation is negative."""
    days = np.repeat(np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[ns]"), [6, 6, 3])
    score = np.concatenate([np.arange(6.0), np.arange(6.0) + 100, np.arange(3.0)])
    outcome = np.concatenate([np.arange(6.0), np.arange(6.0) - 100, np.arange(3.0)])
    when, values = statistics.ic_by_date(days, score, outcome, rank=True)
    assert len(when) == 2  # three names are no cross-section
    assert np.allclose(values, 1.0)
    assert statistics.correlation(score, outcome) < 0


def test_shuffled_scores_have_no_ic() -> None:
    rng = np.random.default_rng(1)
    days = np.repeat(np.datetime64("2024-01-01", "ns") + np.arange(200) * np.timedelta64(1, "D"), 20)
    outcome = rng.normal(size=days.size)
    _, values = statistics.ic_by_date(days, rng.permutation(outcome), outcome, rank=False)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
