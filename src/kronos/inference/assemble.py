"""One series on its way to the engine and back: a table is checked and cut, sampled paths become a ``Forecast``.

Of our checkpoints the width of the intervals is calibrated (:func:`widen`); of published ones, which predict the six
features of a bar independently, bars are made valid (:func:`repair_bars`). Paths without a direction get their
mirrors last (:mod:`kronos.inference.mirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.adjust import mend_breaks
from kronos.bars.arrays import time_features
from kronos.bars.calendar import future_times
from kronos.bars.calendar.future import FutureTimes
from kronos.bars.calendar.markets import RULES
from kronos.bars.filler import flat_filler
from kronos.bars.reading import as_bars, read_bars
from kronos.bars.reading.tables import by_symbol
from kronos.bars.report import for_table
from kronos.bars.schema import to_table
from kronos.errors import DataError, KronosError
from kronos.inference.certainty import Shown, beyond_notes
from kronos.inference.engine import DecodeRequest, series_at_once
from kronos.inference.forecast import Forecast
from kronos.inference.mirror import with_mirrors
from kronos.inference.sampling import series_key, uniforms
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import Monitor
from kronos.protocol import CLOSE, FEATURES, HIGH, LOW, NAMELESS, VOLUME, Context, width_at
from kronos.spec import SAMPLING, ForecastSpec
from kronos.volatility import log_levels, pooled_har, usual_variance

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

Floats = npt.NDArray[np.float64]

CALENDAR_BARS = 4096  # enough history to recognise a calendar by; more only costs time
_PRICES = slice(CLOSE + 1)
_PRICE_FLOOR = 1e-3  # of the last close, for prices that are not positive
_MUCH_FILLER = 0.2  # of the context
_LEVEL_PATHS = 50  # tell how volatile the model's paths are; more would move a forecast by less than it can know
_STILL = 2e-6  # no market moves as little as this a bar: the closes stand, or drift by the same step each time
_STILL_SHARE = 0.05  # of a bar's own range: closes that move less than that say nothing about the risk


@dataclass(frozen=True)
class PastBars:
    """The context of one series, cut to what the model reads, and the times by which its calendar is recognised."""

    symbol: str | None
    bars: pd.DataFrame
    values: Floats  # (T, 6) in the order of ``FEATURES``
    times: pd.DatetimeIndex  # (T,)
    history: pd.DatetimeIndex  # the same, begun earlier
    notes: tuple[str, ...] = ()  # of breaks and filler in the bars


@dataclass(frozen=True)
class SeriesJob:
    """One series under way: ``state`` of the bar transform turns the engine's answer to the request into bars."""

    past: PastBars
    future: FutureTimes
    request: DecodeRequest
    state: Any


# -- from tables to requests ------------------------------------------------------------------------------------------


def prepare(
    predictor: KronosPredictor,
    table: Any,
    spec: ForecastSpec,
    settings: DecodeSettings,
    given: Any = None,
    name: str | None = None,
) -> SeriesJob:
    """A caller's table as the engine takes it; ``name``: of one of many series.

    ``given``: the times to come, alone or as :func:`~kronos.bars.calendar.future_times` found them.
    """
    lost = predictor.transform.lost
    past = past_bars(table, 2 + lost, (spec.context_length or predictor.max_context) + lost, name)
    if given is None:
        future = future_times(past.history, spec.horizon, spec.calendar, spec.frequency, spec.stamp, past.symbol)
    else:
        future = given if isinstance(given, FutureTimes) else _given_times(given, spec.horizon, past.times[-1])
    past = mended(past, spec, future.calendar, 2 + lost)
    request, state = make_request(predictor, past.values, past.times, future.timestamps, spec, name, settings)
    return SeriesJob(past, future, request, state)


def _given_times(given: Any, horizon: int, cutoff: pd.Timestamp) -> FutureTimes:
    """A caller's times to come, one a bar after the cutoff."""
    times = as_times(given, "future")
    if len(times) != horizon:
        raise DataError(f"future has {len(times)} timestamps for a horizon of {horizon} bars; give one a bar")
    if (times.tz is None) != (cutoff.tz is None):
        raise DataError("future and the bars must both have a time zone, or neither")
    if not times.is_monotonic_increasing or not times.is_unique or times[0] <= cutoff:
        raise DataError(f"future must increase and start after the last bar ({cutoff})")
    return FutureTimes(times, "given", "", None, np.zeros(horizon, dtype=bool))


def past_bars(table: Any, least: int, most: int | None = None, name: str | None = None) -> PastBars:
    """Checks a table of one symbol, refuses fewer than ``least`` bars, and keeps the last ``most``.

    Args:
        name: what to call the series, over what the table says.
    """
    bars = as_bars(table)
    if bars is None:
        try:
            bars = read_bars(table)
        except DataError as error:
            raise DataError(for_table(str(error))) from error
    symbols: list[object] = list(bars["symbol"].unique()) if "symbol" in bars.columns else []
    if len(symbols) > 1:
        raise DataError(
            f"the table holds {len(symbols)} symbols ({', '.join(map(str, symbols[:3]))} …); forecast one of them, "
            "or all with forecast_many"
        )
    symbol = name if name is not None else str(symbols[0]) if symbols else None
    if len(bars) < least:
        label = f"'{symbol}' has" if symbol else "the table has"
        count = f"{len(bars)} bar{'s' * (len(bars) != 1)}"
        raise DataError(f"{label} {count}; this model needs at least {least} as context")
    times = pd.DatetimeIndex(bars["timestamp"])
    if most is not None and len(bars) > most:
        bars = bars.iloc[-most:].reset_index(drop=True)
    values = bars[list(FEATURES)].to_numpy(dtype=np.float64)
    return PastBars(symbol, bars, values, times[-len(bars) :], times[-CALENDAR_BARS:])


def mended(past: PastBars, spec: ForecastSpec, calendar: str, least: int) -> PastBars:
    """A context whose breaks are told, and mended as far as the spec asks."""
    known = None if calendar in (*RULES, "given") else calendar
    symbol = str(past.bars["symbol"].iloc[0]) if "symbol" in past.bars.columns else past.symbol
    bars, notes = mend_breaks(past.bars, spec.adjust, symbol, known)
    if len(bars) < least:
        raise DataError(
            f"{len(bars)} bars lie behind the last break, on {bars['timestamp'].iloc[0]}; this model needs at least "
            f"{least} as context. Leave out adjust='cut' (--adjust cut), or divide the prices before by a factor"
        )
    filler = float(flat_filler(bars).mean())
    if filler >= _MUCH_FILLER:
        notes.append(
            f"{filler:.0%} of the context repeats the close before and trades nothing: filler of a closed market, from "
            "which the paths look calmer than the market is; leave these bars out (kronos bars clean)"
        )
    if not notes:
        return past
    values = bars[list(FEATURES)].to_numpy(dtype=np.float64)
    return replace(past, bars=bars, values=values, times=past.times[-len(bars) :], notes=tuple(notes))


def make_request(
    predictor: KronosPredictor,
    values: Floats,
    times: pd.DatetimeIndex,
    future: pd.DatetimeIndex,
    spec: ForecastSpec,
    name: str | None = None,
    settings: DecodeSettings | None = None,
) -> tuple[DecodeRequest, Any]:
    """A request for the engine, and the bar transform's state to turn its answer into bars.

    The bars (T, 6) of the context set the scale; times are on the wall clock; ``name`` is for errors. Without
    ``settings`` all paths are sampled.
    """
    transform = predictor.transform
    if len(values) <= transform.lost:
        raise DataError(f"the context has {len(values)} bars; this model needs at least {transform.lost + 1}")
    state = transform.fit(values, clip=predictor.clip)
    stamps = np.concatenate([time_features(times)[transform.lost :], time_features(future)])
    key = series_key(values[-predictor.max_context - transform.lost :, CLOSE])
    mirrored = settings is not None and settings.mirrored
    paths = spec.num_samples if settings is None else settings.sampled(spec.num_samples)
    draws = uniforms(spec.seed, [key], paths, spec.horizon)[0]
    return DecodeRequest(transform.encode(values, state), stamps, draws, name, mirrored), state


def as_times(given: Any, name: str) -> pd.DatetimeIndex:
    """A Series, index, array or list of times as an index; what is no time is refused with its position."""
    try:
        times = pd.DatetimeIndex(pd.Series(given).to_numpy() if not isinstance(given, pd.Series | pd.Index) else given)
    except (TypeError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{name} holds something that is no timestamp: {str(error)[:120]}") from error
    if times.hasnans:
        raise DataError(f"{name} has no timestamp at position {int(times.isna().argmax())}")
    return times


def entries_of(source: Any, future: Any) -> list[tuple[str, Any, Any]]:
    """(name, table, future times if given) of each series of a mapping or of a table of many symbols."""
    if isinstance(source, Mapping):
        tables = {str(name): table for name, table in source.items()}
    else:
        values = isinstance(source, list | tuple | np.ndarray)
        frame = read_bars(source) if values else to_table(source)
        if frame.columns.nlevels > 1:  # a column for each price and symbol
            frame = read_bars(frame)
        found = by_symbol(frame)
        if found is None:
            raise DataError(
                "forecast_many takes a mapping {symbol: bars} or one long table with a symbol in a column or in its "
                "index; this table has none. For one series use forecast"
            )
        tables = found
    if not tables:
        raise DataError("there is no series to forecast: the mapping or table is empty")
    if future is None:
        return [(name, table, None) for name, table in tables.items()]
    if not isinstance(future, Mapping):
        raise DataError(f"future is a {type(future).__name__}; forecast_many takes a mapping {{symbol: timestamps}}")
    times = {str(name): entry for name, entry in future.items()}
    if lacking := sorted(name for name in tables if times.get(name) is None):
        raise DataError(f"future has no timestamps for series '{lacking[0]}'; give all series theirs, or none")
    if unknown := sorted(times.keys() - tables.keys()):
        raise DataError(f"future has timestamps for '{unknown[0]}', which is none of the series")
    return [(name, table, times[name]) for name, table in tables.items()]


# -- from paths to a forecast -----------------------------------------------------------------------------------------


def forecasts(
    predictor: KronosPredictor,
    jobs: Sequence[SeriesJob],
    spec: ForecastSpec,
    settings: DecodeSettings,
    monitor: Monitor,
) -> list[Forecast]:
    """Samples every series and makes its forecast."""
    found = predictor.engine.run([job.request for job in jobs], settings, monitor)
    return [assemble_forecast(predictor, job, paths, spec, settings) for job, paths in zip(jobs, found, strict=True)]


def forecasts_of_many(
    predictor: KronosPredictor,
    entries: Sequence[tuple[str, Any, Any]],
    spec: ForecastSpec,
    settings: DecodeSettings,
    monitor: Monitor,
    on_error: Callable[[str, KronosError], None] | None,
) -> Iterator[tuple[str, Forecast]]:
    """The forecasts of (name, table, times), as many series at once as fit in memory."""
    size = series_at_once(spec.num_samples, spec.horizon)
    for first in range(0, len(entries), size):
        jobs = []
        for name, table, times in entries[first : first + size]:
            try:
                jobs.append(prepare(predictor, table, spec, settings, times, name))
            except KronosError as error:
                error.args = (f"series '{name}': {error}",)
                if on_error is None:
                    raise
                on_error(name, error)
        for forecast in forecasts(predictor, jobs, spec, settings, monitor):
            yield str(forecast.symbol), forecast


def assemble_forecast(
    predictor: KronosPredictor,
    job: SeriesJob,
    features: npt.NDArray[np.float32],
    spec: ForecastSpec,
    settings: DecodeSettings,
) -> Forecast:
    """The forecast of one series from its sampled features (S, H, F), of mirrored paths half as many."""
    transform, past, future = predictor.transform, job.past, job.future
    bars, last_close = transform.decode(features, job.state), float(past.values[-1, CLOSE])
    notes = [*past.notes, *future.notes]
    if transform.takes_moves:
        sigma, reach = float(job.state.sigma), float(np.median(np.log(past.values[:, HIGH] / past.values[:, LOW])))
        if sigma < max(_STILL, _STILL_SHARE * reach):
            notes.insert(
                0,
                f"the closes of the context hardly vary from bar to bar (by {sigma:.1g}, the bars' own range is "
                f"{reach:.1g}), so the paths are far too certain; do not read risk from them, and check the bars or "
                "give a longer context",
            )
    read, config = len(past.values) - transform.lost, predictor.model.config
    size = read, spec.horizon, predictor.max_context
    notes += beyond_notes(predictor.name, *size, config.judged, predictor.loaded_by)
    if estimated := int(np.count_nonzero(future.estimated)):
        notes.append(f"{estimated} timestamps lie beyond the calendar's end and are estimated")
    drawn = {name: getattr(settings, name) for name in SAMPLING}
    metadata = {
        "model": predictor.name,
        "revision": predictor.revision,
        "weights": predictor.fingerprint,
        "seed": spec.seed,
        "settings": {**drawn, "num_samples": spec.num_samples, "window_stride": settings.window_stride},
        "cutoff": past.times[-1].isoformat(),
        "horizon": spec.horizon,
        "calendar": future.calendar,
        "frequency": future.frequency or None,
        "context_length": read,
        "estimated_timestamps": estimated,
        "warnings": notes,
    }
    width = (config.calibration or {}).get("width")
    if not transform.takes_moves:
        bars, metadata["repaired_bars"] = repair_bars(bars, last_close)
    elif width is not None:
        bars = widen(bars, last_close, width_at(width, spec.horizon))
    if settings.har_weight > 0 and not settings.greedy:  # the likeliest path alone is calm because it is likely
        context = Context.of_times(past.symbol or NAMELESS, past.times, past.values, future.timestamps)
        bars = widen(bars, last_close, har_factors(bars, context, settings.har_weight))
    if settings.mirrored:
        bars = with_mirrors(bars, last_close, spec.num_samples)
    found = Forecast(bars.astype(np.float32), future.timestamps, metadata, past.bars, past.symbol)
    notes[:] = Shown(found).notes  # says also where the paths are too few
    return found


def widen(bars: Floats, last_close: float, factors: Floats) -> Floats:
    """Paths (S, H, 6) with the log distance of every price from ``last_close`` multiplied by the bar's factor (H,).

    The map is increasing, so a bar stays valid and the paths keep their order; it is scale-free.
    """
    out = bars.copy()
    out[..., _PRICES] = last_close * (bars[..., _PRICES] / last_close) ** factors[:, None]
    return out


def har_factors(bars: Floats, context: Context, weight: float) -> Floats:
    """(H,) factors that bring the volatility of paths (S, H, 6) towards that of a pooled HAR model, by ``weight``.

    Volatility is the mean over the paths of ln of the mean squared move up to each bar; the first ``_LEVEL_PATHS``
    tell it, so that more paths leave the earlier ones as they are. Of a context that stands still or is too short for
    HAR the paths stay as they are.
    """
    usual = usual_variance(context)
    if not usual > 0:
        return np.ones(bars.shape[1])
    own = log_levels(np.log(bars[:_LEVEL_PATHS, :, CLOSE] / context.last_close), usual)
    missing = pooled_har().log_ratios(context, bars.shape[1]) - own
    return np.asarray(np.exp(weight * np.where(np.isnan(missing), 0.0, missing) / 2))


def repair_bars(bars: Floats, last_close: float) -> tuple[Floats, int]:
    """Bars (S, H, 6) that obey ``0 < low <= open, close <= high``, ``volume, amount >= 0``; how many were changed.

    A price at or below zero becomes a thousandth of the last close, which is positive; then high is raised to the
    highest and low lowered to the lowest of the bar's prices; negative volume and amount become 0. Open and close are
    never moved otherwise, and a valid bar is left as it is.
    """
    out = bars.copy()
    prices, traded = out[..., _PRICES], out[..., VOLUME:]
    np.copyto(prices, _PRICE_FLOOR * last_close, where=~(prices > 0))
    out[..., HIGH], out[..., LOW] = prices.max(-1), prices.min(-1)
    np.maximum(traded, 0.0, out=traded)
    return out, int((out != bars).any(-1).sum())
