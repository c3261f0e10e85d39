"""Chances of barriers: scored against what came, fair, and honest for one who samples the truth's own law."""

from __future__ import annotations

import numpy as np
import pytest

from kronos.evaluation import touches
from kronos.evaluation.touches import EVENTS, FIRST, MULTIPLES, reliability, touch_scores
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, HIGH, LOW, OPEN, Context, FloatArray


def walks(number: int, horizon: int, sigma: float, last: float, seed: int) -> FloatArray:
    """Bars (S, H, 6) without shadows whose closes walk with normal moves."""
    moves = np.random.default_rng(seed).normal(0, sigma, (number, horizon))
    close = last * np.exp(np.cumsum(moves, axis=1))
    start = np.concatenate([np.full((number, 1), last), close[:, :-1]], axis=1)
    bars = np.ones((number, horizon, 6))
    bars[..., OPEN], bars[..., CLOSE] = start, close
    bars[..., HIGH], bars[..., LOW] = np.maximum(start, close), np.minimum(start, close)
    return bars


def test_what_is_said_and_what_came_counted_by_hand(window: Window) -> None:
    context = window.context
    last, reach = context.last_close, context.volatility() * np.sqrt(3)
    truth = np.full((3, 6), last)
    truth[1, HIGH] = last * np.exp(1.2 * reach)  # touches the barriers at .5 and 1 above, none below
    paths = np.full((4, 3, 6), last)
    paths[0, 2, HIGH] = last * np.exp(0.7 * reach)
    paths[1, 0, LOW] = last * np.exp(-2.0 * reach)
    paths[2, 1, HIGH], paths[2, 1, LOW] = last * np.exp(1.1 * reach), last * np.exp(-1.1 * reach)  # both in one bar
    found = touch_scores(context, truth, paths)
    assert [found[f"came_{event}"] for event in EVENTS] == [1, 0, 1, 0, 0, 0]
    assert [found[f"chance_{event}"] for event in EVENTS] == [0.5, 0.5, 0.25, 0.5, 0, 0.25]
    assert [found[f"{what}_{event}"] for what in ("came", "chance") for event in FIRST] == [1, 0, 0, 0.25]
    chance, size = 0.25, len(paths)
    fair = (chance - 1.0) ** 2 - chance * (1.0 - chance) / (size - 1)
    assert found["brier_up_100"] == pytest.approx(fair, abs=1e-12)


def test_one_who_knows_the_law_is_reliable_and_scores_as_fair_says(window: Window) -> None:
    """Chances from few paths, truths from the same walk: the fair score is that of the true chance, whatever S."""
    context, horizon = window.context, 8
    sigma, last = context.volatility(), context.last_close
    truths = walks(2000, horizon, sigma, last, seed=1)
    means = {}
    for size in (4, 40):
        pools = walks(2000 * size, horizon, sigma, last, seed=size).reshape(2000, size, horizon, 6)
        found = [touch_scores(context, truth, paths) for truth, paths in zip(truths, pools, strict=True)]
        means[size] = np.mean([one["brier_up_050"] for one in found])
        share, chance = (np.mean([one[f"{what}_up_050"] for one in found]) for what in ("came", "chance"))
        assert chance == pytest.approx(share, abs=0.03)
    assert means[4] == pytest.approx(share * (1 - share), abs=0.015)
    assert means[40] == pytest.approx(share * (1 - share), abs=0.01)


def test_reliability_by_tenths() -> None:
    table = reliability([0.0, 0.05, 0.55, 0.52, 1.0, np.nan], [0, 1, 1, 1, 1, 1])
    assert [(one["low"], one["number"], one["came"]) for one in table] == [(0.0, 2, 0.5), (0.5, 2, 1.0), (0.9, 1, 1.0)]
    assert table[1]["chance"] == pytest.approx(0.535)
    assert reliability([], []) == []


def test_a_context_that_does_not_move_has_no_barriers(window: Window) -> None:
    context, truth = window.context, window.truth
    still = type(context)(context.symbol, context.timestamps, np.ones_like(context.values), context.future_timestamps)
    found = touch_scores(still, truth, truth[None])
    assert len(found) == 3 * (2 * len(MULTIPLES) + 2)
    assert all(np.isnan(value) for value in found.values())


@pytest.mark.parametrize("sigma", [1e-10, 1e-8, 1e-7, 1e-5])
def test_prices_that_hardly_move_have_no_barriers(sigma: float) -> None:
    values = np.full((30, 6), 100.0)
    values[:, : CLOSE + 1] *= np.exp(sigma * np.random.default_rng(0).standard_normal(30))[:, None]
    times = np.datetime64("2024-01-01", "ns") + np.arange(36) * np.timedelta64(1, "h")
    found = touch_scores(Context("A", times[:30], values, times[30:]), values[:6], values[None, 6:12])
    assert np.isnan(found["chance_up_050"]) == (sigma < 1e-6)


def test_small_moves_are_no_mirrors(monkeypatch: pytest.MonkeyPatch, window: Window) -> None:
    """Minutes of a currency move by a hundredth of a per cent; their paths are as independent as those of days."""
    seen = []
    monkeypatch.setattr(touches, "_scored", lambda *given: seen.append(given[-1]) or {})
    values = window.context.values.copy()
    values[:, : CLOSE + 1] = 100.0 * (values[:, : CLOSE + 1] / 100.0) ** 0.002
    context = Context("A", window.context.timestamps, values, window.context.future_timestamps)
    paths = walks(60, 6, context.volatility(), context.last_close, seed=1)
    touch_scores(context, paths[0], paths)
    assert seen == [False] * len((*EVENTS, *FIRST))
