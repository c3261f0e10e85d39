"""The two tasks that are not scored window by window: generation and investment.

**Generation** holds synthetic bars against real ones: stylised facts, a discriminator, and training on the synthetic. A
*panel* (N, H, 5) holds opening gap, close-to-close move, upper and lower shadow (logs over the context's one-bar
volatility) and log volume over the context's mean: of the truths, or of one sampled path of the same windows.

**Investment** asks what a portfolio earns that is chosen by a forecaster's signals, after costs. Who trades them is
passed in. Settings are the paper's (model specification, section 8): 90 sessions seen, 10 ahead, signal = mean forecast
close over the horizon against the last close, a new one every five sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.year import SESSIONS_A_YEAR
from kronos.errors import ConfigError
from kronos.evaluation.baselines import STRAIGHT, LastClose
from kronos.evaluation.rolling import ResultStore, identity, window_id
from kronos.evaluation.statistics import dates_interval, dates_test
from kronos.evaluation.summary import Comparison
from kronos.evaluation.windows import Series, Window, required_windows
from kronos.files import digest
from kronos.protocol import CLOSE, HIGH, LOW, OPEN, VOLUME, FloatArray, Forecaster, Progress, sample_in_batches
from kronos.spec import ForecastSpec

MOVE, LOG_VOLUME = 1, 4
NAN = float("nan")
#: Features are cut here before a network sees them, so that one wild bar does not decide.
CLIP = 10.0
#: Batches of 64 sequences that each network is trained on, whatever the number of sequences.
STEPS = 300

LOOKBACK, HORIZON, EVERY = 90, 10, 5
A_DAY = pd.Timedelta(days=1)
DAILY = np.timedelta64(20, "h")  # bars of this size and longer are sessions

#: Bars of a market and signals by forecaster, each by (datetime, instrument) → by forecaster a table of sessions with
#: ``net`` (return of the account after cost), ``bench`` (of all names in equal shares) and ``turnover``.
Trade = Callable[[Mapping[str, Series], Mapping[str, pd.Series]], Mapping[str, pd.DataFrame]]


def panel(windows: Sequence[Window], bars: Sequence[FloatArray]) -> FloatArray:
    """(N, H, 5) features of bars (H, 6) that follow the contexts of ``windows``; see the module's words."""
    rows = []
    for context, one in zip((window.context for window in windows), bars, strict=True):
        sigma, usual, logs = context.volatility(), context.values[:, VOLUME].mean(), np.log(one[:, : CLOSE + 1])
        before = np.concatenate([[np.log(context.last_close)], logs[:-1, CLOSE]])
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
    squares = x**2

    def lagged(y: FloatArray, z: FloatArray) -> float:
        """Mean over the lags of the correlation over all sequences of y[t] with z[t + lag]."""
        y, z = y - y.mean(), z - z.mean()
        lags = range(1, min(max_lag, x.shape[1] - 2) + 1)
        pairs = [(y[:, :-lag].ravel(), z[:, lag:].ravel()) for lag in lags]
        return float(np.mean([(a @ b) / np.sqrt((a @ a) * (b @ b)) if a.any() and b.any() else NAN for a, b in pairs]))

    volume, sizes = (v - v.mean(axis=1, keepdims=True) for v in (sequences[..., LOG_VOLUME], np.abs(moves)))
    spread = np.sqrt((volume**2).sum() * (sizes**2).sum())
    return {
        "kurtosis": float((x**4).mean() / (x**2).mean() ** 2) if x.any() else NAN,
        "tail_index": hill_index(np.abs(moves)),
        "acf_returns": lagged(x, x),
        "acf_squares": lagged(squares, squares),
        "leverage": lagged(x, squares),
        "volume_volatility": float((volume * sizes).sum() / spread) if spread > 0 else NAN,
    }


def hill_index(sizes: FloatArray, share: float = 0.05) -> float:
    """Hill's tail index: k over the summed log excesses of the k largest sizes above the (k+1)-th."""
    x = np.sort(sizes[sizes > 0].ravel())[::-1]
    k = int(share * len(x))
    return float(k / np.log(x[:k] / x[k]).sum()) if k >= 5 else NAN


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
        return dict.fromkeys(("accuracy", "accuracy_error", "score"), NAN)

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
        return dict.fromkeys(("tstr", "trtr", "ratio"), NAN)

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

    Straight lines are no market and are left out; of the others, the first path per window is judged by the truths.

    Args:
        most: windows of a market that are used, drawn by the seed; ``steps``: of each network's training.
    """
    out: dict[str, Any] = {}
    forecasters = [one for one in forecasters if one.name not in STRAIGHT]
    markets = list(dict.fromkeys(window.group for window in windows))
    for market in markets:
        mine = [window for window in windows if window.group == market]
        if len(mine) > most:
            rng = np.random.default_rng([seed, len(mine)])
            mine = [mine[i] for i in np.sort(rng.choice(len(mine), most, replace=False))]
        trtr: float | None = None  # the real side is the same for all
        out[market] = {}
        for forecaster in forecasters:
            key = digest(identity(forecaster), steps, [window_id(window, 1, seed) for window in mine], size=12)
            figures = store.figures(key, partial(_figures, mine, forecaster, seed, steps, trtr))
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


def daily_markets(markets: Mapping[str, Mapping[str, Series]]) -> list[str]:
    """The markets whose bars are sessions; ConfigError: there is none."""
    found = [name for name, series in markets.items() if np.median([one.step() for one in series.values()]) >= DAILY]
    if not found:
        raise ConfigError("the task 'investment' needs daily bars: give a market of them, or leave the task out")
    return found


def signals_of(forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int) -> pd.Series:
    """Mean predicted close over the horizon and the paths against the last close, by (datetime, instrument)."""
    contexts, spec = [one.context for one in windows], ForecastSpec(horizon=HORIZON, num_samples=num_samples, seed=seed)
    found = {}
    for place, paths in sample_in_batches(forecaster, contexts, spec):
        context = contexts[place]
        session = context.local(context.timestamps[-1:])[0].tz_localize(None).normalize()
        found[session, context.symbol] = paths[..., CLOSE].mean() / context.last_close - 1.0
    index = pd.MultiIndex.from_tuples(list(found), names=["datetime", "instrument"])
    return pd.Series(list(found.values()), index=index).sort_index()


def portfolio_figures(daily: pd.DataFrame) -> dict[str, Any]:
    """Excess over the benchmark with interval and t value, information ratio, return, drawdown and turnover a year."""
    excess = daily["net"] - daily["bench"]
    wealth = (1.0 + daily["net"]).cumprod()
    year, spread = SESSIONS_A_YEAR, float(excess.std())
    interval, test = dates_interval(excess, A_DAY), dates_test(excess, A_DAY)
    return {
        "sessions": len(daily),
        "excess": {**{k: v * year for k, v in interval.as_dict().items()}, "error": test.error * year, "t": test.t},
        "excess_t": test.t,
        "information_ratio": float(excess.mean() / spread * np.sqrt(year)) if spread > 0 else NAN,
        "annual_return": float(wealth.iloc[-1] ** (year / len(daily)) - 1.0),
        "max_drawdown": float((wealth / wealth.cummax().clip(lower=1.0) - 1.0).min()),
        "turnover": float(daily["turnover"].mean()),
    }


def invest(
    markets: Mapping[str, Mapping[str, Series]],
    forecasters: Sequence[Forecaster],
    trade: Trade,
    *,
    n_windows: int,
    after: Callable[[str], np.datetime64[Any] | None],
    num_samples: int,
    seed: int,
    sides: tuple[Sequence[str], Sequence[str]],
) -> tuple[dict[str, dict[str, Any]], list[Comparison]]:
    """``{market: {forecaster: figures}}`` of the daily markets, and the comparisons, not corrected for their number.

    A flat forecast picks no names, so those baselines are left out. Models are compared with the other baselines by
    minus the net return of a session, ours less theirs.

    Args:
        n_windows: signals, ``EVERY`` sessions apart, counted back from the end.
        sides: names of the models and of the baselines.
    """
    tables: dict[str, dict[str, Any]] = {}
    comparisons: list[Comparison] = []
    choosing = [one for one in forecasters if one.name != LastClose.name]
    for market in daily_markets(markets):
        windows, _ = required_windows(
            markets[market], LOOKBACK, HORIZON, n_windows=n_windows, step=EVERY, after=after(market), group=market
        )
        daily = trade(markets[market], {one.name: signals_of(one, windows, num_samples, seed) for one in choosing})
        tables[market] = {name: {"windows": len(windows), **portfolio_figures(table)} for name, table in daily.items()}
        for model, baseline in product(sides[0], (name for name in sides[1] if name in daily)):
            gap = daily[baseline]["net"] - daily[model]["net"]
            comparisons.append(Comparison.by_date("investment", market, model, baseline, gap, A_DAY))
    return tables, comparisons
