"""Calibration: a known mistake in the width is found and mended, on later windows too."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.forecasters import asking

from kronos.errors import ConfigError
from kronos.evaluation import calibrate
from kronos.evaluation.baselines import RandomWalkResampled
from kronos.evaluation.windows import Window
from kronos.protocol import width_at


def forecasts(windows: int, seed: int, narrow: np.ndarray, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random-walk truths and paths whose log distance from the last close is too small by ``narrow`` (H,)."""
    rng = np.random.default_rng(seed)
    horizon = len(narrow)
    truth = np.cumsum(rng.normal(size=(windows, horizon)), axis=1)
    paths = np.cumsum(rng.normal(size=(windows, samples, horizon)), axis=2) * narrow
    return paths, truth


def error(covered: dict[str, dict[str, float]]) -> float:
    """Mean distance of coverage from its level."""
    return float(np.mean([abs(found["value"] - float(level[:-1]) / 100) for level, found in covered.items()]))


def test_fitted_width_undoes_a_known_error() -> None:
    wrong = width_at({"horizon": (1, 16), "factor": (0.9, 0.6)}, 16)
    paths, truth = forecasts(1500, 0, wrong)
    fitted = width_at(calibrate.fit_width(paths, truth, knots=(1, 16)), 16)
    assert fitted * wrong == pytest.approx(np.ones(16), abs=0.12)
    later_paths, later_truth = forecasts(1500, 1, wrong)
    found = calibrate.judge(later_paths, later_paths * fitted, later_truth, np.arange(1500))
    before, after = found["coverage"]["before"], found["coverage"]["after"]
    assert before["90%"]["value"] < 0.80
    assert after["90%"]["value"] == pytest.approx(0.9, abs=0.02)
    assert error(after) < 0.2 * error(before)
    assert found["crps_ratio"]["value"] < 1


def test_right_width_is_left_alone() -> None:
    paths, truth = forecasts(2000, 2, np.ones(8))
    assert width_at(calibrate.fit_width(paths, truth), 8) == pytest.approx(np.ones(8), abs=0.08)


def test_temperature_is_chosen_by_crps() -> None:
    sharp, truth = forecasts(1500, 3, np.full(8, 0.7))
    paths = {t: sharp * t / 0.7 for t in (0.5, 0.7, 1.0, 1.4)}
    assert calibrate.fit_temperature(paths, truth) == 1.0


def test_width_is_the_one_that_the_checkpoint_applies() -> None:
    inference = pytest.importorskip("kronos.inference.assemble")
    width = {"horizon": [1, 4, 20], "factor": [1.2, 1.0, 0.8]}
    factors = width_at(width, 30)
    assert factors[[0, 3, 19, 29]] == pytest.approx([1.2, 1.0, 0.8, 0.8])
    assert factors[1] == pytest.approx(1.1)  # half way to 4 on the scale of logarithms
    prices = 100 * np.exp(np.random.default_rng(0).normal(0, 0.02, size=(3, 30, 6)))
    widened = inference.widen(prices, 100.0, factors)
    assert np.log(widened[..., 3] / 100) == pytest.approx(np.log(prices[..., 3] / 100) * factors)


def test_knots_and_shapes() -> None:
    assert calibrate.default_knots(24) == (1, 2, 4, 8, 16, 24)
    assert calibrate.default_knots(20) == (1, 2, 4, 8, 20)
    assert calibrate.default_knots(1) == (1,)
    with pytest.raises(ConfigError, match="need"):
        calibrate.fit_temperature({1.0: np.ones((3, 5, 4))}, np.ones((3, 5)))


def test_split_by_time_leaves_the_embargo_out() -> None:
    days = np.datetime64("2024-01-01", "ns") + np.arange(10) * np.timedelta64(1, "D")
    fit, judge = calibrate.split_by_time(days, np.timedelta64(2, "D"))
    assert fit.sum() == 5
    assert days[judge].min() - days[fit].max() > np.timedelta64(2, "D")


def test_judgement_in_words() -> None:
    rng = np.random.default_rng(5)
    narrow, truth = forecasts(400, 6, np.full(8, 0.6))
    wide = narrow / 0.6
    labels = np.repeat(np.arange(100), 4).astype(str)
    better = calibrate.judge(narrow, wide, truth, labels)
    assert better["words"].startswith("Better calibrated")
    assert better["crps_ratio"]["high"] < 1
    before, after = (better["coverage"][side]["90%"] for side in ("before", "after"))
    assert before["value"] < 0.8
    assert after["low"] < 0.9 < after["high"]
    assert calibrate.judge(wide, narrow, truth, labels)["words"].startswith("Not better, keep")
    again = np.cumsum(rng.normal(size=wide.shape), axis=2)  # other paths of the same law
    assert calibrate.judge(wide, again, truth, labels)["words"].startswith(("No gain", "Not better"))


def test_chance_is_not_called_better() -> None:
    """A width that was right already: of forty calibrations that do next to nothing about one in forty passes."""
    called = 0
    for seed in range(40):
        paths, truth = forecasts(60, 100 + seed, np.ones(6), samples=40)
        labels = np.repeat(np.arange(20), 3).astype(str)
        called += calibrate.judge(paths, paths * (0.94 if seed % 2 else 1.06), truth, labels)["better"]
    assert called <= 4
    few = calibrate.judge(*(paths * x for x in (0.2, 1.0)), truth, np.zeros(60))
    assert few["better"] is False  # one block of time: there is no interval
    assert few["words"].startswith("No gain shown")
    assert "too few dates for an interval" in few["words"]


def test_better_coverage_must_not_cost_crps() -> None:
    """Paths all shifted away from what comes, and wide enough to hold it: nearer to the levels, and worse."""
    narrow, truth = forecasts(400, 7, np.full(4, 0.75))
    labels = np.repeat(np.arange(100), 4).astype(str)
    shift = np.where(np.arange(400) % 2, 2.0, -2.0)[:, None, None]
    found = calibrate.judge(narrow, narrow / 0.75 * 1.4 + shift, truth, labels)
    assert found["crps_ratio"]["low"] > 1
    assert found["better"] is False


def test_closes_are_sampled_in_units_of_volatility(window: Window) -> None:
    forecaster, seen = RandomWalkResampled(), []
    windows = [window] * 17
    paths, truth = calibrate.sample_closes(forecaster, windows, 30, 0, lambda: seen.append(1))
    assert paths.shape == (17, 30, 12)
    assert len(seen) == 17
    (own,) = forecaster.sample_paths([window.context], asking(12, 30, 0))
    sigma = window.context.volatility()
    assert paths[16] == pytest.approx(np.log(own[..., 3] / window.context.last_close) / sigma, abs=1e-9)
    assert truth[0] == pytest.approx(np.log(window.truth[:, 3] / window.context.last_close) / sigma, abs=1e-9)


def test_directions_are_kept_only_where_they_are_better_beyond_the_interval() -> None:
    labels = np.repeat(np.arange(150), 4).astype(str)
    blind, truth = forecasts(600, 8, np.ones(6), samples=40)
    assert calibrate.judge_direction(blind, truth, labels)["chosen"] == "none"
    drift = np.where(np.random.default_rng(9).random(600) < 0.5, 1.0, -1.0)[:, None] * np.arange(1, 7)
    found = calibrate.judge_direction(blind + drift[:, None], truth + drift, labels)
    assert found["chosen"] == "model"
    assert found["crps_ratio"]["high"] < 1
    assert found["words"].startswith("The model's directions are kept: CRPS with the model's own is 0.")
    wrong = calibrate.judge_direction(blind - drift[:, None], truth + drift, labels)
    assert wrong["chosen"] == "none"
    assert wrong["crps_ratio"]["low"] > 1
    one_date = calibrate.judge_direction(blind + drift[:, None], truth + drift, np.zeros(600))
    assert one_date["chosen"] == "none"  # no interval, so nothing is shown


def test_coverage_of_mirrored_paths_is_exact() -> None:
    paths, truth = forecasts(4000, 10, np.ones(3), samples=39)
    labels = np.arange(4000).astype(str)
    found = calibrate.judge(paths, calibrate.mirrored_closes(paths), truth, labels)
    for side in ("before", "after"):
        assert found["coverage"][side]["50%"]["value"] == pytest.approx(0.5, abs=0.012)
        assert found["coverage"][side]["80%"]["value"] == pytest.approx(0.8, abs=0.012)
    assert found["crps_ratio"]["low"] < 1 < found["crps_ratio"]["high"]
