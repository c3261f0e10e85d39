"""The HAR baselines where a context gives them little to go by: bars that stood still, and few bars."""

from __future__ import annotations

import numpy as np
import pytest

from kronos.evaluation.drawing import resampled_walk
from kronos.evaluation.variance import Har, HarRefit
from kronos.protocol import AMOUNT, CLOSE, OPEN, VOLUME, Context, FloatArray


def context_of(moves: FloatArray) -> Context:
    """Hourly bars of these log moves, with short shadows; one without a move stands still."""
    closes = 100.0 * np.exp(np.cumsum(moves))
    opens = np.concatenate([[100.0], closes[:-1]])
    reach = np.where(moves != 0, 0.2 * np.abs(moves).mean(), 0.0)
    top, bottom = (np.exp(side * reach) * of(opens, closes) for side, of in ((1, np.maximum), (-1, np.minimum)))
    values = np.column_stack([opens, top, bottom, closes, np.ones(len(moves)), closes])
    times = np.datetime64("2024-01-01", "ns") + np.arange(len(moves) + 24) * np.timedelta64(1, "h")
    assert (OPEN, CLOSE, VOLUME, AMOUNT) == (0, 3, 4, 5)
    return Context("A", times[: len(moves)], values, times[len(moves) :])


def size_of_steps(paths: FloatArray, context: Context) -> float:
    """Root mean square of the paths' moves over that of the context's."""
    moves = np.diff(np.log(paths[..., CLOSE] / context.last_close), axis=1, prepend=0.0)
    return float(np.sqrt((moves**2).mean() / (context.log_returns() ** 2).mean()))


def test_bars_that_stand_still_do_not_make_it_a_walk() -> None:
    moves = 0.01 * np.random.default_rng(0).standard_normal(256)
    moves[60:100] = 0.0
    moves[-60:] *= 0.2
    context = context_of(moves)
    paths, walk = (draw(context, 24, 400, np.random.default_rng(1)) for draw in (Har().paths, resampled_walk))
    assert size_of_steps(paths, context) < 0.7 * size_of_steps(walk, context)
    residual = np.diff(np.log(paths[..., CLOSE] / context.last_close), axis=1, prepend=0.0)
    assert (residual**4).mean() / (residual**2).mean() ** 2 < 20  # the first move after the rest is no monster


@pytest.mark.parametrize("baseline", [Har(), HarRefit()])
@pytest.mark.parametrize("horizon", [1, 4])
def test_few_bars_keep_the_level_of_the_context(baseline: Har, horizon: int) -> None:
    context = context_of(0.01 * np.random.default_rng(3).standard_normal(12))
    paths = baseline.paths(context, horizon, 4000, np.random.default_rng(1))
    assert size_of_steps(paths, context) == pytest.approx(1.0, abs=0.06)
