from __future__ import annotations

import numpy as np
import pytest

from kronos.errors import ConfigError
from kronos.inference.sampling import series_key, uniforms
from kronos.spec import ForecastSpec

KEYS = [b"one", b"two"]


def test_shape_range_and_spread() -> None:
    draws = uniforms(0, KEYS, 50, 40)
    assert draws.shape == (2, 50, 40, 2)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.array_equal(draws * 2**24, np.floor(draws * 2**24))
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 50  # chi2 with 19 degrees


def test_more_paths_and_a_longer_horizon_keep_the_earlier_ones() -> None:
    few, many = uniforms(7, KEYS, 3, 5), uniforms(7, KEYS, 9, 11)
    assert np.array_equal(many[:, :3, :5], few)
    assert np.array_equal(uniforms(7, KEYS, 4, 11, first_path=5), many[:, 5:])


def test_streams_differ_by_seed_series_and_path() -> None:
    draws = uniforms(1, KEYS, 4, 30)
    other = uniforms(2, KEYS, 4, 30)
    flat = np.concatenate([draws.reshape(8, -1), other.reshape(8, -1)])
    assert np.abs(np.corrcoef(flat) - np.eye(16)).max() < 0.5
    assert len(np.unique(flat, axis=0)) == 16


def test_the_batch_does_not_matter() -> None:
    assert np.array_equal(uniforms(1, KEYS, 4, 3)[1:], uniforms(1, KEYS[1:], 4, 3))


def test_the_key_is_the_shape_of_the_series() -> None:
    close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 300).cumsum())
    for scale in (1e-6, 0.1, 7.3, 1e9):
        assert series_key(close * scale) == series_key(close)
    assert series_key(close[1:]) != series_key(close)
    turned = close.copy()
    turned[-1] = close[-2] * (0.9 if close[-1] > close[-2] else 1.1)
    assert series_key(turned) != series_key(close)


def test_a_seed_means_the_same_numbers_on_every_machine_and_in_every_version() -> None:
    assert series_key(np.array([1.0, 2.0, 2.0, 1.5])).hex() == "af29b27284239f27ae76c7c4af13fba2"
    ticks = uniforms(5, KEYS[:1], 2, 2) * 2**24
    assert ticks.astype(int).tolist() == [
        [[[10982988, 15955959], [1368846, 1395919]], [[13264291, 13544421], [8666048, 10474994]]]
    ]
    assert np.array_equal(uniforms(2**64 - 1, KEYS, 1, 1), uniforms(np.uint64(2**64 - 1), KEYS, 1, 1))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0", None, True])
def test_what_is_no_seed(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed"):
        ForecastSpec(seed=seed)  # type: ignore[arg-type]
