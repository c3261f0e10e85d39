"""The scores of a window: recomputed by hand, and the two forecasters whose score is known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import asking

from kronos.evaluation.baselines import RandomWalkResampled, make_baselines
from kronos.evaluation.rolling import score_window
from kronos.evaluation.statistics import cluster_bootstrap, ratio_of_means, time_blocks
from kronos.evaluation.windows import Window, draw_windows
from kronos.inference.mirror import with_mirrors

Maker = Callable[..., pd.DataFrame]


def test_scores_recomputed_independently(window: Window) -> None:
    """Numpy only, from the definitions, to 1e-9."""
    paths = RandomWalkResampled().sample_paths([window.context], asking(12, 25, 3))[0]
    score = score_window(window, paths)
    closes = window.context.values[:, 3]
    returns = np.log(closes[1:] / closes[:-1])
    sigma = np.sqrt(((returns - returns.sum() / len(returns)) ** 2).sum() / (len(returns) - 1))
    for h in range(12):
        x = np.log(paths[:, h, 3] / closes[-1]) / sigma
        y = np.log(window.truth[h, 3] / closes[-1]) / sigma
        spread = sum(abs(a - b) for a in x for b in x) / (2 * 25 * 24)
        assert score.steps["crps"][h] == pytest.approx(np.abs(x - y).mean() - spread, abs=1e-9)
        ordered = np.sort(x)
        low = ordered[1] + (26 * 0.1 - 2) * (ordered[2] - ordered[1])  # position 2.6 of 26
        high = ordered[-2] - (26 * 0.1 - 2) * (ordered[-2] - ordered[-3])
        assert score.steps["covered_80"][h] == float(low <= y <= high)
        assert score.steps["width_80"][h] == pytest.approx(high - low, abs=1e-9)
        assert score.steps["absolute_error"][h] == pytest.approx(abs(ordered[12] - y), abs=1e-9)
        bars = np.log(paths[:, h, :4] / closes[-1]) / sigma
        real = np.log(window.truth[h, :4] / closes[-1]) / sigma
        near = np.sqrt(((bars - real) ** 2).sum(1)).mean()
        apart = sum(np.sqrt(((a - b) ** 2).sum()) for a in bars for b in bars) / (2 * 25 * 24)
        assert score.steps["energy"][h] == pytest.approx(near - apart, abs=1e-9)
        median = np.sort(paths[:, h, 3])[12]
        scale = np.abs(np.diff(closes)).mean()
        assert score.steps["absolute_scaled_error"][h] == pytest.approx(
            abs(median - window.truth[h, 3]) / scale, abs=1e-9
        )
    chain = np.log(np.concatenate([[closes[-1]], window.truth[:, 3]]))
    assert score.whole["true_volatility"] == pytest.approx(np.sqrt((np.diff(chain) ** 2).sum()), abs=1e-9)
    squares = [(np.diff(np.log(np.concatenate([[closes[-1]], p[:, 3]]))) ** 2).sum() for p in paths]
    assert score.whole["variance"] == pytest.approx(np.mean(squares), abs=1e-9)
    assert score.whole["volatility"] == pytest.approx(np.mean(np.sqrt(squares)), abs=1e-9)
    assert score.whole["past_move"] == pytest.approx(np.log(closes[-1] / closes[-13]) / sigma, abs=1e-9)


def test_one_who_knows_the_future_scores_zero(window: Window) -> None:
    score = score_window(window, np.repeat(window.truth[None], 20, axis=0))
    for name in ("crps", "absolute_error", "energy", "absolute_scaled_error"):
        assert np.abs(score.steps[name]).max() < 1e-9
    assert score.whole["volatility"] == pytest.approx(score.whole["true_volatility"])


def test_one_who_guesses_scores_like_the_baseline(make_bars: Maker) -> None:
    """A stranger that draws from the same distribution with other numbers: the ratio's interval contains one."""
    windows = draw_windows({f"S{i}": make_bars(600, i) for i in range(6)}, 200, 12, 200, seed=0)
    contexts = [w.context for w in windows]
    scores = []
    for seed in (0, 1):
        paths = RandomWalkResampled().sample_paths(contexts, asking(12, 50, seed))
        scores.append([score_window(w, p).steps["crps"].mean() for w, p in zip(windows, paths, strict=True)])
    labels = np.array([f"{w.context.symbol}" for w in windows])
    ratio = cluster_bootstrap(labels, np.column_stack(scores), ratio_of_means)
    assert ratio.low < 1.0 < ratio.high
    assert abs(ratio.value - 1.0) < 0.02


def test_single_path_has_scores_but_no_interval(window: Window) -> None:
    paths = make_baselines("last-close")[0].sample_paths([window.context], asking(12, 50, 0))[0]
    score = score_window(window, paths)
    assert np.allclose(score.steps["crps"], score.steps["absolute_error"])
    assert np.isnan(score.steps["covered_90"]).all()
    assert np.isnan(score.steps["pit"]).all()


def test_cluster_bootstrap_is_wider_when_observations_repeat() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    apart = cluster_bootstrap(np.arange(200).astype(str), values, lambda m: m[..., 0])
    copies = cluster_bootstrap(np.repeat(np.arange(200), 9).astype(str), np.repeat(values, 9), lambda m: m[..., 0])
    assert copies.low == pytest.approx(apart.low, abs=0.02)  # nine copies are no new knowledge
    assert copies.high == pytest.approx(apart.high, abs=0.02)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)
    few = cluster_bootstrap(np.array(list("aabb")), np.arange(4.0), lambda m: m[..., 0])
    assert few.value == 1.5
    assert np.isnan(few.low)


def test_time_blocks_are_as_long_as_the_forecast() -> None:
    start = np.datetime64("2024-01-01", "ns")
    hours = start + np.arange(48) * np.timedelta64(1, "h")
    assert len(set(time_blocks(hours, np.full(48, np.timedelta64(24, "h"))))) == 2
    days = start + np.arange(60) * np.timedelta64(1, "D")
    assert len(set(time_blocks(days, np.full(60, np.timedelta64(24, "D"))))) in (3, 4)


def test_mirrored_paths_are_told_and_scored_as_such(window: Window) -> None:
    half = RandomWalkResampled().sample_paths([window.context], asking(12, 10, 3))[0]
    last, sigma = window.context.last_close, window.context.volatility()
    paths = with_mirrors(half, last, 20).astype(np.float32).astype(float)
    score = score_window(window, paths)
    for h in range(12):
        x, y = np.log(paths[:, h, 3] / last) / sigma, np.log(window.truth[h, 3] / last) / sigma
        apart = [abs(x[i] - x[j]) for i in range(20) for j in range(20) if i // 2 != j // 2]
        assert score.steps["crps"][h] == pytest.approx(np.abs(x - y).mean() - np.mean(apart) / 2, abs=1e-6)
        assert score.steps["absolute_error"][h] == pytest.approx(abs(y), abs=1e-6)
    np.testing.assert_array_equal(score.steps["hit"], 0.5)
    np.testing.assert_array_equal(score.steps["predicted_move"], 0.0)
    assert np.isfinite(score.steps["pit"]).all()
    assert (score.steps["covered_90"] >= score.steps["covered_50"]).all()
    mixed = score_window(window, paths[np.random.default_rng(0).permutation(20)])  # nothing tells these
    assert mixed.steps["crps"].mean() < score.steps["crps"].mean()
