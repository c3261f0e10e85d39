"""From sampled bars to a ``Forecast``: calibrated or repaired, with a record of where it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.inference.forecast import Forecast
from kronos.inference.plan import Plan
from kronos.inference.repair import repair_bars
from kronos.inference.series import Future, Series
from kronos.inference.width import widen, width_factors
from kronos.model import KronosConfig


def assemble_forecast(
    bars: npt.NDArray[np.float64],
    series: Series,
    future: Future,
    plan: Plan,
    config: KronosConfig,
    *,
    always_valid: bool,
    model: str,
    revision: str | None,
) -> Forecast:
    """The forecast of one series from its decoded paths (S, H, 6).

    Where the bar transform makes valid bars always, the checkpoint's calibration sets their width. Others are repaired.
    """
    metadata = describe(series, future, plan, model, revision)
    if always_valid:
        width = (config.calibration or {}).get("width")
        if width is not None:
            bars = widen(bars, series.last_close, width_factors(width, plan.horizon))
    else:
        bars, metadata["repaired_bars"] = repair_bars(bars, series.last_close)
    return Forecast(bars.astype(np.float32), future.times, metadata, series.bars, series.symbol)


def describe(series: Series, future: Future, plan: Plan, model: str, revision: str | None) -> dict[str, Any]:
    """What to know about a forecast besides its numbers; plain types only."""
    notes = [*series.warnings, *future.notes]
    if future.estimated:
        notes.append(f"{future.estimated} timestamps lie beyond the calendar's end and are estimated")
    return {
        "model": model,
        "revision": revision,
        "seed": plan.seed,
        "settings": {
            "temperature": plan.settings.temperature,
            "top_k": plan.settings.top_k,
            "top_p": plan.settings.top_p,
            "num_samples": plan.paths,
            "window_stride": plan.window_stride,
        },
        "cutoff": series.times[-1].isoformat(),
        "horizon": plan.horizon,
        "calendar": future.calendar,
        "frequency": future.frequency,
        "context_length": len(series.bars),
        "estimated_timestamps": future.estimated,
        "warnings": notes,
    }
