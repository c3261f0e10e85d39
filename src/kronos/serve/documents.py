"""Tables of bars and forecasts as the API shows them, and a result's two files.

Runs in the reader and in the worker, never in the server itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars import read_bars
from kronos.bars.cut import as_written
from kronos.bars.reading import describe
from kronos.bars.schema import PRICES
from kronos.errors import CapacityError, DataError, some_of
from kronos.evaluation import metrics
from kronos.files import json_text, replacing, to_json, write_text
from kronos.inference.certainty import Shown
from kronos.inference.export import DEFAULT_LEVELS
from kronos.inference.forecast import Forecast
from kronos.protocol import CLOSE, VOLUME

LEVELS = tuple(sorted({*DEFAULT_LEVELS, 0.1, 0.9}))  # the studio also draws the band between these two
SHOWN_HISTORY = 512
PREVIEW_ROWS = 5
_MOST_SYMBOLS = 10_000

# -- bars -------------------------------------------------------------------------------------------------------------


def read_table(path: Path, symbol: str | None = None) -> pd.DataFrame:
    """The bars of a file, of one symbol where one is named; the tables read last are kept."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path.name} is no longer there.") from error
    return _read_table(path, symbol, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read_table(path: Path, symbol: str | None, *version: int) -> pd.DataFrame:
    return read_bars(path, symbol=symbol)


def one_series(bars: pd.DataFrame) -> pd.DataFrame:
    """The table, if it holds one symbol."""
    symbols = bars.attrs["report"].symbols
    if len(symbols) > 1:
        raise DataError(f"These bars are of {len(symbols)} symbols ({some_of(symbols)}); choose one of them as symbol.")
    return bars


def description(bars: pd.DataFrame) -> dict[str, Any]:
    """The report on a table, with its calendar, symbols, and first and last rows."""
    symbols = list(bars.attrs["report"].symbols)
    if len(symbols) > _MOST_SYMBOLS:
        raise CapacityError(f"The table names {len(symbols):,} symbols; at most {_MOST_SYMBOLS:,} are shown here.")
    report = {key: value for key, value in describe(bars).to_dict().items() if key not in ("source", "symbols")}
    ends = pd.concat([bars.head(PREVIEW_ROWS), bars.iloc[PREVIEW_ROWS:].tail(PREVIEW_ROWS)])
    return {"rows": len(bars), "symbols": symbols, "report": report, "preview": to_json(ends.to_dict("records"))}


def candles(bars: pd.DataFrame, limit: int, before: str | None = None) -> dict[str, Any]:
    """Columns of the last bars, or of the last ones earlier than a time; ``total`` counts all bars of the series."""
    total, frequency = len(bars), bars.attrs["report"].frequency
    if before is not None:
        bars = bars.iloc[: int(bars["timestamp"].searchsorted(as_written(before, bars), side="left"))]
    return {**columns(bars.tail(limit)), "frequency": frequency, "total": total}


def columns(bars: pd.DataFrame) -> dict[str, Any]:
    """Bars as lists by column; ``volume`` is null where none was ever traded."""
    return {
        "timestamp": to_json(list(bars["timestamp"])),
        **{name: bars[name].tolist() for name in PRICES},
        "volume": bars["volume"].tolist() if bars["volume"].any() else None,
    }


# -- forecasts --------------------------------------------------------------------------------------------------------


def document(forecast: Forecast, truth: pd.DataFrame | None) -> dict[str, Any]:
    """What a forecast says: history, quantiles, a holder's risk and, where the truth is known, how they compare.

    Quantiles other than the median, chances, risk and ranges are null where too few distinct paths cannot tell, and the
    chance of a rise where the paths have no direction, which ``direction`` says in a sentence.

    ``expected_range`` is the median over the paths of the lowest low and of the highest high of the whole horizon;
    ``realized_volatility`` the median over the paths, not annualised.

    Args:
        truth: the bars that followed the cutoff, at most as many as were forecast; None in a forecast of the future.
    """
    assert forecast.history is not None
    history = forecast.history.tail(SHOWN_HISTORY)
    traded = bool(history["volume"].any())
    median, shown = forecast.median(), Shown(forecast)
    levels = [f"{level:g}" for level in LEVELS]
    bands, chance = shown.quantiles(LEVELS), shown.prob_up()  # (L, H, 6)
    low, high = (forecast.samples[:, :, forecast.columns.index(name)] for name in ("low", "high"))
    content = {
        "history": columns(history),
        "timestamps": list(forecast.timestamps),
        "estimated_timestamps": bool(forecast.metadata.get("estimated_timestamps")),
        "median": {name: median[name] for name in PRICES} | {"volume": median["volume"] if traded else None},
        "quantiles": {
            "close": dict(zip(levels, bands[:, :, CLOSE])),
            "volume": dict(zip(levels, bands[:, :, VOLUME])) if traded else None,
        },
        "median_error": {"close": shown.median_error()["close"]},
        "risk": {
            "prob_up": chance["prob_up"],
            "prob_up_error": chance["error"],
            "direction": shown.direction,
            "value_at_risk_95": shown.value_at_risk(),
            "expected_shortfall_95": shown.expected_shortfall(),
            "expected_range": [np.median(low.min(axis=1)), np.median(high.max(axis=1))] if shown.enough else None,
            "realized_volatility": forecast.realized_volatility().iloc[-1].median(),
        },
        "truth": None if truth is None else columns(truth),
        "comparison": None if truth is None or truth.empty else comparison(forecast, truth),
        "metadata": dict(forecast.metadata),
        "distinct_paths": forecast.distinct_paths,
        "warnings": shown.notes,
    }
    return dict(to_json(content))


def comparison(forecast: Forecast, truth: pd.DataFrame) -> dict[str, Any]:
    """Scores of the close against what happened, in price units, means over the bars that are known.

    ``crps`` is the fair estimator; ``crps_last_close`` that of the forecast that nothing moves, whose score is its
    absolute error. A coverage is null where too few distinct paths give no interval. ``direction_hit`` judges the
    last known bar: 1 right, 0 wrong, ½ where the forecast takes no side, null where the close did not move.
    """
    real, last = truth["close"].to_numpy(dtype=float), forecast.last_close
    closes, mirrored = forecast.close()[:, : len(real)].T, forecast.mirrored  # (H, S)
    ranked = metrics.with_centre(closes, last) if mirrored else closes
    enough = Shown(forecast).enough
    covered = {
        f"coverage_{level * 100:.0f}": metrics.covered(real, ranked, level).mean() if enough else None
        for level in metrics.LEVELS
    }
    return {
        "mae": metrics.absolute_error(real, ranked).mean(),
        "crps": metrics.crps(real, closes, mirrored=mirrored).mean(),
        "crps_last_close": np.abs(real - last).mean(),
        **covered,
        "direction_hit": float(metrics.direction_hit(real[-1] - last, ranked[-1] - last)),
        "bars_compared": len(real),
    }


def headline(content: Mapping[str, Any]) -> dict[str, float | None]:
    """What a list of forecasts shows of one, from its document."""
    return {
        "last_close": content["history"]["close"][-1],
        "median_close": content["median"]["close"][-1],
        "prob_up": content["risk"]["prob_up"][-1],
        "prob_up_error": content["risk"].get("prob_up_error", [None])[-1],  # results of 0.1.0 have none
    }


# -- files of a result ------------------------------------------------------------------------------------------------


def write_result(result: Path, content: Mapping[str, Any], samples: npt.NDArray[np.float32]) -> None:
    """Write both files of a result; once its document is there, so are the paths, whatever happens meanwhile."""
    with replacing(result.with_suffix(".npy"), durable=True) as part:
        np.save(part, samples, allow_pickle=False)
    write_text(result, json_text(content), durable=True)


def read_samples(result: Path) -> npt.NDArray[np.float32]:
    """(S, H, 6) sample paths of a result."""
    samples: npt.NDArray[np.float32] = np.load(result.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    return samples


def read_forecast(result: Path) -> Forecast:
    """The forecast of a result, with the history that the document shows."""
    content = json.loads(result.read_text(encoding="utf-8"))
    shown = content["history"]
    history = pd.DataFrame({**shown, "timestamp": pd.DatetimeIndex(shown["timestamp"])})
    history["volume"] = history["volume"].astype(float).fillna(0.0)
    history["amount"] = 0.0
    times = pd.DatetimeIndex(content["timestamps"])
    return Forecast(read_samples(result), times, content["metadata"], history, content["input"]["symbol"])
