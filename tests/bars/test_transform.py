"""Bars ↔ features: invertible, valid for any features, scale-free, and blind to what lies behind the boundary."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kronos.bars import sample_bars
from kronos.bars.schema import FEATURES
from kronos.bars.transform import DEFAULT_CLIP, BarTransform, Returns, RunningReturns, ZScore, get_transform
from kronos.errors import ConfigError

Array = NDArray[np.float64]
T, H = 60, 20


def bars(seed: int = 0, n: int = T + H, sigma: float = 0.01) -> Array:
    """Random valid bars with gaps, shadows and volume."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, sigma, n)))
    opened = np.concatenate(([50.0], close[:-1])) * np.exp(rng.normal(0, sigma / 4, n))
    high = np.maximum(opened, close) * np.exp(rng.exponential(sigma / 3, n))
    low = np.minimum(opened, close) * np.exp(-rng.exponential(sigma / 3, n))
    volume = np.exp(rng.normal(10, 0.8, n))
    return np.stack((opened, high, low, close, volume, volume * close), axis=-1)


def around(transform: BarTransform, x: Array, clip: float = DEFAULT_CLIP, known: int = T) -> Array:
    """The bars behind the boundary, through features and back."""
    state = transform.fit(x[:known], clip=clip)
    return transform.decode(transform.encode(x, state)[None, known - 1 :], state)[0]


def assert_valid(x: Array) -> None:
    as_kept = x.astype(np.float32)  # forecasts keep their paths so
    assert np.isfinite(as_kept).all()
    o, h, low, c, volume, amount = np.moveaxis(as_kept, -1, 0)
    assert (low > 0).all()
    assert (low <= np.minimum(o, c)).all()
    assert (h >= np.maximum(o, c)).all()
    assert (volume >= 0).all()
    assert (amount >= 0).all()


MOVES = pytest.mark.parametrize("transform", [Returns(), RunningReturns()], ids=["returns", "running"])


@MOVES
@pytest.mark.parametrize("seed", range(5))
def test_moves_are_invertible(seed: int, transform: BarTransform) -> None:
    x = bars(seed)
    np.testing.assert_allclose(around(transform, x), x[T:], rtol=1e-5)


@MOVES
@pytest.mark.parametrize("name", ["sp500", "nasdaq", "eurusd"])
def test_moves_are_invertible_on_real_bars(name: str, transform: BarTransform) -> None:
    x = sample_bars(name)[list(FEATURES)].to_numpy()[1000:1300]
    state = transform.fit(x[:256])
    features = transform.encode(x, state)[255:]
    inside = (np.abs(features[:, :4]) < DEFAULT_CLIP).all()
    assert inside
    back = transform.decode(features[None], state)[0]
    np.testing.assert_allclose(back[:, :4], x[256:, :4], rtol=1e-6)


@MOVES
@given(
    hnp.arrays(np.float32, (2, 30, 6), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(1e-7, 3.0),
    st.floats(1e-9, 1e9),
)
@settings(max_examples=60, deadline=None)
def test_any_features_decode_to_valid_bars(
    transform: BarTransform, features: NDArray[np.float32], sigma: float, price: float
) -> None:
    x = bars(1, T, 0.01)
    x[:, :4] = price * np.exp((np.log(x[:, :4]) - np.log(x[-1, 3])) * sigma / 0.01)
    assert_valid(transform.decode(features, transform.fit(x)))


@MOVES
@given(st.integers(0, 1000), st.floats(-8, 8), st.floats(-8, 8))
@settings(max_examples=40, deadline=None)
def test_moves_are_scale_free(transform: BarTransform, seed: int, price: float, volume: float) -> None:
    """Features do not see the unit of prices or of volume, and what is decoded carries it."""
    x, scale = bars(seed), np.array([10**price] * 4 + [10**volume, 10**volume])
    plain, scaled = (transform.fit(y[:T]) for y in (x, x * scale))
    features = transform.encode(x, plain)
    np.testing.assert_allclose(transform.encode(x * scale, scaled), features, atol=2e-4)
    np.testing.assert_allclose(
        transform.decode(features[None, T - 1 :], scaled),
        transform.decode(features[None, T - 1 :], plain) * scale,
        1e-4,
    )


@MOVES
@pytest.mark.parametrize("clip", [5.0, 3.0, 8.0])
def test_zero_volume_stands_apart_and_survives(clip: float, transform: BarTransform) -> None:
    x = bars(2)
    x[[5, T + 1, T + 7], 4:] = 0.0
    x[T + 3, 4:] = 1e-12  # as quiet as can be is still not zero
    state = transform.fit(x[:T], clip=clip)
    volume = transform.encode(x, state)[:, 4]
    assert (volume[[4, T, T + 6]] == -clip).all()
    assert volume[x[1:, 4] > 0].min() >= -0.8 * clip - 1e-6
    back = around(transform, x, clip)
    assert (back[[1, 7], 4:] == 0).all()
    assert (np.delete(back, [1, 7], axis=0)[:, 4:] > 0).all()


@MOVES
def test_unknown_volume_stays_unknown(transform: BarTransform) -> None:
    x = bars(3)
    x[:, 4:] = 0.0
    state = transform.fit(x[:T])
    assert (transform.encode(x, state)[:, 4:] == 0).all()
    anything = np.random.default_rng(0).normal(0, 3, (4, H, 6))
    assert (transform.decode(anything, state)[..., 4:] == 0).all()


def test_volume_that_begins_after_the_boundary_is_not_seen() -> None:
    x = bars(3)
    x[:T, 4:] = 0.0
    assert (Returns().encode(x, Returns().fit(x[:T]))[:, 4:] == 0).all()


@MOVES
def test_constant_volume_is_the_middle(transform: BarTransform) -> None:
    x = bars(4)
    x[:, 4:] = 700.0
    np.testing.assert_allclose(transform.encode(x, transform.fit(x[:T]))[:, 4:], 0.0, atol=1e-6)
    np.testing.assert_allclose(around(transform, x)[:, 4:], 700.0, rtol=1e-6)


@MOVES
def test_a_flat_context(transform: BarTransform) -> None:
    """A halted stock: nothing moves, nothing is divided by zero, and what is decoded hardly moves."""
    x = np.tile([7.0, 7.0, 7.0, 7.0, 0.0, 0.0], (T, 1))
    state = transform.fit(x)
    assert (transform.encode(x, state)[:, :4] == 0).all()
    back = transform.decode(np.full((1, H, 6), 1.0), state)
    assert_valid(back)
    np.testing.assert_allclose(back[..., :4], 7.0, rtol=1e-3)


@MOVES
def test_a_context_of_one_bar(transform: BarTransform) -> None:
    x = bars(5, 1)
    state = transform.fit(x)
    assert transform.encode(x, state).shape == (0, 6)
    assert_valid(transform.decode(np.ones((1, 3, 6)), state))


def test_no_running_feature_knows_a_later_bar() -> None:
    x = bars(9)
    changed = x.copy()
    changed[50:] *= np.array([1.3, 1.3, 1.3, 1.3, 7.0, 9.0])
    transform = RunningReturns()
    before, after = (transform.encode(y, transform.fit(y)) for y in (x, changed))
    np.testing.assert_array_equal(before[:49], after[:49])
    assert (before[49] != after[49]).any()


def test_a_halt_does_not_wear_the_running_volatility_down() -> None:
    x = bars(10, 600)
    x[100:] = [*[x[99, 3]] * 4, 0.0, 0.0]
    x[500:, :4] = x[:100, :4] * x[499, 3] / x[0, 0]  # trading goes on as it was
    transform = RunningReturns()
    moving, halted = transform.fit(x[:100]), transform.fit(x[:500])
    assert halted.sigma > 0.15 * moving.sigma
    features = transform.encode(x, halted)
    assert np.abs(features[:, :4]).max() < DEFAULT_CLIP
    np.testing.assert_allclose(transform.decode(features[None, 499:], halted)[0, :, :4], x[500:, :4], rtol=1e-5)


def test_gain_widens_decoded_moves_and_the_volatility_that_feeds_on_them() -> None:
    x = bars(13)
    plain, widened = RunningReturns(), RunningReturns(gain=1.1)
    state = plain.fit(x[:T])
    features = plain.encode(x, state)[None, T - 1 :]
    one, other = (np.log(t.decode(features, state)[0, :, :4]) for t in (plain, widened))
    start = np.log(x[T - 1, 3])
    np.testing.assert_allclose(other[0] - start, 1.1 * (one[0] - start), rtol=1e-6)  # the first bar: as much
    later = np.diff(other[:, 3]) / np.diff(one[:, 3])
    assert later[-1] > 1.12  # and more and more
    assert get_transform("running", 1.1).gain == 1.1


def test_a_running_volatility_follows_a_change_of_regime() -> None:
    calm, wild = bars(11, 300, 0.002), bars(12, 60, 0.02)
    wild[:, :4] *= calm[-1, 3] / wild[0, 0]
    x = np.concatenate((calm, wild))
    before, after = (float(RunningReturns().fit(y).sigma) for y in (calm, x))
    assert 6 < after / before < 14
    assert float(Returns().fit(x).sigma) < 0.6 * after


@pytest.mark.parametrize("name", ["returns", "zscore"])
def test_statistics_come_from_the_context_alone(name: str) -> None:
    transform = get_transform(name)
    x = bars(6).astype(np.float32)[None]
    other = x.copy()
    other[:, T:] *= np.array([3, 9, 1, 2, 50, 0.1], dtype=np.float32)
    other[:, T + 2, 4:] = 0.0
    length = np.array([T])
    here, there = transform.fit(x, length), transform.fit(other, length)
    for field in vars(here):
        np.testing.assert_array_equal(getattr(here, field), getattr(there, field))
    known = T - transform.lost
    np.testing.assert_array_equal(transform.encode(x, here)[:, :known], transform.encode(other, there)[:, :known])


@pytest.mark.parametrize("name", ["returns", "zscore", "running"])
def test_a_batch_is_its_series(name: str) -> None:
    """Windows with boundaries of their own, encoded together and one by one."""
    transform = get_transform(name)
    x = np.stack([bars(seed, sigma=0.002 * (seed + 1)) for seed in range(4)])
    x[1, :, 4:] = 0.0
    length = np.array([20, 33, T, T + H])
    together = transform.encode(x, transform.fit(x, length))
    for i, n in enumerate(length):
        alone = transform.encode(x[i], transform.fit(x[i, :n]))
        np.testing.assert_allclose(together[i], alone, atol=2e-4 if name == "zscore" else 1e-6)


@MOVES
def test_decoding_a_batch_is_decoding_its_series(transform: BarTransform) -> None:
    x = np.stack([bars(seed) for seed in range(3)])
    features = np.random.default_rng(0).normal(0, 1, (3, 5, H, 6))
    together = transform.decode(features, transform.fit(x))
    for i in range(3):
        np.testing.assert_allclose(together[i], transform.decode(features[i], transform.fit(x[i])), rtol=1e-9)


def test_zscore_is_the_published_formula() -> None:
    x = bars(7)
    state = ZScore().fit(x[:T])
    z32 = x.astype(np.float32, order="F")  # as pandas keeps a published table, which decides how it is added up
    mean, std = z32[:T].mean(0), z32[:T].std(0)
    expected = np.clip((z32 - mean) / (std + np.float32(1e-5)), -5, 5)
    np.testing.assert_array_equal(ZScore().encode(x, state), expected)
    features = np.random.default_rng(0).normal(0, 1, (2, H, 6)).astype(np.float32)
    np.testing.assert_array_equal(ZScore().decode(features, state), features * (std + np.float32(1e-5)) + mean)


@pytest.mark.parametrize("name", ["returns", "zscore", "running"])
def test_features_are_clipped(name: str) -> None:
    x = bars(8)
    x[T + 1, :4] *= 1000
    transform = get_transform(name)
    features = transform.encode(x, transform.fit(x[:T], clip=4.0))
    assert np.abs(features).max() == 4.0


def test_an_unknown_transform() -> None:
    with pytest.raises(ConfigError, match=r"'levels'.*'zscore', 'returns', 'running'"):
        get_transform("levels")
