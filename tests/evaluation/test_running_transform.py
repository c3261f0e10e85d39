"""The experiments' bar transform in units of a running volatility: an exact inverse that knows no later bar."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.quality_data import random_walks
from benchmarks.running import RunningReturns

CONTEXT, HORIZON = 64, 24


@pytest.fixture(scope="module")
def bars() -> np.ndarray:
    walks = random_walks(3, CONTEXT, HORIZON, seed=0)
    return np.stack([np.concatenate([walk.context.values, walk.truth]) for walk in walks])


def test_decoding_what_was_encoded_gives_the_bars_back(bars: np.ndarray) -> None:
    transform = RunningReturns()
    for series in bars:
        state = transform.fit(series, np.asarray(CONTEXT))
        features = transform.encode(series, state)[None, CONTEXT - 1 :]
        np.testing.assert_allclose(transform.decode(features, state)[0], series[CONTEXT:], rtol=1e-5)


def test_no_feature_knows_a_later_bar(bars: np.ndarray) -> None:
    transform = RunningReturns()
    changed = bars.copy()
    changed[:, 50:] *= 1.3
    state = transform.fit(bars, np.full(3, CONTEXT))
    before, after = (transform.encode(values, state) for values in (bars, changed))
    np.testing.assert_array_equal(before[:, :49], after[:, :49])
    assert not np.array_equal(before[:, 49:], after[:, 49:])


def test_the_unit_of_price_and_of_volume_does_not_matter(bars: np.ndarray) -> None:
    transform, scaled = RunningReturns(), bars * np.array([1e-4] * 4 + [1e3, 1e-1])
    features, other = (transform.encode(values, transform.fit(values)) for values in (bars, scaled))
    np.testing.assert_allclose(features, other, atol=1e-3)


def test_a_batch_with_boundaries_is_one_series_at_a_time(bars: np.ndarray) -> None:
    transform = RunningReturns()
    together = transform.fit(bars, np.array([64, 50, 40]))
    for row, length in enumerate((64, 50, 40)):
        alone = transform.fit(bars[row, :length])
        assert together.sigma[row] == pytest.approx(float(alone.sigma), rel=1e-12)
        assert together.last_close[row] == float(alone.last_close)


def test_bars_without_volume_stay_without(bars: np.ndarray) -> None:
    transform, silent = RunningReturns(), bars.copy()
    silent[..., 4:] = 0.0
    state = transform.fit(silent[0, :CONTEXT])
    assert not transform.encode(silent[0], state)[:, 4:].any()
    made = transform.decode(np.random.default_rng(0).normal(size=(5, HORIZON, 6)), state)
    assert not made[..., 4:].any()
    assert (made[..., 1] >= made[..., [0, 3]].max(-1)).all()
    assert (made[..., 2] <= made[..., [0, 3]].min(-1)).all()
