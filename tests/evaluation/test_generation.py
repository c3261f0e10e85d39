"""Synthetic against real: the facts of known processes, and a discriminator that can and cannot tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from kronos.evaluation import tasks
from kronos.evaluation.windows import draw_windows

Maker = Callable[..., pd.DataFrame]


def sequences(moves: np.ndarray, volume: np.ndarray | None = None) -> np.ndarray:
    """A panel with these moves and nothing else."""
    out = np.zeros((*moves.shape, 5))
    out[..., tasks.MOVE] = moves
    if volume is not None:
        out[..., tasks.LOG_VOLUME] = volume
    return out


def test_facts_of_independent_normal_moves() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 200))
    facts = tasks.stylised_facts(sequences(x, rng.normal(size=x.shape)))
    assert facts["kurtosis"] == pytest.approx(3.0, abs=0.1)
    for name in ("acf_returns", "acf_squares", "leverage", "volume_volatility"):
        assert abs(facts[name]) < 0.02, name


def test_facts_see_clusters_leverage_and_volume() -> None:
    rng = np.random.default_rng(1)
    calm = np.ones((500, 200))
    moves = np.empty_like(calm)
    variance = calm[:, 0]
    for t in range(200):
        moves[:, t] = np.sqrt(variance) * rng.normal(size=500)
        variance = 0.1 + 0.7 * variance + 0.3 * np.minimum(moves[:, t], 0.0) ** 2  # falls alone raise volatility
    facts = tasks.stylised_facts(sequences(moves, np.abs(moves)))
    assert facts["acf_squares"] > 0.05
    assert facts["leverage"] < -0.05
    assert facts["volume_volatility"] == pytest.approx(1.0)


def test_hill_index_of_a_pareto_law() -> None:
    sizes = np.random.default_rng(2).pareto(3.0, size=200_000) + 1.0
    assert tasks.hill_index(sizes) == pytest.approx(3.0, rel=0.05)


def test_panel_by_hand(make_bars: Maker) -> None:
    (window,) = draw_windows({"A": make_bars(300)}, 100, 8, 1, seed=0)
    found = tasks.panel([window], [window.truth])[0]
    o, h, low, c, v, _ = window.truth[3]
    sigma = window.context.volatility()
    before = window.truth[2, 3]
    expected = [np.log(o / before), np.log(c / before), np.log(h / max(o, c)), np.log(min(o, c) / low)]
    assert found[3, :4] * sigma == pytest.approx(expected, abs=1e-12)
    assert found[3, 4] == pytest.approx(np.log1p(v / window.context.values[:, 4].mean()))


def test_discriminator_tells_apart_what_differs_and_not_what_does_not() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 5)
    real, twin, other = (rng.normal(size=(300, 12, 5)) * s for s in (1.0, 1.0, 2.0))
    same = tasks.discriminative_score(real, twin, groups, steps=80)
    differs = tasks.discriminative_score(real, other, groups, steps=80)
    assert same["score"] > 0.35
    assert differs["score"] < 0.1
    assert differs["accuracy_error"] < 0.05
    assert tasks.discriminative_score(real, twin, groups, steps=10) == tasks.discriminative_score(
        real, twin, groups, steps=10
    )


def test_training_on_good_synthetic_data_is_as_good_as_on_real() -> None:
    rng = np.random.default_rng(4)
    groups = np.arange(300)

    def clustered() -> np.ndarray:
        level = rng.uniform(0.2, 3.0, size=(300, 1))  # a volatility that the sequence so far gives away
        return sequences(level * rng.normal(size=(300, 20)))

    real, good, useless = clustered(), clustered(), sequences(rng.normal(size=(300, 20)) * 5.0)
    assert tasks.train_on_synthetic(real, good, groups, steps=75)["ratio"] == pytest.approx(1.0, abs=0.12)
    assert tasks.train_on_synthetic(real, useless, groups, steps=75)["ratio"] > 1.3
    lonely = tasks.discriminative_score(real[:3], good[:3], np.zeros(3))
    assert np.isnan(lonely["accuracy"])


def test_flat_bars_are_always_told_apart() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(60, 18, 5))
    assert tasks.discriminative_score(real, np.zeros_like(real), np.arange(60) // 5)["accuracy"] > 0.97
