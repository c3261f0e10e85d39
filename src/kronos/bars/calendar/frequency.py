"""Bar sizes: their names, their lengths, and which one a column of timestamps shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from kronos.errors import ConfigError

_MINUTES: Final = {"m": 1, "h": 60, "d": 1440, "w": 10080}
_WORDS: Final = {
    "s": "s", "sec": "s", "second": "s", "seconds": "s",
    "m": "m", "t": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "h": "h", "hr": "h", "hour": "h", "hours": "h",
    "d": "d", "day": "d", "days": "d", "daily": "d", "b": "d",
    "w": "w", "wk": "w", "week": "w", "weeks": "w", "weekly": "w",
    "mo": "mo", "mon": "mo", "month": "mo", "months": "mo", "monthly": "mo", "me": "mo", "ms": "mo",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class BarSize:
    """The length of a bar: ``count`` of ``unit``, where unit is ``s m h d w`` or ``mo``.

    ``str(size)`` is the canonical name: ``"5m"``, ``"1h"``, ``"1d"``, ``"1w"``, ``"1mo"``.
    """

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def intraday(self) -> bool:
        """True below one day."""
        return self.unit in "smh"

    @property
    def delta(self) -> pd.Timedelta:
        """The fixed length; a month counts as 30 days (only for comparisons)."""
        if self.unit == "s":
            return pd.Timedelta(seconds=self.count)
        if self.unit == "mo":
            return pd.Timedelta(days=30 * self.count)
        return pd.Timedelta(minutes=self.count * _MINUTES[self.unit])


def parse_frequency(text: str | BarSize | pd.Timedelta) -> BarSize:
    """Read a bar size: ``"5m"``, ``"5min"``, ``"1h"``, ``"60min"``, ``"1d"``, ``"D"``, ``"1w"``, ``"1mo"``.

    A capital ``M`` alone means months (as on exchanges), a small one minutes.

    Raises:
        ConfigError: when the text is no bar size.
    """
    if isinstance(text, BarSize):
        return text
    if isinstance(text, pd.Timedelta):
        return from_delta(text)
    match = re.fullmatch(r"\s*(\d{0,6})\s*([A-Za-z]+)(?:-[A-Za-z]{3})?\s*", str(text))
    unit = None
    if match:
        word = match[2]
        unit = "mo" if word == "M" else _WORDS.get(word.lower())
    if match is None or unit is None or (match[1] and int(match[1]) == 0):
        raise ConfigError(f"'{text}' is not a bar size. Write a number and a unit: 1m, 5m, 15m, 1h, 4h, 1d, 1w, 1mo.")
    return _canonical(int(match[1] or 1), unit)


def from_delta(delta: pd.Timedelta) -> BarSize:
    """The bar size of a fixed length of time."""
    seconds = delta.total_seconds()
    if seconds <= 0 or seconds != int(seconds):
        raise ConfigError(f"A bar of {delta} is no bar size. It needs a positive whole number of seconds.")
    return _canonical(int(seconds), "s")


def _canonical(count: int, unit: str) -> BarSize:
    for small, factor, large in (("s", 60, "m"), ("m", 60, "h"), ("h", 24, "d"), ("d", 7, "w")):
        if unit == small and count % factor == 0:
            count, unit = count // factor, large
    return BarSize(count, unit)


def infer_frequency(times: pd.DatetimeIndex) -> BarSize | None:
    """The bar size that sorted, unique timestamps show, or None when they are too few or too irregular.

    The commonest step counts, not the first one: gaps at nights, weekends and holidays are usual.
    Daily, weekly and monthly bars are recognised through holidays and daylight saving.
    """
    if len(times) < 2:
        return None
    # Wall time, so that a daily bar stays 24 hours long when clocks change.
    wall = times.tz_localize(None)
    steps = np.diff(wall.to_numpy().astype("datetime64[s]").astype(np.int64))
    if len(steps) > 1000:  # where one step makes up most of the column, it is the commonest
        likely = int(np.median(steps[:1000]))
        if 0 < likely < 86400 - 3600 and (steps == likely).mean() > 0.5:
            return _canonical(likely, "s")
    steps = steps[steps > 0]
    if len(steps) == 0:
        return None
    values, counts = np.unique(steps, return_counts=True)
    step, count = int(values[counts.argmax()]), int(counts.max())
    if step < 86400 - 3600:
        return _canonical(step, "s") if _is_usual(step, count, steps) else None
    return _from_days(steps / 86400)


def _is_usual(step: int, count: int, steps: np.ndarray) -> bool:
    """True when the commonest step is a bar size: others are gaps, not times at which something happened."""
    gaps_fit = bool(np.mean(steps % step == 0) >= 0.9)  # a gap leaves out whole bars
    share = count / len(steps)
    if share >= 0.3:
        return count >= 2 or gaps_fit
    return share >= 0.1 and count >= 2 and gaps_fit


def _from_days(days: np.ndarray) -> BarSize | None:
    middle = float(np.median(days))
    if middle <= 2.5:
        return BarSize(1, "d")
    if 5.5 <= middle <= 8.5:
        return BarSize(1, "w")
    for months, low, high in ((1, 27, 32), (3, 88, 93), (12, 360, 368)):
        if low <= middle <= high:
            return BarSize(months, "mo")
    whole = round(middle)
    return _canonical(whole, "d") if np.mean(np.abs(days - whole) < 0.1) > 0.9 else None
