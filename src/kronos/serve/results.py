"""A finished forecast as a JSON document and its sample paths, written whole or not at all, and read again."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation import metrics
from kronos.files import to_json
from kronos.inference.forecast import Forecast
from kronos.serve.tables import columns, isoformat

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SHOWN_HISTORY = 512
_CLOSE, _VOLUME = 3, 4


def document(forecast: Forecast, truth: pd.DataFrame | None) -> dict[str, Any]:
    """What a forecast says: history, quantiles, risk and, where the truth is known, how they compare.

    Args:
        truth: the bars that followed the cutoff, at most as many as were forecast; None in a forecast of the future.
    """
    assert forecast.history is not None
    history = forecast.history.tail(SHOWN_HISTORY)
    traded = bool(history["volume"].any())
    median = forecast.median()
    bands = forecast.quantile_array(LEVELS)
    content = {
        "history": columns(history),
        "timestamps": isoformat(forecast.timestamps),
        "estimated_timestamps": bool(forecast.metadata.get("estimated_timestamps")),
        "median": {name: median[name].tolist() for name in ("open", "high", "low", "close")}
        | {"volume": median["volume"].tolist() if traded else None},
        "quantiles": {"close": _by_level(bands, _CLOSE), "volume": _by_level(bands, _VOLUME) if traded else None},
        "risk": risk(forecast),
        "truth": None if truth is None else columns(truth),
        "comparison": None if truth is None or truth.empty else comparison(forecast, truth),
        "metadata": dict(forecast.metadata),
        "warnings": list(forecast.metadata.get("warnings", ())),
    }
    return dict(to_json(content))


def risk(forecast: Forecast) -> dict[str, Any]:
    """Chances and losses for a holder from the last close.

    ``expected_range`` is the median over the paths of the lowest low and of the highest high of the whole horizon;
    ``realized_volatility`` the median over the paths, not annualised.
    """
    low, high = (forecast.samples[:, :, forecast.columns.index(name)] for name in ("low", "high"))
    return {
        "prob_up": forecast.prob_up().tolist(),
        "value_at_risk_95": forecast.value_at_risk(0.95),
        "expected_shortfall_95": forecast.expected_shortfall(0.95),
        "expected_range": [float(np.median(low.min(axis=1))), float(np.median(high.max(axis=1)))],
        "realized_volatility": float(forecast.realized_volatility().iloc[-1].median()),
    }


def comparison(forecast: Forecast, truth: pd.DataFrame) -> dict[str, Any]:
    """Scores of the close against what happened, in price units, means over the bars that are known.

    ``crps`` is the fair estimator; ``crps_last_close`` that of the forecast that nothing moves, whose score is its
    absolute error. A coverage is null where there are too few paths for its interval. ``direction_hit`` judges the
    last known bar: 1 right, 0 wrong, ½ where the forecast takes no side, null where the close did not move.
    """
    known = len(truth)
    closes = forecast.close()[:, :known].T  # (H, S)
    real, last = truth["close"].to_numpy(dtype=float), forecast.last_close
    return {
        "mae": float(metrics.absolute_error(real, closes).mean()),
        "crps": float(metrics.crps(real, closes).mean()),
        "crps_last_close": float(np.abs(real - last).mean()),
        **{
            f"coverage_{round(level * 100)}": float(metrics.covered(real, closes, level).mean())
            for level in metrics.LEVELS
        },
        "direction_hit": float(metrics.direction_hit(real[-1] - last, closes[-1] - last)),
        "bars_compared": known,
    }


def headline(content: Mapping[str, Any]) -> dict[str, float]:
    """What a list of forecasts shows of one.

    Args:
        content: its document.
    """
    return {
        "last_close": content["history"]["close"][-1],
        "median_close": content["median"]["close"][-1],
        "prob_up": content["risk"]["prob_up"][-1],
    }


# -- files ------------------------------------------------------------------------------------------------------------


def samples_file(result: Path) -> Path:
    """Where the sample paths of a result lie."""
    return result.with_suffix(".npy")


def write_result(result: Path, content: Mapping[str, Any], samples: npt.NDArray[np.float32]) -> None:
    """Write both files of a result; once its document is there, so are the paths, whatever happens meanwhile."""
    durable(samples_file(result), lambda file: np.save(file, samples, allow_pickle=False))
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    durable(result, lambda file: file.write(text))


def durable(target: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file that is whole under its name, or absent, even if the machine stops at any moment."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and need not be
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_samples(result: Path) -> npt.NDArray[np.float32]:
    """(S, H, 6) sample paths of a result."""
    samples: npt.NDArray[np.float32] = np.load(samples_file(result), mmap_mode="r", allow_pickle=False)
    return samples


def read_forecast(result: Path) -> Forecast:
    """The forecast of a result, with the history that the document shows."""
    content = json.loads(result.read_text(encoding="utf-8"))
    shown = content["history"]
    history = pd.DataFrame({**shown, "timestamp": pd.DatetimeIndex(shown["timestamp"])})
    history["volume"] = history["volume"].astype(float).fillna(0.0)
    history["amount"] = 0.0
    return Forecast(
        read_samples(result),
        pd.DatetimeIndex(content["timestamps"]),
        content["metadata"],
        history,
        content["input"]["symbol"],
    )


def _by_level(bands: npt.NDArray[np.float64], column: int) -> dict[str, list[float]]:
    return {f"{level:g}": band[:, column].tolist() for level, band in zip(LEVELS, bands, strict=True)}
