"""Baselines: valid bars, own random streams, and the moments their models promise."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import asking

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation import metrics
from kronos.evaluation.baselines import BASELINES, make_baselines, season_length
from kronos.evaluation.variance import ALL_ORDERS, EwmaVolatility, Garch, Har, HarRefit, fit_garch
from kronos.evaluation.windows import Series
from kronos.protocol import CLOSE, OPEN, Context, Forecaster
from kronos.volatility import har_refit, log_levels, pooled_har, usual_variance

Maker = Callable[..., pd.DataFrame]
POINT = {"last-close", "drift", "seasonal-naive"}


def context_of(bars: pd.DataFrame, horizon: int = 5, symbol: str = "A") -> Context:
    """Everything but the last ``horizon`` bars."""
    end = len(bars) - horizon - 1
    return Series.from_frame(symbol, bars).window(end, end + 1, horizon).context


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_valid_bars_from_its_own_stream(name: str, make_bars: Maker) -> None:
    contexts = [context_of(make_bars(260, seed), symbol=f"S{seed}") for seed in range(3)]
    forecaster = make_baselines(name)[0]
    assert isinstance(forecaster, Forecaster)
    assert forecaster.name == name
    together = forecaster.sample_paths(contexts, asking(5, 20, 7))
    alone = forecaster.sample_paths(contexts[1:2], asking(5, 20, 7))[0]
    assert together[1].shape == ((1 if name in POINT else 20), 5, 6)
    assert np.array_equal(together[1], alone)
    assert metrics.invalid_bars(np.stack(together)).sum() == 0
    if name not in POINT:
        assert not np.array_equal(alone, forecaster.sample_paths(contexts[1:2], asking(5, 20, 8))[0])


@pytest.mark.parametrize("name", BASELINES)
def test_scaling_prices_scales_forecasts(name: str, make_bars: Maker) -> None:
    bars = make_bars(260)
    scaled = bars.copy()
    scaled[["open", "high", "low", "close", "amount"]] *= 1024.0
    one, other = context_of(bars), context_of(scaled)
    # same stream for both: the test is about the arithmetic
    rng = np.random.default_rng
    forecaster = make_baselines(name)[0]
    small, large = (forecaster.paths(c, 5, 10, rng(0)) for c in (one, other))
    assert np.allclose(large[..., :4] / small[..., :4], 1024.0, rtol=1e-6)
    assert np.allclose(large[..., 5] / small[..., 5], 1024.0, rtol=1e-6)


def test_bar_shapes_rebuild_the_context(make_bars: Maker) -> None:
    """The pieces of a bar put together again are the bar."""
    from kronos.evaluation.drawing import BarShapes, build_bars

    context = context_of(make_bars(100))
    shapes = BarShapes.of(context)
    picked = np.arange(len(shapes.move))[None]
    bars = build_bars(context.values[0, CLOSE], shapes, picked, shapes.move[None], np.ones(picked.shape))
    assert np.allclose(bars[0], context.values[1:], rtol=1e-10)


def test_resampled_walk_has_the_variance_of_the_context_and_no_drift(make_bars: Maker) -> None:
    bars = make_bars(300)
    bars[["open", "high", "low", "close"]] *= np.exp(0.01 * np.arange(300))[:, None]  # a strong trend
    context = context_of(bars, 24)
    free, drifting = (
        f.sample_paths([context], asking(24, 20_000, 0))[0]
        for f in make_baselines(["rw-resampled", "rw-resampled-drift"])
    )
    final = np.log(free[:, -1, CLOSE] / context.last_close)
    variance = context.log_returns().var()
    assert abs(final.mean()) < 4 * np.sqrt(24 * variance / 20_000)
    assert final.var() == pytest.approx(24 * variance, rel=0.05)
    trend = np.log(drifting[:, -1, CLOSE] / context.last_close).mean()
    assert trend == pytest.approx(24 * context.log_returns().mean(), rel=0.05)


def test_gaussian_walk_is_gaussian(make_bars: Maker) -> None:
    context = context_of(make_bars(300))
    paths = make_baselines("rw-gaussian")[0].sample_paths([context], asking(5, 20_000, 0))[0]
    steps = np.log(paths[:, 0, CLOSE] / context.last_close) / context.volatility()
    assert steps.std() == pytest.approx(1.0, abs=0.02)
    assert ((steps**4).mean() / (steps**2).mean() ** 2) == pytest.approx(3.0, abs=0.15)


def test_point_baselines_by_hand(make_bars: Maker) -> None:
    context = context_of(make_bars(100, step="1h"), 30)
    by_name = {f.name: f.sample_paths([context], asking(30, 9, 0))[0][0] for f in make_baselines(sorted(POINT))}
    assert (by_name["last-close"][:, :4] == context.last_close).all()
    closes = context.values[:, CLOSE]
    slope = np.log(closes[-1] / closes[0]) / (len(closes) - 1)
    assert by_name["drift"][29, CLOSE] == pytest.approx(closes[-1] * np.exp(30 * slope))
    repeated = by_name["seasonal-naive"]
    assert repeated[23, CLOSE] / closes[-1] == pytest.approx(closes[-1] / closes[-25])
    assert repeated[0, CLOSE] / closes[-1] == pytest.approx(closes[-24] / closes[-25])
    assert repeated[24, OPEN] / repeated[23, CLOSE] == pytest.approx(context.values[-24, OPEN] / closes[-25])


@pytest.mark.parametrize(("step", "season"), [("1h", 24), ("15min", 96), ("1D", 7), ("B", 5), ("W", 1)])
def test_season_length(step: str, season: int, make_bars: Maker) -> None:
    assert season_length(context_of(make_bars(400, step=step))) == season


def test_ewma_variance_follows_its_recursion(make_bars: Maker) -> None:
    """After a calm stretch and a wild one, the first step's variance is the recursion's, not the context's."""
    bars = make_bars(300)
    close = bars["close"].to_numpy()
    context = context_of(bars.assign(close=close), 5)
    moves = context.log_returns() - context.log_returns().mean()
    variance = (moves**2).mean()
    for move in moves:
        variance = 0.9 * variance + 0.1 * move**2
    paths = EwmaVolatility(0.9).sample_paths([context], asking(5, 40_000, 0))[0]
    steps = np.log(paths[:, 0, CLOSE] / context.last_close)
    assert (steps**2).mean() == pytest.approx(variance, rel=0.03)
    with pytest.raises(ConfigError, match="decay"):
        EwmaVolatility(1.0)


def simulate_garch(length: int, seed: int, alpha: float = 0.15, beta: float = 0.8) -> np.ndarray:
    """Moves of a GARCH(1,1) with unit variance."""
    rng = np.random.default_rng(seed)
    moves, variance = np.empty(length), 1.0
    for t in range(length):
        moves[t] = np.sqrt(variance) * rng.standard_normal()
        variance = (1 - alpha - beta) + alpha * moves[t] ** 2 + beta * variance
    return moves


def test_garch_recovers_its_parameters() -> None:
    fit = fit_garch(simulate_garch(6000, 1), (1, 1))
    assert fit is not None
    assert fit.alpha[0] == pytest.approx(0.15, abs=0.03)
    assert fit.beta[0] == pytest.approx(0.8, abs=0.04)


def test_garch_first_step_variance_is_the_recursion_on_the_last_bar(make_bars: Maker) -> None:
    moves = simulate_garch(400, 3) * 0.01
    bars = make_bars(len(moves) + 5)
    close = 100 * np.exp(np.concatenate([np.cumsum(moves), np.full(5, moves.sum())]))
    bars = bars.assign(close=close, open=close, high=close, low=close)
    context = context_of(bars)
    made = context.log_returns() - context.log_returns().mean()
    unit = made.std()
    fit = Garch().choose(made / unit)
    assert fit is not None
    expected = fit.omega + fit.alpha[0] * (made[-1] / unit) ** 2 + fit.beta[0] * fit.sigma[-1] ** 2
    paths = Garch().sample_paths([context], asking(5, 40_000, 0))[0]
    steps = np.log(paths[:, 0, CLOSE] / context.last_close)
    assert (steps**2).mean() == pytest.approx(expected * unit**2, rel=0.03)


def test_garch_best_takes_the_lowest_bic() -> None:
    moves = simulate_garch(800, 5)
    best = Garch(ALL_ORDERS).choose(moves / moves.std())
    assert best is not None
    bics = [fit.bic for order in ALL_ORDERS if (fit := fit_garch(moves / moves.std(), order)) is not None]
    assert best.bic <= min(bics) + 0.5  # warm starts find the optimum that cold ones find
    assert len(ALL_ORDERS) == 12


def test_garch_falls_back_to_ewma_and_counts_it(make_bars: Maker) -> None:
    context = context_of(make_bars(25))
    garch = Garch()
    paths = garch.sample_paths([context], asking(5, 10, 0))[0]
    assert garch.fallbacks == 1
    assert np.array_equal(paths, EwmaVolatility().sample_paths([context], asking(5, 10, 0))[0])


@pytest.mark.parametrize("name", ["har", "har-refit"])
@pytest.mark.parametrize("horizon", [1, 5, 24])
def test_paths_of_har_have_the_level_that_it_expects(name: str, horizon: int, make_bars: Maker) -> None:
    """Also after a calm end of a wild context, whose moves are drawn anew."""
    bars = make_bars(260)
    for column in ("open", "high", "low", "close"):
        logs = np.log(bars[column].to_numpy() / bars["close"].iloc[200])
        bars[column] = 50.0 * np.exp(np.where(np.arange(260) > 200, 0.4 * logs, logs))
    context = context_of(bars, horizon)
    forecaster = BASELINES[name]()
    assert isinstance(forecaster, Har)
    paths = forecaster.sample_paths([context], asking(horizon, 4000, 0))[0]
    level = log_levels(np.log(paths[..., CLOSE] / context.last_close), usual_variance(context))
    assert level[-1] == pytest.approx(forecaster.log_ratios(context, horizon)[-1], abs=0.02)


def test_har_reads_the_coefficients_that_ship(make_bars: Maker) -> None:
    context = context_of(make_bars(260), 24)
    assert np.array_equal(Har().log_ratios(context, 24), pooled_har().log_ratios(context, 24))
    assert np.array_equal(HarRefit().log_ratios(context, 24), har_refit(context, 24))


def test_flat_context_gives_flat_valid_bars(make_bars: Maker) -> None:
    bars = make_bars(100)
    bars[["open", "high", "low", "close"]] = 100.0
    for forecaster in make_baselines("all"):
        paths = forecaster.sample_paths([context_of(bars)], asking(5, 10, 0))[0]
        assert np.allclose(paths[..., :4], 100.0), forecaster.name


def test_unknown_baseline_and_missing_package(monkeypatch: pytest.MonkeyPatch, make_bars: Maker) -> None:
    with pytest.raises(ConfigError, match="unknown baseline"):
        make_baselines(["rw-resampled", "prophet"])
    monkeypatch.setitem(sys.modules, "arch.univariate", None)
    with pytest.raises(MissingExtraError, match="arch"):
        make_baselines("garch")[0].sample_paths([context_of(make_bars(100))], asking(5, 10, 0))
