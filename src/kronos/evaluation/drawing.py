"""Whole bars from log moves, with the gaps, shadows and volumes of the context's bars, and what all baselines share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, OPEN, VOLUME, Context, FloatArray, traded_value
from kronos.spec import ForecastSpec


def context_rng(seed: int, context: Context) -> np.random.Generator:
    """The generator of a seed and context, whatever batch the context comes in; its hash fixes published figures."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(context.symbol.encode())
    digest.update(np.int64(context.timestamps[-1].astype(np.int64)).tobytes())
    digest.update(np.ascontiguousarray(context.values[-1]).tobytes())
    return np.random.default_rng([seed, *np.frombuffer(digest.digest(), dtype=np.uint32).tolist()])


@dataclass(frozen=True)
class BarShapes:
    """The bars of a context relative to the close before them; each array (T-1,), logs."""

    gap: FloatArray  # ln open / previous close
    move: FloatArray  # ln close / previous close
    up: FloatArray  # ln high / max(open, close), never negative
    down: FloatArray  # ln min(open, close) / low, never negative
    volume: FloatArray  # as traded
    price_factor: FloatArray  # amount / (volume × mean price); 1 where there is no volume

    @classmethod
    def of(cls, context: Context) -> BarShapes:
        """Measure the context's bars from the second one on."""
        bars, logs = context.values[1:], np.log(context.values[:, : CLOSE + 1])
        before, now = logs[:-1, CLOSE], logs[1:]
        body, traded = now[:, [OPEN, CLOSE]], traded_value(bars)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(traded > 0, bars[:, AMOUNT] / traded, 1.0)
        return cls(
            gap=now[:, OPEN] - before,
            move=now[:, CLOSE] - before,
            up=np.maximum(now[:, HIGH] - body.max(axis=1), 0.0),
            down=np.maximum(body.min(axis=1) - now[:, LOW], 0.0),
            volume=np.maximum(bars[:, VOLUME], 0.0),
            price_factor=np.where(np.isfinite(factor), np.maximum(factor, 0.0), 1.0),
        )


def build_bars(
    last_close: float, shapes: BarShapes, picked: np.ndarray, moves: FloatArray, stretch: FloatArray | float = 1.0
) -> FloatArray:
    """Bars (S, H, 6) from close-to-close log moves (S, H) and the drawn shapes.

    ``picked`` (S, H) numbers the context bar that lends gap, shadows and volume; ``stretch`` (S, H) multiplies gap
    and shadows (a bar drawn from a calm hour becomes larger in a wild one).
    """
    closes = np.log(last_close) + np.cumsum(moves, axis=1)
    opens = closes - moves + shapes.gap[picked] * stretch
    highs = np.maximum(opens, closes) + shapes.up[picked] * stretch
    lows = np.minimum(opens, closes) - shapes.down[picked] * stretch
    prices = np.exp(np.clip(np.stack([opens, highs, lows, closes], axis=-1), -600.0, 600.0))
    volume = shapes.volume[picked]
    amount = volume * prices.mean(axis=-1) * shapes.price_factor[picked]
    return np.concatenate([prices, volume[..., None], amount[..., None]], axis=-1)


def bars_of_line(context: Context, closes: FloatArray) -> FloatArray:
    """One path (1, H, 6) of closes (H,): bars without shadows that open at the last close and trade as before."""
    opens = np.concatenate([[context.last_close], closes[:-1]])
    prices = np.stack([opens, np.maximum(opens, closes), np.minimum(opens, closes), closes], axis=-1)
    traded = np.broadcast_to(context.values[-1, CLOSE + 1 :], (len(closes), 2))
    return np.concatenate([prices, traded], axis=-1)[None]


def resampled_walk(
    context: Context, horizon: int, num_samples: int, rng: np.random.Generator, *, drift: bool = False
) -> FloatArray:
    """Paths (num_samples, horizon, 6) of the context's bars, drawn anew; without ``drift`` their mean move is out."""
    shapes = BarShapes.of(context)
    picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
    moves = shapes.move - (0.0 if drift else shapes.move.mean())
    return build_bars(context.last_close, shapes, picked, moves[picked])


class Baseline:
    """Common part of the baselines: one context at a time, each with a random stream."""

    name = "baseline"
    meaning = ""  # what it does, in a line for reports
    parallel = True  # no state between contexts but a counter: processes may share the work
    ranks = False  # whether it claims an order of returns; the others rank by chance
    straight = False  # whether its path is a straight line, which has no volatility to judge

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) per context; point forecasters give (1, horizon, 6)."""
        return [self.paths(one, spec.horizon, spec.num_samples, context_rng(spec.seed, one)) for one in contexts]

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """The paths of one context."""
        raise NotImplementedError
