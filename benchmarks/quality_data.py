"""Test windows for the quality benchmark: later dates of held-apart symbols, and synthetic random walks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation.windows import Refusals, Series, Window, draw_windows
from kronos.protocol import Context
from kronos.training.data import LATER_SHARE, held_apart

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


#: Scope of a draw → which symbols it reads.
WANTED: dict[str, Callable[[str], bool]] = {
    "held-apart": held_apart,
    "held-apart-before": held_apart,
    "later": lambda _: True,
    "later-seen": lambda symbol: not held_apart(symbol),
    "all": lambda _: True,
}


def split_cutoff(path: Path) -> np.datetime64:
    """The end of training for a file: training's own rule, applied to the file's timestamps."""
    times = pd.read_parquet(path, columns=["timestamp"])["timestamp"].to_numpy().astype("datetime64[s]")
    return np.datetime64(int(np.quantile(times.astype(np.int64), 1.0 - LATER_SHARE)), "s")


def read_series(path: Path, wanted: Callable[[str], bool]) -> dict[str, Series]:
    """The wanted symbols of one development file."""
    frame = pd.read_parquet(path)
    frame["symbol"] = frame["symbol"].astype(str)
    frame = frame[frame["symbol"].map({name: wanted(name) for name in frame["symbol"].unique()}.__getitem__)]
    return {str(symbol): Series.from_frame(str(symbol), part) for symbol, part in frame.groupby("symbol")}


def real_windows(
    folder: Path, context: int, horizon: int, total: int, seed: int, scope: str
) -> tuple[list[Window], dict[str, Any]]:
    """Windows of every file, the same number from each as far as its bars go.

    Args:
        folder: where the parquet files lie.
        total: windows wanted; a file that cannot give its share leaves the rest to the others.
        scope: "held-apart" (later dates of symbols that training never saw), "held-apart-before" (their dates up to
            the cutoff, for fitting a calibration), "later" (later dates of all symbols), "later-seen" (later dates of
            the symbols that training saw, for choosing settings without spending the held-apart ones), or "all"
            (every date of every symbol, for bars that no training saw).

    Returns:
        The windows and a record of what was refused and which files gave none.
    """
    refused, available = Refusals(), {}
    for path in sorted(folder.glob("*.parquet")):
        series = read_series(path, WANTED[scope])
        border = None if scope == "all" else split_cutoff(path)
        before, after = (border, None) if scope == "held-apart-before" else (None, border)
        available[path.stem] = draw_windows(
            series, context, horizon, total, seed, before=before, after=after, group=path.stem, refused=refused
        )
    share = equal_shares({name: len(found) for name, found in available.items()}, total)
    rng = np.random.default_rng([seed, total])
    windows: list[Window] = []
    for name, found in available.items():
        chosen = np.sort(rng.choice(len(found), size=share[name], replace=False)) if share[name] else np.arange(0)
        windows += [found[i] for i in chosen]
    record = {
        "windows_by_file": {name: number for name, number in share.items() if number},
        "files_without_windows": sorted(name for name, number in share.items() if not number),
        "candidate_cutoffs_refused": refused.counts,
    }
    return windows, record


def equal_shares(available: dict[str, int], total: int) -> dict[str, int]:
    """Split ``total`` evenly over what is available, small files first."""
    share: dict[str, int] = {}
    left = total
    for position, name in enumerate(sorted(available, key=lambda n: (available[n], n))):
        share[name] = min(available[name], left // (len(available) - position))
        left -= share[name]
    return share


def sample_windows(context: int, horizon: int, total: int, seed: int) -> tuple[list[Window], dict[str, Any]]:
    """Windows of the bars that ship inside the package, where the development data is absent."""
    from kronos.bars import read_bars

    folder = ROOT / "src" / "kronos" / "bars" / "samples"
    files = sorted(path for path in folder.iterdir() if path.suffix in {".csv", ".parquet"})
    windows: list[Window] = []
    for path in files:
        bars = read_bars(path)
        after = np.datetime64(pd.Timestamp(bars["timestamp"].iloc[int((1.0 - LATER_SHARE) * len(bars))]))
        series = Series.from_frame(path.stem, bars)
        windows += draw_windows(
            {path.stem: series}, context, horizon, total // max(1, len(files)), seed, after=after, group=path.stem
        )
    return windows, {"windows_by_file": dict(pd.Series([w.group for w in windows]).value_counts())}


def random_walks(number: int, context: int, horizon: int, seed: int, degrees: float = 4.0) -> list[Window]:
    """Bars of random walks with independent t-distributed returns: past moves say nothing about future ones.

    Each bar is a Brownian bridge of its own variance (a scaled inverse chi-square, so that moves are t with
    ``degrees`` of freedom), whose maximum and minimum are drawn exactly: ``(|move| + √(move² - 2 s² ln U)) / 2``
    beyond the lower end, each side by itself. Hourly bars, around the clock; volume is log-normal and grows with s.
    """
    rng = np.random.default_rng([seed, number, context])
    length = context + horizon
    sigma = np.exp(rng.normal(np.log(0.005), 0.5, size=(number, 1)))
    scale = sigma * np.sqrt((degrees - 2.0) / rng.chisquare(degrees, size=(number, length)))
    move = scale * rng.standard_normal((number, length))
    close = np.cumsum(move, axis=1) + rng.normal(4.0, 1.0, size=(number, 1))
    start = close - move
    reach = [np.sqrt(move**2 - 2.0 * scale**2 * np.log(rng.random(move.shape))) for _ in range(2)]
    high, low = start + (move + reach[0]) / 2.0, start + (move - reach[1]) / 2.0
    prices = np.exp(np.stack([start, np.maximum(high, np.maximum(start, close)), low, close], axis=-1))
    prices[..., 2] = prices[..., [0, 2, 3]].min(axis=-1)
    volume = np.exp(rng.normal(7.0, 0.4, size=move.shape)) * scale / sigma
    values = np.concatenate([prices, volume[..., None], (volume * prices.mean(axis=-1))[..., None]], axis=-1)
    times = np.datetime64("2023-01-02", "ns") + np.arange(length) * np.timedelta64(1, "h")
    windows = []
    for i in range(number):
        past = Context(f"walk-{i}", times[:context], values[i, :context], times[context:])
        windows.append(Window(past, values[i, context:].copy(), "random walk"))
    return windows
