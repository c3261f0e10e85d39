"""Synthetic bars against real ones: stylised facts, a discriminator, and training on the synthetic.

A *panel* (N, H, 5) holds opening gap, close-to-close move, upper and lower shadow (logs over the context's one-bar
volatility) and log volume over the context's mean: of the truths, or of one sampled path of the same windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.evaluation.baselines import SILENT
from kronos.evaluation.scoring import ResultStore, identity, window_id
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, HIGH, LOW, OPEN, VOLUME, FloatArray, Forecaster, Progress, sample_in_batches
from kronos.spec import ForecastSpec

MOVE, LOG_VOLUME = 1, 4
#: Features are cut here before a network sees them, so that one wild bar does not decide.
CLIP = 10.0
#: Batches of 64 sequences that each network is trained on, whatever the number of sequences.
STEPS = 300


def panel(windows: Sequence[Window], bars: Sequence[FloatArray]) -> FloatArray:
    """(N, H, 5) features of bars (H, 6) that follow the contexts of ``windows``; see the module's words."""
    rows = []
    for window, one in zip(windows, bars, strict=True):
        sigma = window.context.volatility()
        usual = window.context.values[:, VOLUME].mean()
        logs = np.log(one[:, : CLOSE + 1])
        before = np.concatenate([[np.log(window.context.last_close)], logs[:-1, CLOSE]])
        body = logs[:, [OPEN, CLOSE]]
        volume = np.log1p(one[:, VOLUME] / usual) if usual > 0 else np.zeros(len(one))
        parts = [logs[:, OPEN] - before, logs[:, CLOSE] - before]
        parts += [logs[:, HIGH] - body.max(axis=1), body.min(axis=1) - logs[:, LOW]]
        rows.append(np.column_stack([*(part / sigma for part in parts), volume]))
    return np.stack(rows)


def stylised_facts(sequences: FloatArray, max_lag: int = 5) -> dict[str, float]:
    """What returns of real markets have in common (Cont 2001), measured on a panel (N, H, 5).

    Returns:
        kurtosis (3 for the normal; of the pooled moves, each sequence scaled to unit root mean square: short
        sequences bound it by H, for real and synthetic alike), tail_index (Hill estimator on the largest 5 % of
        |move|; smaller is fatter), acf_returns, acf_squares (mean over the first lags, about 0 and above 0 in
        markets), leverage (correlation of a move with the squared moves of the next lags, negative in shares),
        volume_volatility (correlation of log volume and |move| within sequences; NaN without volume).
    """
    moves = sequences[..., MOVE]
    scale = np.sqrt((moves**2).mean(axis=1, keepdims=True))
    x = np.divide(moves, scale, out=np.zeros_like(moves), where=scale > 0)
    lags = range(1, min(max_lag, x.shape[1] - 2) + 1)
    squares = x**2
    return {
        "kurtosis": float((x**4).mean() / (x**2).mean() ** 2) if x.any() else float("nan"),
        "tail_index": hill_index(np.abs(moves)),
        "acf_returns": float(np.mean([_lagged(x, x, lag) for lag in lags])),
        "acf_squares": float(np.mean([_lagged(squares, squares, lag) for lag in lags])),
        "leverage": float(np.mean([_lagged(x, squares, lag) for lag in lags])),
        "volume_volatility": _within(sequences[..., LOG_VOLUME], np.abs(moves)),
    }


def hill_index(sizes: FloatArray, share: float = 0.05) -> float:
    """Hill's tail index: k over the summed log excesses of the k largest sizes above the (k+1)-th."""
    x = np.sort(sizes[sizes > 0].ravel())[::-1]
    k = int(share * len(x))
    return float(k / np.log(x[:k] / x[k]).sum()) if k >= 5 else float("nan")


def _lagged(x: FloatArray, y: FloatArray, lag: int) -> float:
    """Correlation over all sequences of x[t] with y[t + lag], each centred on its pooled mean."""
    a, b = (x[:, :-lag] - x.mean()).ravel(), (y[:, lag:] - y.mean()).ravel()
    return float((a @ b) / np.sqrt((a @ a) * (b @ b))) if a.any() and b.any() else float("nan")


def _within(x: FloatArray, y: FloatArray) -> float:
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def discriminative_score(
    real: FloatArray, synthetic: FloatArray, groups: npt.NDArray[Any], seed: int = 0, steps: int = STEPS
) -> dict[str, float]:
    """How often an LSTM mistakes synthetic bars for real ones or the reverse, on windows it was not trained on.

    A one-layer LSTM reads each sequence and says real or synthetic. It is trained on 70 % of the groups (dates), and
    scored on the rest; the real and the synthetic sequence of one window always lie on the same side.

    Args:
        real, synthetic: panels (N, H, 5) of the same windows.
        groups: (N,) labels that are kept together in the split.

    Returns:
        ``accuracy`` with ``accuracy_error`` (binomial, over the held-out windows) and ``score`` = 1 - accuracy cut to
        [0, ½]: ½ cannot be told apart, 0 always can. Higher is better, the direction of the paper's table.
    """
    held = _held_out(groups, seed, 0)
    if held.all() or not held.any():
        return dict.fromkeys(("accuracy", "accuracy_error", "score"), float("nan"))

    def sides(mask: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
        labels = np.repeat([1.0, 0.0], int(mask.sum()))[:, None]
        return _tensor(np.concatenate([real[mask], synthetic[mask]])), _tensor(labels)

    network, (x, labels) = _trained(*sides(~held), True, seed, steps), sides(held)
    accuracy, size = float(((network(x) > 0) == (labels > 0)).float().mean()), len(labels)
    error = float(np.sqrt(max(accuracy * (1 - accuracy), 0.25 / size) / size))
    return {"accuracy": accuracy, "accuracy_error": error, "score": float(min(max(1.0 - accuracy, 0.0), 0.5))}


def train_on_synthetic(
    real: FloatArray,
    synthetic: FloatArray,
    groups: npt.NDArray[Any],
    seed: int = 0,
    steps: int = STEPS,
    trtr: float | None = None,
) -> dict[str, float]:
    """Train on synthetic, test on real (TSTR): is the synthetic good for learning what the real teaches?

    An LSTM learns to foretell the size of the next move (|move|, the learnable part of returns) from the sequence so
    far, once from real and once from synthetic sequences of the same windows, and both are judged on held-out real
    ones.

    Args:
        trtr: the error after training on real, where it is known from another call with the same real panel.

    Returns:
        ``tstr`` and ``trtr`` (mean absolute errors, in σ) and ``ratio`` = tstr / trtr; 1 is as good as real data.
    """
    held = _held_out(groups, seed, 1)
    if held.all() or not held.any() or real.shape[1] < 3:
        return dict.fromkeys(("tstr", "trtr", "ratio"), float("nan"))

    def task(source: FloatArray) -> tuple[Any, Any]:
        bars = _tensor(source)
        return bars[:, :-1], bars[:, 1:, MOVE].abs()

    def error_after(source: FloatArray) -> float:
        x, target = task(real[held])
        return float((_trained(*task(source), False, seed, steps)(x) - target).abs().mean())

    tstr = error_after(synthetic[~held])
    trtr = error_after(real[~held]) if trtr is None else trtr
    return {"tstr": tstr, "trtr": trtr, "ratio": tstr / trtr}


def _held_out(groups: npt.NDArray[Any], seed: int, purpose: int) -> npt.NDArray[np.bool_]:
    """(N,) 30 % of the groups, at least one."""
    names = np.unique(groups)
    chosen = np.random.default_rng([seed, len(groups), purpose]).permutation(names)[: max(1, round(0.3 * len(names)))]
    return np.isin(groups, chosen)


def _tensor(values: FloatArray) -> Any:
    import torch

    return torch.tensor(np.clip(np.nan_to_num(values), -CLIP, CLIP), dtype=torch.float32)


def _trained(x: Any, y: Any, classify: bool, seed: int, steps: int) -> Callable[[Any], Any]:
    """A small LSTM whose last state answers (to classify) or every state does.

    It is trained on one thread (its steps are too short to be shared), from a separate random stream.
    """
    import torch
    from torch import nn

    lstm, head = nn.LSTM(x.shape[-1], 32, batch_first=True), nn.Linear(32, 1)
    parameters = [*lstm.parameters(), *head.parameters()]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.uniform_(-0.17, 0.17, generator=generator)

    def network(sequences: torch.Tensor) -> Any:
        states, _ = lstm(sequences)
        return head(states[:, -1]) if classify else head(states)[..., 0]

    optimiser = torch.optim.Adam(parameters, lr=5e-3)
    loss_of = nn.BCEWithLogitsLoss() if classify else nn.L1Loss()
    done, threads = 0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        while done < steps:
            order = torch.randperm(len(x), generator=generator)
            for batch in torch.split(order, 64)[: steps - done]:
                optimiser.zero_grad()
                loss_of(network(x[batch]), y[batch]).backward()
                optimiser.step()
                done += 1
    finally:
        torch.set_num_threads(threads)
    return torch.no_grad()(network)


def generate_and_judge(
    windows: Sequence[Window],
    forecasters: Sequence[Forecaster],
    *,
    most: int,
    steps: int,
    seed: int,
    store: ResultStore,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """``{market: {forecaster: figures}}``; one market at a time, since horizons and habits differ.

    Points have no path to sample and are left out; of the others, the first path per window is judged by the truths.

    Args:
        most: windows of a market that are used, drawn by the seed; ``steps``: of each network's training.
    """
    out: dict[str, Any] = {}
    forecasters = [one for one in forecasters if one.name not in SILENT]
    markets = list(dict.fromkeys(window.group for window in windows))
    for market in markets:
        mine = [window for window in windows if window.group == market]
        if len(mine) > most:
            rng = np.random.default_rng([seed, len(mine)])
            mine = [mine[i] for i in np.sort(rng.choice(len(mine), most, replace=False))]
        trtr: float | None = None  # the real side is the same for all
        out[market] = {}
        for forecaster in forecasters:
            make = partial(_figures, mine, forecaster, seed, steps, trtr)
            figures = store.figures(_key(mine, forecaster, steps, seed), make)
            trtr = figures["train_on_synthetic"]["trtr"]
            out[market][forecaster.name] = figures
            if progress is not None:
                progress(sum(map(len, out.values())), len(markets) * len(forecasters))
    return out


def _figures(
    windows: Sequence[Window], forecaster: Forecaster, seed: int, steps: int, trtr: float | None
) -> dict[str, Any]:
    """All figures of one forecaster in one market."""
    spec = ForecastSpec(horizon=len(windows[0].truth), num_samples=1, seed=seed)
    sampled = sample_in_batches(forecaster, [window.context for window in windows], spec)
    real, made = panel(windows, [w.truth for w in windows]), panel(windows, [paths[0] for _, paths in sampled])
    groups = np.array([str(window.date) for window in windows])
    return {
        "windows": len(windows),
        "discriminator": discriminative_score(real, made, groups, seed, steps),
        "train_on_synthetic": train_on_synthetic(real, made, groups, seed, steps, trtr),
        "facts": stylised_facts(made),
        "real_facts": stylised_facts(real),
    }


def _key(windows: Sequence[Window], forecaster: Forecaster, steps: int, seed: int) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for text in (identity(forecaster), str(steps), *(window_id(w, 1, seed) for w in windows)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
