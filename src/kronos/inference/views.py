"""Views of a forecast that take more than a line: its volatility beside that of the past, and what its paths touch.

``Forecast`` has them as methods, whose docstrings say what they give; ``Shown`` leaves out what too few paths cannot
tell. What was asked about touches is one value for every surface, :class:`Touches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.barriers import NEITHER, OUTCOMES, check_barriers, check_price, first_touch, touched
from kronos.bars.calendar.frequency import infer_frequency
from kronos.bars.calendar.year import BarsAYear, bars_a_year
from kronos.bars.cut import up_to
from kronos.errors import ConfigError
from kronos.inference.certainty import ENDS, OF_ENDS, Shown, hit_error, mean_error
from kronos.protocol import FEATURES, NAMELESS, Context
from kronos.volatility import FEWEST, pooled_har

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

Floats = npt.NDArray[np.float64]

UNKNOWN_SIZE: Final = (
    "The size of these bars is unknown, so that no year of them can be counted. Give metadata={'frequency': '1d'} "
    "when building the forecast, or ask for annualized=False."
)

# -- volatility -------------------------------------------------------------------------------------------------------


def context_volatility(history: pd.DataFrame, future: pd.DatetimeIndex) -> Mapping[str, Floats]:
    """What the past alone tells of the volatility ahead, by name: columns beside that of the paths.

    Args:
        history: the context, a bars table (T rows).
        future: (H,) times of the bars ahead.

    Returns:
        (H,) each: volatility of one bar, root mean square over the bars up to each step. ``context`` is the realised
        one of the whole context, sqrt(mean r²) of its close-to-close log returns; ``har`` what a pooled HAR model
        expects after it (:mod:`kronos.volatility`), NaN of a past that is too short for it or holds closes alone.
    """
    returns = np.diff(np.log(history["close"].to_numpy(dtype=np.float64)))
    realised = np.sqrt(np.mean(returns**2)) if len(returns) else np.nan
    expected = np.full(len(future), np.nan)
    if len(history) >= FEWEST and set(FEATURES) <= set(history):
        values = history[list(FEATURES)].to_numpy(dtype=np.float64)
        context = Context.of_times(NAMELESS, pd.DatetimeIndex(history["timestamp"]), values, future)
        variance = pooled_har().realized_variance(context, len(future))
        expected = np.sqrt(variance / np.arange(1, len(future) + 1))
    return {"context": np.full(len(future), realised), "har": expected}


def year_of(forecast: Forecast) -> BarsAYear | None:
    """How many bars a year has, by the forecast's calendar; None where the size of its bars is unknown."""
    times = forecast.timestamps
    if forecast.history is not None and not forecast.history.empty:
        past = pd.DatetimeIndex(forecast.history["timestamp"])
        past = past if past.tz is None or times.tz is None else past.tz_convert(times.tz)
        times = pd.DatetimeIndex([*past, *times])
    frequency = forecast.metadata.get("frequency") or infer_frequency(times)
    return None if frequency is None else bars_a_year(times, forecast.metadata.get("calendar"), str(frequency))


def volatility(forecast: Forecast, annualized: bool, level: float) -> pd.DataFrame:
    """As ``Forecast.volatility``."""
    if not 0 < level < 1:
        raise ConfigError(f"The level of an interval lies between 0 and 1, as 0.9 for 90 %; it is {level}.")
    year = forecast.bars_a_year if annualized else None
    if annualized and year is None:
        raise ConfigError(UNKNOWN_SIZE)
    so_far = forecast.realized_volatility().to_numpy()  # (H, S); needs the last close, so that there is a history
    assert forecast.history is not None
    bars = np.arange(1, forecast.horizon + 1, dtype=np.float64)
    scale = np.sqrt(year.bars / bars if year else np.ones_like(bars))
    lower, median, upper = np.quantile(so_far, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1)
    columns = {"expected": np.sqrt((so_far**2).mean(axis=1)), "median": median, "lower": lower, "upper": upper}
    beside = context_volatility(forecast.history, forecast.timestamps)
    found = columns | {name: each * np.sqrt(bars) for name, each in beside.items()}
    return pd.DataFrame({name: values * scale for name, values in found.items()}, index=forecast.timestamps)


def volatility_document(forecast: Forecast, level: float = 0.9) -> dict[str, Any]:
    """The volatility a year as documents hold it: how the year was counted, then columns by bar."""
    year, shown = forecast.bars_a_year, Shown(forecast).volatility(level)
    counted = {
        "bars_per_year": year.bars if year else None,
        "basis": year.basis if year else None,
        "counted": year.counted if year else None,
    }
    return {**counted, "level": level, **{str(name): shown[name].to_numpy() for name in shown}}


# -- touches ----------------------------------------------------------------------------------------------------------


def prob_touch(forecast: Forecast, price: float) -> pd.DataFrame:
    """Columns ``prob_touch, error`` by timestamp, as ``Forecast.prob_touch``."""
    share, error = _share(forecast, touched(forecast.samples, float(price), forecast.last_close))
    return pd.DataFrame({"prob_touch": share, "error": error}, index=forecast.timestamps)


def _share(forecast: Forecast, hits: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The share of the paths for which something holds, hits (S, …), and its sampling error."""
    share = np.asarray(hits.mean(axis=0))
    return share, hit_error(hits, forecast.mirrored)


def bars_by(forecast: Forecast, by: int | str | pd.Timestamp) -> int:
    """How many bars ahead lie up to a time, or the number itself; refuses what lies outside the horizon."""
    first, last = forecast.timestamps[0], forecast.timestamps[-1]
    if isinstance(by, int | np.integer):
        if not 1 <= by <= forecast.horizon:
            raise ConfigError(f"by counts bars ahead, from 1 to {forecast.horizon}; it is {by}.")
        return int(by)
    kept = int(up_to(str(by), pd.DataFrame({"timestamp": forecast.timestamps})).sum())
    beyond = pd.Timestamp(by).tz_localize(None).normalize() > last.tz_localize(None).normalize()
    if kept == 0 or beyond:
        raise ConfigError(
            f"by is {by}, and the bars ahead go from {first} to {last}; give a time among them, or a longer horizon."
        )
    return kept


def first_touches(forecast: Forecast, take_profit: float, stop_loss: float) -> pd.DataFrame:
    """As ``Forecast.first_touch``."""
    found = first_touch(forecast.samples, float(take_profit), float(stop_loss), forecast.last_close)
    assert forecast.history is not None
    start = pd.Timestamp(forecast.history["timestamp"].iloc[-1])
    seconds = (forecast.timestamps - start).total_seconds().to_numpy()

    def row(ended: npt.NDArray[np.bool_], hit: bool = True) -> tuple[float, float, float, float, float]:
        share, error = map(float, _share(forecast, ended))
        bars = found.bars[ended & hit]
        if not len(bars):
            return share, error, np.nan, np.nan, np.nan
        off = mean_error(found.bars, ended, forecast.mirrored)
        return share, error, float(bars.mean()), off, float(seconds[bars - 1].mean())

    rows = {name: row(found.outcome == place, place != NEITHER) for place, name in enumerate(OUTCOMES)}
    rows["either"] = row(found.outcome != NEITHER)
    table = pd.DataFrame([rows[name] for name in ENDS], pd.Index(ENDS, name="outcome"), list(OF_ENDS))
    table["time"] = pd.to_timedelta(table["time"].round(), unit="s")
    return table


@dataclass(frozen=True)
class Touches:
    """What is asked about touches: the chance of any number of prices, and of two barriers which comes first.

    Raises:
        ConfigError: one barrier without the other.
    """

    prices: tuple[float, ...] = ()
    take_profit: float | None = None
    stop_loss: float | None = None

    def __post_init__(self) -> None:
        if (self.take_profit is None) != (self.stop_loss is None):
            lacking = "take_profit" if self.take_profit is None else "stop_loss"
            option = lacking.replace("_", "-")
            raise ConfigError(f"Which of two barriers is touched first needs both; give {lacking} (--{option}) too.")

    def __bool__(self) -> bool:
        return bool(self.prices) or self.barriers is not None

    @property
    def barriers(self) -> tuple[float, float] | None:
        """(take profit, stop loss), if they are asked about."""
        if self.take_profit is None or self.stop_loss is None:
            return None
        return self.take_profit, self.stop_loss

    def check(self, last_close: float) -> None:
        """Refuse prices that cannot be asked about with this last close, before the work begins."""
        for price in self.prices:
            check_price(price, last_close)
        if self.barriers:
            check_barriers(*self.barriers, last_close)

    def document(self, forecast: Forecast) -> dict[str, Any]:
        """The answers as documents hold them: ``touch``, a list, and ``first_touch``, or null; only what is asked.

        What too few distinct paths cannot tell is null; ``time`` is in seconds.
        """
        content: dict[str, Any] = {}
        if self.prices:
            content["touch"] = list(self._prices(forecast))
        if self.barriers:
            self.check(forecast.last_close)
            table = Shown(forecast).first_touch(*self.barriers)
            table["time"] = table["time"].dt.total_seconds()
            rows = {str(name): dict(zip(OF_ENDS, row, strict=True)) for name, row in zip(ENDS, table.to_numpy())}
            content["first_touch"] = {"take_profit": self.take_profit, "stop_loss": self.stop_loss, **rows}
        return content

    def _prices(self, forecast: Forecast) -> Iterator[dict[str, Any]]:
        for price in self.prices:
            check_price(price, forecast.last_close)
            found = Shown(forecast).prob_touch(price)
            columns = found.to_numpy().T
            yield {"price": price, "prob_touch": columns[0], "error": columns[1]}
