"""Calibration: a known mistake in the width is found and mended, on later windows too."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.forecasters import asking

from kronos.errors import ConfigError
from kronos.evaluation import calibrate, metrics
from kronos.evaluation.baselines import RandomWalkResampled
from kronos.evaluation.calibrate import WidthCurve
from kronos.evaluation.statistics import Estimate
from kronos.evaluation.windows import Window


def forecasts(windows: int, seed: int, narrow: np.ndarray, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random-walk truths and paths whose log distance from the last close is too small by ``narrow`` (H,)."""
    rng = np.random.default_rng(seed)
    horizon = len(narrow)
    truth = np.cumsum(rng.normal(size=(windows, horizon)), axis=1)
    paths = np.cumsum(rng.normal(size=(windows, samples, horizon)), axis=2) * narrow
    return paths, truth


def error(covered: dict[float, Estimate]) -> float:
    """Mean distance of coverage from its level."""
    return float(np.mean([abs(found.value - level) for level, found in covered.items()]))


def test_fitted_width_undoes_a_known_error() -> None:
    wrong = WidthCurve((1, 16), (0.9, 0.6)).at(16)
    paths, truth = forecasts(1500, 0, wrong)
    curve = calibrate.fit_width(paths, truth, knots=(1, 16))
    assert curve.at(16) * wrong == pytest.approx(np.ones(16), abs=0.12)
    later_paths, later_truth = forecasts(1500, 1, wrong)
    found = calibrate.judge(later_paths, curve.apply(later_paths), later_truth, np.arange(1500))
    assert found.before[0.9].value < 0.80
    assert found.after[0.9].value == pytest.approx(0.9, abs=0.02)
    assert error(found.after) < 0.2 * error(found.before)
    assert found.crps_ratio.value < 1


def test_right_width_is_left_alone() -> None:
    paths, truth = forecasts(2000, 2, np.ones(8))
    assert calibrate.fit_width(paths, truth).at(8) == pytest.approx(np.ones(8), abs=0.08)


def test_temperature_is_chosen_by_crps() -> None:
    sharp, truth = forecasts(1500, 3, np.full(8, 0.7))
    paths = {t: sharp * t / 0.7 for t in (0.5, 0.7, 1.0, 1.4)}
    assert calibrate.fit_temperature(paths, truth) == 1.0
    only_first = np.r_[1.0, np.zeros(1499)]
    best = calibrate.fit_temperature(paths, truth, only_first)
    scores = {t: metrics.crps(truth[:1], np.moveaxis(p[:1], 1, -1)).mean() for t, p in paths.items()}
    assert best == min(scores, key=scores.get)  # type: ignore[arg-type]


def test_curve_is_the_one_that_the_checkpoint_applies() -> None:
    width = pytest.importorskip("kronos.inference.assemble")
    curve = WidthCurve((1, 4, 20), (1.2, 1.0, 0.8))
    assert width.width_factors(curve.as_dict(), 30) == pytest.approx(curve.at(30))
    prices = 100 * np.exp(np.random.default_rng(0).normal(0, 0.02, size=(3, 30, 6)))
    widened = width.widen(prices, 100.0, curve.at(30))
    assert np.log(widened[..., 3] / 100) == pytest.approx(curve.apply(np.log(prices[None, ..., 3] / 100))[0])


def test_knots_and_shapes() -> None:
    assert calibrate.default_knots(24) == (1, 2, 4, 8, 16, 24)
    assert calibrate.default_knots(20) == (1, 2, 4, 8, 20)
    assert calibrate.default_knots(1) == (1,)
    for steps, factors in [((2, 1), (1.0, 1.0)), ((1,), (0.0,)), ((), ()), ((1, 2), (1.0,))]:
        with pytest.raises(ConfigError):
            WidthCurve(steps, factors)
    with pytest.raises(ConfigError, match="need"):
        calibrate.fit_width(np.ones((3, 5, 4)), np.ones((3, 5)))


def test_split_by_time_leaves_the_embargo_out() -> None:
    days = np.datetime64("2024-01-01", "ns") + np.arange(10) * np.timedelta64(1, "D")
    fit, judge = calibrate.split_by_time(days, np.timedelta64(2, "D"))
    assert fit.sum() == 5
    assert days[judge].min() - days[fit].max() > np.timedelta64(2, "D")
    with pytest.raises(ConfigError):
        calibrate.split_by_time(days, np.timedelta64(0, "D"), 1.0)


def test_judgement_in_words() -> None:
    rng = np.random.default_rng(5)
    narrow, truth = forecasts(400, 6, np.full(8, 0.6))
    wide = narrow / 0.6
    labels = np.repeat(np.arange(100), 4).astype(str)
    better = calibrate.judge(narrow, wide, truth, labels)
    assert better.words.startswith("Better calibrated")
    assert better.crps_ratio.high < 1
    assert better.before[0.9].value < 0.8
    assert better.after[0.9].low < 0.9 < better.after[0.9].high
    assert calibrate.judge(wide, narrow, truth, labels).words.startswith("Not better, keep")
    again = np.cumsum(rng.normal(size=wide.shape), axis=2)  # other paths of the same law
    assert calibrate.judge(wide, again, truth, labels).words.startswith(("No gain", "Not better"))


def test_closes_are_sampled_in_units_of_volatility(window: Window) -> None:
    forecaster, seen = RandomWalkResampled(), []
    windows = [window] * 17
    paths, truth = calibrate.sample_closes(forecaster, windows, 30, 0, seen.append)
    assert paths.shape == (17, 30, 12)
    assert seen == list(range(1, 18))
    (own,) = forecaster.sample_paths([window.context], asking(12, 30, 0))
    sigma = window.context.volatility()
    assert paths[16] == pytest.approx(np.log(own[..., 3] / window.context.last_close) / sigma, abs=1e-9)
    assert truth[0] == pytest.approx(np.log(window.truth[:, 3] / window.context.last_close) / sigma, abs=1e-9)
