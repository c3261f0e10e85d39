"""Volatility and touches as people read them: a line, and small tables of (names of the columns, rows of texts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from kronos.inference.certainty import OF_PATHS, Shown
from kronos.inference.charts import price_decimals, share_text

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

Rows = tuple[list[str], list[list[str]]]

_ENDS: Final = {
    "profit": "take profit first",
    "loss": "stop loss first",
    "both": "both in one bar",
    "either": "one of them",
    "neither": "neither",
}


def steps(horizon: int) -> list[int]:
    """1, 2, 4 … and the horizon: the bars ahead that a short table shows."""
    return [*(2**k for k in range(horizon.bit_length()) if 2**k < horizon), horizon]


def volatility_line(forecast: Forecast) -> str | None:
    """Volatility over the horizon in a sentence, with interval and the context's own; None where it is not known."""
    year, shown = forecast.bars_a_year, Shown(forecast)
    if year is None or not (shown.enough and shown.known):
        return None
    table = shown.volatility()
    end = table.iloc[-1]
    past = "".join(f", {_named(name)} {_percent(end[name])}" for name in _beside(table))
    interval = _between(end["lower"], end["upper"])
    return f"Volatility a year {end['expected']:.1%} (90% interval {interval}){past}, by {year.counted}."


def cone(forecast: Forecast) -> Rows:
    """The cone of volatility, a year's: a row for 1, 2, 4 … bars ahead."""
    shown = Shown(forecast).volatility()
    beside = _beside(shown)
    names = ["Bars", "By", "Expected", "Median", "90% interval", *map(_named, beside)]
    rows = []
    for step, when in zip(steps(forecast.horizon), _times(forecast), strict=True):
        row = shown.iloc[step - 1]
        texts = [_percent(row["expected"]), _percent(row["median"]), _between(row["lower"], row["upper"])]
        rows.append([str(step), when, *texts, *(_percent(row[name]) for name in beside)])
    return names, rows


def touch_chances(forecast: Forecast, prices: Sequence[float]) -> Rows:
    """Chances that prices are touched, a column each: a row for 1, 2, 4 … bars ahead."""
    last, decimals = forecast.last_close, price_decimals([forecast.last_close, *prices])
    names = [f"{price:,.{decimals}f} ({price / last - 1:+.1%})" for price in prices]
    chances = [Shown(forecast).prob_touch(price).to_numpy() for price in prices]
    rows = [
        [str(step), when, *(share_text(*found[step - 1]) for found in chances)]
        for step, when in zip(steps(forecast.horizon), _times(forecast), strict=True)
    ]
    return ["Bars", "By", *names], rows


def first_touch_chances(forecast: Forecast, take_profit: float, stop_loss: float) -> Rows:
    """Which of two prices is touched first, with what chance and when: a row an outcome."""
    found = Shown(forecast).first_touch(take_profit, stop_loss)
    rows = []
    for (chance, error, bars, off, time), text in zip(found.itertuples(index=False), _ENDS.values(), strict=True):
        rows.append([text, share_text(chance, error), _bars(bars, off), _span(time)])
    return ["First touched", "Chance", "After bars", "Time"], rows


def _beside(table: pd.DataFrame) -> list[str]:
    """The columns of a cone that stand beside those of the paths."""
    return [str(name) for name in table if name not in OF_PATHS]


def _named(column: str) -> str:
    return column.upper() if len(column) < 4 else column.capitalize()  # HAR, but Context


def _times(forecast: Forecast) -> list[str]:
    times = forecast.timestamps
    wall = times.tz_localize(None)  # zones that skip a midnight have none to compare with
    pattern = "%Y-%m-%d" if (wall == wall.normalize()).all() else "%Y-%m-%d %H:%M"
    return [times[step - 1].strftime(pattern) for step in steps(forecast.horizon)]


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"


def _between(lower: float, upper: float) -> str:
    return "–" if np.isnan(lower) else f"{lower:.1%}–{upper:.1%}"


def _bars(mean: float, error: float) -> str:
    return "–" if np.isnan(mean) else f"{mean:.1f}" + ("" if np.isnan(error) else f" ± {error:.1f}")


def _span(time: pd.Timedelta) -> str:
    """2 d 6 h, 3 h 20 min: what a span of a calendar is read as."""
    if pd.isna(time):
        return "–"
    minutes = round(time.total_seconds() / 60)
    days, hours = divmod(round(minutes / 60), 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
