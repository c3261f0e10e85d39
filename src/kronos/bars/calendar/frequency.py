"""Bar sizes: their names, their lengths, and which one a column of timestamps shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from kronos.errors import ConfigError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
_UNSTEADY: Final = 50  # seconds; shorter bars are no minutes
_WORDS: Final = {
    "s": "s sec second seconds", "m": "m t min mins minute minutes", "h": "h hr hour hours", "d": "d day days daily b",
    "w": "w wk week weeks weekly", "mo": "mo mon month months monthly me ms",
}  # fmt: skip
_UNITS: Final = {word: unit for unit, words in _WORDS.items() for word in words.split()}


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
        return pd.Timedelta(seconds=self.count * _SECONDS[self.unit])


def parse_frequency(text: str) -> BarSize:
    """Read a bar size: ``"5m"``, ``"5min"``, ``"1h"``, ``"60min"``, ``"1d"``, ``"D"``, ``"1w"``, ``"1mo"``.

    A capital ``M`` alone means months (as on exchanges), a small one minutes.

    Raises:
        ConfigError: when the text is no bar size.
    """
    match = re.fullmatch(r"\s*(\d{0,6})\s*([A-Za-z]+)(?:-[A-Za-z]{3})?\s*", str(text))
    number, word = match.groups() if match else ("", "")
    unit = "mo" if word == "M" else _UNITS.get(word.lower())
    if unit is None or (number and int(number) == 0):
        raise ConfigError(f"'{text}' is not a bar size. Write a number and a unit: 1m, 5m, 15m, 1h, 4h, 1d, 1w, 1mo.")
    return _canonical(int(number or 1), unit)


def _canonical(count: int, unit: str) -> BarSize:
    for small, factor, large in (("s", 60, "m"), ("m", 60, "h"), ("h", 24, "d"), ("d", 7, "w")):
        if unit == small and count % factor == 0:
            count, unit = count // factor, large
    return BarSize(count, unit)


def on_the_minute(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Times that all lie within two seconds of a whole minute, moved onto it; others as they are."""
    seconds = times.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    off = (seconds + 30) // 60 * 60 - seconds
    return times + pd.to_timedelta(off, unit="s") if off.any() and (np.abs(off) <= 2).all() else times


def infer_frequency(times: pd.DatetimeIndex) -> BarSize | None:
    """The bar size that sorted, unique timestamps show, or None when they are too few or too irregular.

    The commonest step counts, not the first one: gaps at nights, weekends and holidays are usual.
    Daily, weekly and monthly bars are recognised through holidays and daylight saving.
    """
    # Wall time, so that a daily bar stays 24 hours long when clocks change.
    steps: np.ndarray = np.diff(times.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64))
    if len(steps) > 1000:  # counting a million steps takes as long as reading them, and one is usually most of them
        likely = int(np.median(steps[:1000]))
        if 0 < likely < 86400 - 3600 and np.mean(steps == likely) > 0.5:
            return _canonical(likely, "s")
    steps = steps[steps > 0]
    if len(steps) == 0:
        return None
    counts = pd.Series(steps).value_counts().sort_index()  # of steps as common as each other the smallest
    step, count = int(counts.index[int(counts.argmax())]), int(counts.max())
    if step % 60 and _UNSTEADY < step < 86400 - 3600 and (times != (whole := on_the_minute(times))).any():
        return infer_frequency(whole.unique())  # bars that begin with the first trade of their minute
    if step < 86400 - 3600:
        # Other steps are gaps, which leave out whole bars, not times at which something happened.
        share, whole = count / len(steps), np.mean(steps % step == 0) >= 0.9
        usual = (count >= 2 or whole) if share >= 0.3 else (share >= 0.1 and count >= 2 and whole)
        return _canonical(step, "s") if usual else None
    days = steps / 86400
    middle = float(np.median(days))
    usual_days = ((1, "d", 0.0, 2.5), (1, "w", 5.5, 8.5), (1, "mo", 27, 32), (3, "mo", 88, 93), (12, "mo", 360, 368))
    for number, unit, low, high in usual_days:
        if low <= middle <= high:
            return BarSize(number, unit)
    nearest = round(middle)
    return _canonical(nearest, "d") if np.mean(np.abs(days - nearest) < 0.1) > 0.9 else None
