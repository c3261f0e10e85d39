"""A small case from bars to verdict, recomputed by hand with numpy alone: everything agrees to 1e-9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.evaluation.forecasters import asking

from kronos.evaluation.baselines import RandomWalkResampled, make_baselines
from kronos.evaluation.rolling import as_series
from kronos.evaluation.run import Plan, evaluate
from kronos.protocol import Context, FloatArray
from kronos.spec import ForecastSpec

Maker = Callable[..., pd.DataFrame]
SYMBOLS, CUTOFFS, CONTEXT, H, S = 6, 10, 40, 4, 30
EXACT = {"abs": 1e-9, "rel": 1e-9}
RIVALS = ["rw-resampled", "garch", "har"]
ASKED = {"price": RIVALS, "volatility": [*RIVALS, "ewma"], "coverage": ["90 %"]}
ASKED |= {"touch": ["rw-resampled"], "return": ["last-close"]}


class Leaning(RandomWalkResampled):
    """The resampled walk, a little wider and with an opinion, so that it differs from the yardstick."""

    parallel = False

    def __init__(self) -> None:
        super().__init__()
        self.name = "leaning"

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Prices moved by a trend, and further from the last close."""
        out = []
        for context, paths in zip(contexts, super().sample_paths(contexts, spec), strict=True):
            trend = (
                0.1
                * np.log(context.values[-1, 3] / context.values[-6, 3])
                * np.arange(1, spec.horizon + 1)
                / spec.horizon
            )
            logs = 1.3 * np.log(paths[..., :4] / context.last_close) + trend[:, None]
            out.append(np.concatenate([context.last_close * np.exp(logs), paths[..., 4:]], axis=-1))
        return out


@pytest.fixture(scope="module")
def case(make_bars: Maker) -> dict[str, Any]:
    """The summary, and the same windows as plain arrays: closes seen, truths and paths, by date and symbol."""
    tables = {f"S{s}": make_bars(120, 50 + s) for s in range(SYMBOLS)}
    ours, yardstick, still = Leaning(), *make_baselines(["rw-resampled", "last-close"])
    plan = Plan(context=CONTEXT, horizon=H, n_windows=CUTOFFS, num_samples=S, seed=3)
    found = evaluate({"walks_1h": as_series(tables)}, [ours, yardstick, still], plan)
    ends = [120 - H - 1 - H * k for k in range(CUTOFFS)][::-1]
    values = np.stack([t.drop(columns="timestamp").to_numpy() for t in tables.values()])  # (symbols, bars, 6)
    times = tables["S0"]["timestamp"].to_numpy()
    past = np.stack([values[:, e - CONTEXT + 1 : e + 1] for e in ends])  # (dates, symbols, T, 6)
    ahead = np.stack([values[:, e + 1 : e + 1 + H] for e in ends])
    paths = {}
    for forecaster in (ours, yardstick):
        rows = [
            [
                forecaster.sample_paths(
                    [Context(f"S{s}", times[e - CONTEXT + 1 : e + 1], past[d, s], times[e + 1 : e + 1 + H])],
                    asking(H, S, 3),
                )[0]
                for s in range(SYMBOLS)
            ]
            for d, e in enumerate(ends)
        ]
        paths[forecaster.name] = np.array(rows)  # (dates, symbols, S, H, 6)
    return {"summary": found.summary, "past": past, "ahead": ahead, "paths": paths}


def scaled(case: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log closes since the last one over σ: samples (D, N, H, S), truths (D, N, H), and σ (D, N)."""
    closes = case["past"][..., 3]
    sigma = np.diff(np.log(closes), axis=-1).std(axis=-1, ddof=1)
    last = closes[..., -1]
    x = np.log(case["paths"][name][..., 3] / last[..., None, None]) / sigma[..., None, None]
    y = np.log(case["ahead"][..., 3] / last[..., None]) / sigma[..., None]
    return np.swapaxes(x, -1, -2), y, sigma


def crps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    pairs = np.abs(x[..., :, None] - x[..., None, :]).sum(axis=(-1, -2)) / (2 * S * (S - 1))
    return np.abs(x - y[..., None]).mean(axis=-1) - pairs


def quantile(x: np.ndarray, level: float) -> np.ndarray:
    ordered, place = np.sort(x, axis=-1), level * (S + 1)
    below = int(place)
    return ordered[..., below - 1] + (place - below) * (ordered[..., below] - ordered[..., below - 1])


def newey_west(series: np.ndarray) -> tuple[float, float, float]:
    """Standard error, t and p of a mean with ⌈1.3 √T⌉ - 1 lags and fixed-b critical values."""
    size = len(series)
    lags = int(np.ceil(1.3 * np.sqrt(size))) - 1
    e = series - series.sum() / size
    variance = sum(e**2) / size
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * sum(e[t] * e[t - lag] for t in range(lag, size)) / size
    error = np.sqrt(variance / size)
    b = (lags + 1) / size
    widen = (1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3) / 1.96
    t = series.sum() / size / error
    return error, t, 2 * stats.t.sf(abs(t) / widen, size - 1)


def rank(x: np.ndarray) -> np.ndarray:
    return np.array([(x < v).sum() + (1 + (x == v).sum()) / 2 for v in x])


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())


@pytest.mark.parametrize("name", ["leaning", "rw-resampled"])
def test_prices(case: dict[str, Any], name: str) -> None:
    found = case["summary"]["tasks"]["price"]["walks_1h"][name]
    x, y, _ = scaled(case, name)
    score = crps(x, y)
    assert found["windows"] == CUTOFFS * SYMBOLS
    assert found["crps"]["value"] == pytest.approx(score.mean(), **EXACT)
    error, t, _ = newey_west(score.mean(axis=(1, 2)))
    assert (found["crps"]["error"], found["crps"]["t"]) == pytest.approx((error, t), **EXACT)
    theirs = crps(*scaled(case, "rw-resampled")[:2])
    assert found["crps_ratio"]["value"] == pytest.approx(score.mean() / theirs.mean(), **EXACT)
    median = np.sort(x, axis=-1)[..., S // 2 - 1 : S // 2 + 1].mean(axis=-1)
    assert found["mae"]["value"] == pytest.approx(np.abs(median - y).mean(), **EXACT)
    raw = np.sort(case["paths"][name][..., 3], axis=2)[:, :, S // 2 - 1 : S // 2 + 1].mean(axis=2)
    usual = np.abs(np.diff(case["past"][..., 3], axis=-1)).mean(axis=-1)
    scaled_error = np.abs(raw - case["ahead"][..., 3]) / usual[..., None]
    assert found["mase"]["value"] == pytest.approx(scaled_error.mean(), **EXACT)
    for level in (0.5, 0.8, 0.9):
        low, high = quantile(x, (1 - level) / 2), quantile(x, (1 + level) / 2)
        inside = ((low <= y) & (y <= high)).astype(float)
        coverage = found[f"coverage_{level * 100:.0f}"]
        assert coverage["value"] == pytest.approx(inside.mean(), **EXACT)
        assert coverage["t"] == pytest.approx(newey_west(inside.mean(axis=(1, 2)) - level)[1], rel=1e-7)
        assert found[f"width_{level * 100:.0f}"]["value"] == pytest.approx((high - low).mean(), **EXACT)
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        gap = y - quantile(x, level)
        loss = np.where(gap > 0, level * gap, (level - 1) * gap).mean()
        assert found[f"pinball_{level * 100:02.0f}"]["value"] == pytest.approx(loss, **EXACT)
    inside = [[pearson(x[d, s].mean(axis=-1), y[d, s]) for s in range(SYMBOLS)] for d in range(CUTOFFS)]
    assert found["price_ic"]["value"] == pytest.approx(np.mean(inside), **EXACT)


@pytest.mark.parametrize("name", ["leaning", "rw-resampled"])
def test_returns(case: dict[str, Any], name: str) -> None:
    found = case["summary"]["tasks"]["return"]["walks_1h"][name]
    x, y, sigma = scaled(case, name)
    predicted, real = x[:, :, -1].mean(axis=-1) * sigma, y[:, :, -1] * sigma
    plain = np.array([pearson(predicted[d], real[d]) for d in range(CUTOFFS)])
    ranked = np.array([pearson(rank(predicted[d]), rank(real[d])) for d in range(CUTOFFS)])
    for key, series in (("ic", plain), ("rank_ic", ranked)):
        assert found[key]["value"] == pytest.approx(series.mean(), **EXACT)
        assert (found[key]["error"], found[key]["t"], found[key]["p"]) == pytest.approx(newey_west(series), **EXACT)
    assert found["pooled_ic"]["value"] == pytest.approx(pearson(predicted.ravel(), real.ravel()), **EXACT)
    all_ranks = pearson(rank(predicted.ravel()), rank(real.ravel()))
    assert found["pooled_rank_ic"]["value"] == pytest.approx(all_ranks, **EXACT)
    median = np.sort(x[:, :, -1], axis=-1)[..., S // 2 - 1 : S // 2 + 1].mean(axis=-1)
    assert found["hit_rate"]["value"] == pytest.approx((np.sign(median) == np.sign(y[:, :, -1])).mean(), **EXACT)


@pytest.mark.parametrize("name", ["leaning", "rw-resampled"])
def test_volatility(case: dict[str, Any], name: str) -> None:
    found = case["summary"]["tasks"]["volatility"]["walks_1h"][name]
    last = case["past"][..., -1, 3]

    def realised(closes: np.ndarray, start: np.ndarray) -> np.ndarray:
        return np.diff(np.log(np.concatenate([start[..., None], closes], axis=-1)), axis=-1)

    made = (realised(case["paths"][name][..., 3], np.repeat(last[..., None], S, axis=-1)) ** 2).sum(axis=-1)
    real = (realised(case["ahead"][..., 3], last) ** 2).sum(axis=-1)
    volatility = np.sqrt(made).mean(axis=-1)
    assert found["mae"]["value"] == pytest.approx(np.abs(volatility - np.sqrt(real)).mean(), **EXACT)
    ratio = real / made.mean(axis=-1)
    assert found["qlike"]["value"] == pytest.approx((ratio - np.log(ratio) - 1).mean(), **EXACT)
    rest, spread = ((np.sqrt(real) - volatility) ** 2).sum(), ((np.sqrt(real) - np.sqrt(real).mean()) ** 2).sum()
    assert found["r2"]["value"] == pytest.approx(1 - rest / spread, **EXACT)
    sigma = scaled(case, name)[2]
    logs = pearson(np.log(volatility / sigma).ravel(), np.log(np.sqrt(real) / sigma).ravel())
    assert found["log_correlation"]["value"] == pytest.approx(logs, **EXACT)


def test_comparisons_and_their_correction(case: dict[str, Any]) -> None:
    found = case["summary"]["comparisons"]
    price = {c["baseline"]: c for c in found if c["task"] == "price"}
    ours, theirs = (crps(*scaled(case, name)[:2]) for name in ("leaning", "rw-resampled"))
    gap = (ours - theirs).mean(axis=(1, 2))
    _, _, p = newey_west(gap)
    one = price["rw-resampled"]
    assert one["difference"]["value"] == pytest.approx(gap.mean(), **EXACT)
    assert one["relative"] == pytest.approx(gap.mean() / theirs.mean(), **EXACT)
    assert one["p"] == pytest.approx(p, **EXACT)
    still = np.abs(scaled(case, "leaning")[1])
    against_still = newey_west((ours - still).mean(axis=(1, 2)))[2]
    assert price["last-close"]["p"] == pytest.approx(against_still, **EXACT)
    families: dict[Any, list[dict[str, Any]]] = {}
    for one in found:  # prices, volatility and coverage are asked together, returns and barriers for themselves
        together = one["task"] if one["task"] in ("return", "touch") else "others"
        family = (one["model"], one["market"], together) if one["baseline"] in ASKED[one["task"]] else "not asked"
        families.setdefault(family, []).append(one)
    assert len(families) > 2
    for family in families.values():
        highest = 0.0
        tests = sorted((one for one in family if np.isfinite(one["p"])), key=lambda one: one["p"])
        for place, one in enumerate(tests):
            highest = max(highest, min(1.0, (len(tests) - place) * one["p"]))
            assert one["adjusted_p"] == pytest.approx(highest, **EXACT)
