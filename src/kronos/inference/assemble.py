"""From a checked series to the engine's request, and from sampled paths to a ``Forecast``.

*Width.* A trained model's intervals may cover too little or too much. Factors fitted on past forecasts correct that
without touching the order of the paths: with C the last close of the context and p any price of a path at bar h,

    p  →  C · (p / C) ** factor(h)

so every log distance from where the market stands is multiplied by ``factor(h)``. The map is increasing, so a bar
stays valid; it is scale-free; and it looks at no other path. In a checkpoint's config:
``"calibration": {"width": {"horizon": [1, 2, 4, …], "factor": [1.1, 1.08, …]}}``.

*Repair.* Published checkpoints predict the six features of a bar independently, so a decoded bar may have its close
above its high, or a negative volume. :func:`repair_bars` is the smallest change that makes each bar valid. Our
checkpoints need none: their features cannot express an invalid bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.arrays import time_features
from kronos.bars.transform import BarTransform
from kronos.errors import DataError
from kronos.inference.engine import DecodeRequest
from kronos.inference.forecast import Forecast
from kronos.inference.inputs import ForecastTimes, PastBars
from kronos.inference.sampling import series_key, uniforms
from kronos.inference.settings import DecodeSettings
from kronos.model.config import check_width
from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, VOLUME
from kronos.spec import ForecastSpec

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

Floats = npt.NDArray[np.float64]

_PRICES = slice(CLOSE + 1)
_PRICE_FLOOR = 1e-3  # of the last close, for prices that are not positive
_STILL = 2e-6  # no market moves as little as this a bar: the closes stand, or drift by the same step each time
_STILL_SHARE = 0.05  # of a bar's own range: closes that move less than that say nothing about the risk


def width_factors(width: Mapping[str, Any], horizon: int) -> Floats:
    """(H,) the factor of each bar ahead: linear in ln h between the fitted horizons, constant beyond them.

    Raises:
        ConfigError: the calibration is not two lists of one length, horizons increasing from 1 or more, factors
            positive.
    """
    check_width(width)
    at, factor = (np.asarray(width[name], dtype=np.float64) for name in ("horizon", "factor"))
    return np.interp(np.log(np.arange(1, horizon + 1)), np.log(at), factor)


def widen(bars: Floats, last_close: float, factors: Floats) -> Floats:
    """Paths (S, H, 6) with the log distance of every price from ``last_close`` multiplied by the bar's factor (H,)."""
    out = bars.copy()
    out[..., _PRICES] = last_close * (bars[..., _PRICES] / last_close) ** factors[:, None]
    return out


def repair_bars(bars: Floats, last_close: float) -> tuple[Floats, int]:
    """Makes every bar obey ``0 < low <= open, close <= high``, ``volume >= 0`` and ``amount >= 0``.

    A price at or below zero becomes a thousandth of the last close; then high is raised to the highest and low
    lowered to the lowest of the bar's prices; negative volume and amount become 0. Open and close are never moved
    otherwise, and a valid bar is left as it is.

    Args:
        bars: (S, H, 6).
        last_close: of the context, positive.

    Returns:
        The repaired bars, and how many of them were changed.
    """
    out = bars.copy()
    prices = out[..., _PRICES]
    np.copyto(prices, _PRICE_FLOOR * last_close, where=~(prices > 0))
    out[..., HIGH], out[..., LOW] = prices.max(-1), prices.min(-1)
    traded = slice(VOLUME, AMOUNT + 1)
    out[..., traded] = np.maximum(out[..., traded], 0.0)
    return out, int((out != bars).any(-1).sum())


def make_request(
    predictor: KronosPredictor,
    values: Floats,
    times: pd.DatetimeIndex,
    future: pd.DatetimeIndex,
    spec: ForecastSpec,
    name: str | None = None,
) -> tuple[DecodeRequest, Any]:
    """A request for the engine, and the bar transform's state to turn its answer into bars.

    Args:
        values: (T, 6) bars of the context, whose statistics set the scale.
        times, future: wall-clock times of the context's bars and of the horizon's.
        name: for errors about one of many series.

    Raises:
        DataError: too few bars.
    """
    transform = predictor.transform
    if len(values) <= transform.lost:
        raise DataError(f"the context has {len(values)} bars; this model needs at least {transform.lost + 1}")
    state = transform.fit(values, clip=predictor.clip)
    stamps = np.concatenate([time_features(times)[transform.lost :], time_features(future)])
    key = series_key(values[-predictor.max_context - transform.lost :, CLOSE])
    draws = uniforms(spec.seed, [key], spec.num_samples, spec.horizon)[0]
    return DecodeRequest(transform.encode(values, state), stamps, draws, name), state


def assemble_forecast(
    predictor: KronosPredictor,
    bars: Floats,
    past: PastBars,
    future: ForecastTimes,
    spec: ForecastSpec,
    settings: DecodeSettings,
    state: Any,
) -> Forecast:
    """The forecast of one series from its decoded paths (S, H, 6).

    Args:
        state: of the bar transform, fitted to the context.
    """
    notes = [*still_notes(predictor.transform, past.values, state), *future.notes]
    if future.estimated:
        notes.append(f"{future.estimated} timestamps lie beyond the calendar's end and are estimated")
    metadata = {
        "model": predictor.name,
        "revision": predictor.revision,
        "seed": spec.seed,
        "settings": {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "num_samples": spec.num_samples,
            "window_stride": settings.window_stride,
        },
        "cutoff": past.times[-1].isoformat(),
        "horizon": spec.horizon,
        "calendar": future.calendar,
        "frequency": future.frequency,
        "context_length": len(past.bars),
        "estimated_timestamps": future.estimated,
        "warnings": notes,
    }
    last_close = float(past.values[-1, CLOSE])
    width = (predictor.model.config.calibration or {}).get("width")
    if not predictor.transform.takes_moves:
        bars, metadata["repaired_bars"] = repair_bars(bars, last_close)
    elif width is not None:
        bars = widen(bars, last_close, width_factors(width, spec.horizon))
    return Forecast(bars.astype(np.float32), future.times, metadata, past.bars, past.symbol)


def still_notes(transform: BarTransform, values: Floats, state: Any) -> list[str]:
    """A warning where the closes of the context (T, 6) vary too little to measure the risk by."""
    if not transform.takes_moves:
        return []
    sigma, reach = float(state.sigma), float(np.median(np.log(values[:, HIGH] / values[:, LOW])))
    if sigma >= max(_STILL, _STILL_SHARE * reach):
        return []
    return [
        f"the closes of the context hardly vary from bar to bar (by {sigma:.1g}, the bars' own range is {reach:.1g}), "
        "so the paths are far too certain; do not read risk from them, and check the bars or give a longer context"
    ]
