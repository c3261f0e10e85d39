"""Pictures of a forecast. This file says what is shown, once for both ways to draw it: ``html`` and ``png``.

Bars stand at whole positions 0, 1, 2 … whatever the time between them, so nights, lunch breaks and weekends leave
no holes, for daily and intraday bars alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.protocol import CLOSE, VOLUME

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

UP, DOWN, AHEAD = "#26a69a", "#ef5350", "#3b82f6"
BANDS = {0.90: 0.13, 0.80: 0.17, 0.50: 0.28}  # share of the closes: opacity; widest first, as they are laid over
FEWEST_PAST, MOST_PAST = 60, 240

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Band:
    """The central share of the paths' closes; ``lower`` and ``upper`` begin at the last close, if it is known."""

    share: float
    opacity: float
    lower: Floats
    upper: Floats

    @property
    def name(self) -> str:
        return f"{self.share:.0%}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything on the picture. Positions count the shown past bars first, then the bars ahead."""

    title: str
    facts: list[tuple[str, str]]
    source: str
    past: pd.DataFrame
    colours: npt.NDArray[np.str_]  # of the past bars
    labels: list[str]
    ahead: npt.NDArray[np.intp]  # positions of the bars ahead
    line: npt.NDArray[np.intp]  # the same, begun at the last past bar: where bands and median are drawn
    median: Floats  # along ``line``
    bands: list[Band]  # along ``line``
    prob_up: Floats | None  # along ``ahead``
    volume: Floats | None  # median volume along ``ahead``; None where the series has none
    decimals: int

    @property
    def size(self) -> int:
        return len(self.labels)

    def price(self, value: float) -> str:
        """A price as the series is quoted."""
        return f"{value:,.{self.decimals}f}"


def scene(forecast: Forecast) -> Scene:
    """Arrange a forecast for drawing."""
    past = pd.DataFrame({"timestamp": pd.DatetimeIndex([]), **{name: [] for name in forecast.columns}})
    if forecast.history is not None:
        shown = min(max(3 * forecast.horizon, FEWEST_PAST), MOST_PAST)
        past = forecast.history.iloc[-shown:].reset_index(drop=True)
    count = len(past)
    ahead = np.arange(count, count + forecast.horizon)
    start = past["close"].to_numpy()[-1:]  # empty where no history is known
    edges = [(1 - share) / 2 for share in BANDS]
    table = forecast.quantile_array([*edges, 0.5, *(1 - edge for edge in edges)])
    closes = [np.concatenate([start, close]) for close in table[:, :, CLOSE]]
    volumes = table[len(BANDS), :, VOLUME]
    return Scene(
        title=series_title(forecast),
        facts=facts(forecast),
        source=_source(forecast.metadata, forecast.num_samples),
        past=past,
        colours=np.where(past["close"] >= past["open"], UP, DOWN),
        labels=_labels(past, forecast.timestamps),
        ahead=ahead,
        line=np.arange(count - len(start), count + forecast.horizon),
        median=closes[len(BANDS)],
        bands=[Band(*item, low, high) for item, low, high in zip(BANDS.items(), closes, closes[len(BANDS) + 1 :])],
        prob_up=np.asarray(forecast.prob_up(), dtype=np.float64) if count else None,
        volume=volumes if volumes.any() or past["volume"].any() else None,
        decimals=price_decimals(past["close"] if count else forecast.median()["close"]),
    )


def series_title(forecast: Forecast) -> str:
    """What is forecast, in a few words."""
    bars = "1 bar" if forecast.horizon == 1 else f"{forecast.horizon} bars"
    return f"{forecast.symbol} · next {bars}" if forecast.symbol else f"The next {bars}"


def facts(forecast: Forecast) -> list[tuple[str, str]]:
    """The few numbers a reader asks for first, as (name, value) pairs, about the end of the horizon."""
    low, middle, high = forecast.quantile_array([0.05, 0.5, 0.95])[:, -1, CLOSE]
    known = forecast.history is not None and not forecast.history.empty
    decimals = price_decimals(forecast.history["close"] if forecast.history is not None and known else [middle])
    median = (f"Median in {forecast.horizon} bars", f"{middle:,.{decimals}f}")
    interval = ("90% interval", f"{low:,.{decimals}f}–{high:,.{decimals}f}")
    if not known:
        return [median, interval]
    last = forecast.last_close
    return [
        ("Last close", f"{last:,.{decimals}f}"),
        (median[0], f"{median[1]} ({middle / last - 1:+.2%})"),
        interval,
        ("P(up)", f"{forecast.prob_up().iloc[-1]:.0%}"),
        ("VaR 95%", f"{forecast.value_at_risk(0.95):.2%}"),
    ]


def price_decimals(prices: Any) -> int:
    """Decimals that show these prices as they are quoted: 2 for 2506.85, 5 for 1.12345; at least 2, at most 8."""
    values = np.asarray(prices, dtype=np.float64)
    exact = (d for d in range(2, 8) if np.all(np.abs(values - values.round(d)) <= 1e-6 * values))
    return next(exact, 8)


def short_number(value: float) -> str:
    """1,500,000 as 1.5M: the reader of a volume wants its size."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _labels(past: pd.DataFrame, future: pd.DatetimeIndex) -> list[str]:
    """One distinct name a bar: the day for daily bars, else the time above the day."""
    times = pd.DatetimeIndex([*past["timestamp"], *future])
    labels = times.strftime("%Y-%m-%d" if times.normalize().is_unique else "%H:%M<br>%Y-%m-%d")
    if not labels.is_unique:  # bars within one minute, or the hour that a clock change repeats
        labels = times.strftime("%H:%M:%S.%f%z<br>%Y-%m-%d")
    return list(labels)


def _source(metadata: Mapping[str, Any], paths: int) -> str:
    """One line on where the numbers come from."""
    words = [f"{paths} sample {'path' if paths == 1 else 'paths'}"]
    for key, word in (("model", "model"), ("seed", "seed"), ("calendar", "calendar"), ("cutoff", "last bar")):
        if metadata.get(key) is not None:
            words.append(f"{word} {str(metadata[key]).removesuffix('T00:00:00').replace('T', ' ')}")
    return " · ".join(words)
