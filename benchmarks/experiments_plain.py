"""What can be said about statistics without training a network: seconds instead of hours.

    python -m benchmarks.experiments_plain

Two questions. Where does a mean reversion come from that is not there? A straight line is fitted to windows whose
statistics know their own future, or do not, and asked about random walks. And how far does a running volatility go
by itself? Forecasts draw the features of the context again, at random, and turn them into bars; nothing is learnt.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.quality import YARDSTICK, cluster_labels, figures, scored
from benchmarks.quality_data import DATA, random_walks, real_windows

from kronos.bars.transform import BarTransform, get_transform
from kronos.bars.transform.running import moves_variance
from kronos.evaluation.baselines import context_rng, make_baselines
from kronos.evaluation.windows import Window
from kronos.protocol import Context, FloatArray
from kronos.spec import ForecastSpec

CONTEXT, HORIZON, LAGS = 192, 24, 24
GAP, UPPER, LOWER, BODY = range(4)


def reversion(train: list[Window], test: list[Window], transform: BarTransform, whole: bool) -> float:
    """Slope of the predicted on the past move over ``HORIZON`` bars; 0 is the truth on random walks.

    Least squares from the last ``LAGS`` features of the close to the next move, fitted with statistics of the whole
    window or of the context, asked with statistics of the context, as a forecast must be.
    """

    def cases(windows: list[Window], knows_future: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
        bars = np.stack([np.concatenate([w.context.values, w.truth]) for w in windows])
        length = np.full(len(bars), bars.shape[1] if knows_future else bars.shape[1] - HORIZON)
        features = transform.encode(bars, transform.fit(bars, length)).astype(float)
        close = np.sinh(features[..., [GAP, BODY]]).sum(-1) if transform.takes_moves else features[..., 3]
        past, later = close[:, -HORIZON - LAGS : -HORIZON], close[:, -HORIZON:]
        if not transform.takes_moves:  # levels: a move is a difference
            return past, later[:, -1] - past[:, -1], past[:, -1] - past[:, 0]
        return past, later.sum(1), past.sum(1)

    x, y, _ = cases(train, whole)
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.solve(design.T @ design + 1e-3 * len(x) * np.eye(design.shape[1]), design.T @ y)
    asked, _, moved = cases(test, False)
    predicted = np.column_stack([asked, np.ones(len(asked))]) @ weights
    return float(np.cov(predicted, moved)[0, 1] / moved.var(ddof=1))


class ResampledFeatures:
    """Draws bars of the context, as a transform sees them, each turned upside down by the toss of a coin.

    Args:
        name: for the tables.
        transform: a transform of the ``returns`` family.
        level: divide the moves so that, over the context, a bar's variance is on average what was expected of it. A
            running volatility is noisy, so its moves are too large for it on average, and paths that feed on
            themselves would grow.
    """

    def __init__(self, name: str, transform: BarTransform, level: bool = False) -> None:
        self.name, self.transform, self.level = name, transform, level

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        return [self._paths(context, spec.horizon, spec.num_samples, spec.seed) for context in contexts]

    def _paths(self, context: Context, horizon: int, num_samples: int, seed: int) -> FloatArray:
        state = self.transform.fit(context.values)
        features = self.transform.encode(context.values, state)
        if self.level:
            moves = np.sinh(features[:, :4].astype(float))
            features[:, :4] = np.arcsinh(moves / np.sqrt(moves_variance(moves).mean()))
        rng = context_rng(seed, context)
        drawn = features[rng.integers(len(features), size=(num_samples, horizon))]
        tossed = rng.random((num_samples, horizon)) < 0.5
        turned = drawn[..., [GAP, LOWER, UPPER, BODY, 4, 5]] * np.array([-1, 1, 1, -1, 1, 1])
        return np.asarray(self.transform.decode(np.where(tossed[..., None], turned, drawn), state))


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments_plain", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--windows", type=int, default=600)
    parser.add_argument("--walks", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=60)
    args = parser.parse_args(argv)
    walks = [random_walks(args.walks, CONTEXT, HORIZON, seed) for seed in (2, 3)]
    real, _ = real_windows(args.data, CONTEXT, HORIZON, args.windows * 4, 2, "held-apart-before")
    print("slope of predicted on past moves, random walks asked; fitted on random walks / on real bars")
    for name in ("zscore", "returns"):
        for whole in (False, True):
            slopes = [reversion(train, walks[1], get_transform(name), whole) for train in (walks[0], real)]
            print(f"  {name:8} {'whole window' if whole else 'context':13} {slopes[0]:+.3f} / {slopes[1]:+.3f}")
    windows, _ = real_windows(args.data, 256, HORIZON, args.windows, 1, "held-apart")
    clusters = cluster_labels(windows)
    forecasters: list[Any] = list(make_baselines([YARDSTICK, "ewma", "garch"]))
    forecasters += [
        ResampledFeatures("fixed σ", get_transform("returns")),
        ResampledFeatures("running σ", get_transform("running")),
        ResampledFeatures("running, level", get_transform("running"), level=True),
    ]
    print("nothing learnt: CRPS / walk [95 %], coverage 50 / 90 %, log-volatility correlation")
    tables = {f.name: scored(f, windows, args.samples, 0) for f in forecasters}
    for name, table in tables.items():
        f = figures(table, tables[YARDSTICK], clusters)
        r, cover = f["crps_ratio"], [f[f"coverage_{level}"]["value"] for level in (50, 90)]
        print(
            f"  {name:14} {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]  {cover[0]:.3f} / {cover[1]:.3f}  "
            f"{f['log_volatility_correlation']:.2f}"
        )


if __name__ == "__main__":
    main()
