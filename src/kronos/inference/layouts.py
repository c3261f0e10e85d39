"""Forecasts in the layouts of other tools: Nixtla, Qlib, vectorbt, agents, freqtrade, backtesting.py.

A new layout of one number a bar is a function in ``TABLES``. They all read one long table, the rows of
:func:`~kronos.inference.export.rows_of`, of one series or of thousands; so the results of many series, which lie in
files of such rows, are laid out by the same functions. Layouts of whole paths are functions in ``PATHS``.

Where one number stands for a bar it is the mean of the paths, which few paths have too; quantiles are empty where too
few distinct paths cannot tell. Times are wall times, as the series writes them, but where a layout says otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar import infer_frequency
from kronos.errors import ConfigError
from kronos.files import check_folder, check_place, json_text, replacing, to_json, write_json, write_text, writing
from kronos.inference.export import (
    DEFAULT_LEVELS,
    ENDINGS,
    check_levels,
    check_target,
    document,
    record,
    rows_of,
    summary,
    write_table,
)
from kronos.protocol import FEATURES, NAMELESS
from kronos.spec import Layout

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

_CHARTS: Final = (".html", ".png")


def forecasts_to_frame(
    forecasts: Forecast | Iterable[Any],
    layout: Layout = "paths",
    *,
    quantile_levels: Sequence[float] = DEFAULT_LEVELS,
    column: str = "close",
) -> pd.DataFrame:
    """Many forecasts as one table that another tool takes.

    Args:
        forecasts: a ``Forecast``, some of them, ``{symbol: Forecast}``, or what ``forecast_many`` yields.
        layout: ``paths``: every path, ``symbol, timestamp, path`` and the features. ``summary``: one row a bar with
            its mean and quantiles. ``nixtla``: long ``unique_id, ds``, then under the model's name the mean, and its
            quantiles as ``-median``, ``-lo-90`` and ``-hi-90`` (of a level without its mirror ``-q-10``). ``qlib``:
            ``score`` by (datetime, instrument), the mean over paths and bars of close / last close - 1, at the time
            of the last known bar. ``vectorbt``: date × symbol. ``predict``: ``date, predict``. ``record``: one row
            a forecast, as :func:`~kronos.inference.export.record`. ``freqtrade`` (``date`` in UTC, ``open`` …) and
            ``backtesting`` (``Open`` … by time): every path as bars that follow on the known ones, by ``path``.
        quantile_levels: of ``summary``, ``nixtla`` and ``record``.
        column: which feature ``nixtla``, ``vectorbt``, ``predict`` and ``record`` are about.

    Raises:
        ConfigError: no forecast, an unknown layout or column, a level outside [0, 1], times that a layout cannot
            write.
    """
    if hasattr(forecasts, "samples"):
        return lay_out([forecasts], layout, quantile_levels, column)
    many = forecasts.values() if isinstance(forecasts, Mapping) else forecasts
    return lay_out([one[1] if isinstance(one, tuple) else one for one in many], layout, quantile_levels, column)


def lay_out(forecasts: Sequence[Any], layout: str, quantile_levels: Sequence[float], column: str) -> pd.DataFrame:
    """What ``forecasts_to_frame`` does, of a list of forecasts."""
    check_layout(layout)
    check_levels(quantile_levels)
    if not forecasts:
        raise ConfigError("There is no forecast to lay out.")
    if column not in FEATURES:
        raise ConfigError(f"'{column}' is no column of a forecast; choose one of {', '.join(FEATURES)}.")
    if layout == "record":
        return pd.DataFrame([record(forecast, quantile_levels, column) for forecast in forecasts])
    if layout in PATHS:
        frames = [PATHS[layout](forecast) for forecast in forecasts]
        return frames[0] if len(frames) == 1 else pd.concat(frames, keys=[*map(_name, forecasts)], names=["symbol"])
    if layout == "paths":
        long = [rows_of(forecast, paths=True).assign(symbol=_name(forecast)) for forecast in forecasts]
        return pd.concat(long, ignore_index=True)[["symbol", "timestamp", "path", *FEATURES]]
    frames = [rows_of(one, quantile_levels).drop(columns="notes").assign(symbol=_name(one)) for one in forecasts]
    return TABLES[layout](
        pd.concat(frames, ignore_index=True), column, str(forecasts[0].metadata.get("model", "kronos"))
    )


def check_layout(layout: str) -> None:
    """Raises ConfigError where there is no such layout."""
    if layout not in get_args(Layout):
        raise ConfigError(f"layout is {layout!r}; it must be one of {', '.join(get_args(Layout))}")


def _name(forecast: Forecast) -> str:
    return forecast.symbol or NAMELESS


# -- one number a bar -------------------------------------------------------------------------------------------------


def _summary(rows: pd.DataFrame, column: str, model: str) -> pd.DataFrame:
    first = ["symbol", "timezone", "cutoff", "last_close", "timestamp"]
    return rows[[*first, *(name for name in rows.columns if name not in (*first, "instant"))]]


def _nixtla(rows: pd.DataFrame, column: str, model: str) -> pd.DataFrame:
    _refuse_repeats(rows)
    found = {"unique_id": rows["symbol"], "ds": rows["timestamp"], model: rows[f"{column}_mean"]}
    prefix = f"{column}_q"
    names = [name.removeprefix(prefix) for name in rows.columns if name.startswith(prefix)]
    for name in sorted(names, key=float):
        found[f"{model}{_nixtla_ending(float(name), [*map(float, names)])}"] = rows[prefix + name]
    return pd.DataFrame(found)


def _nixtla_ending(level: float, levels: Sequence[float]) -> str:
    """How Nixtla's packages call a quantile: by the interval that it bounds, if the other bound is there too."""
    if level == 0.5:
        return "-median"
    if any(math.isclose(level + other, 1) for other in levels):
        return f"-{'lo' if level < 0.5 else 'hi'}-{round(100 * abs(1 - 2 * level), 6):g}"
    return f"-q-{round(100 * level, 6):g}"


def _qlib(rows: pd.DataFrame, column: str, model: str) -> pd.DataFrame:
    if rows["last_close"].isna().any():
        raise ConfigError("A score is a return on the last close, which a forecast without history does not know.")
    moves = rows["close_mean"] / rows["last_close"] - 1
    score = moves.groupby([rows["cutoff"], rows["symbol"]]).mean()
    return score.rename_axis(["datetime", "instrument"]).to_frame("score")


def _vectorbt(rows: pd.DataFrame, column: str, model: str) -> pd.DataFrame:
    zones = rows["timezone"].dropna().unique()
    times = rows["timestamp"]
    if len(zones):
        if rows["timezone"].isna().any():
            raise ConfigError(
                "Series with a time zone and series without one have no dates in common; read all of them with "
                "timezone=, or none."
            )
        times = rows["instant"].dt.tz_convert(zones[0] if len(zones) == 1 else "UTC")
    _refuse_repeats(rows.assign(timestamp=times))
    return rows.assign(timestamp=times).pivot(index="timestamp", columns="symbol", values=f"{column}_mean")


def _predict(rows: pd.DataFrame, column: str, model: str) -> pd.DataFrame:
    found = pd.DataFrame({"date": rows["timestamp"], "predict": rows[f"{column}_mean"]})
    if rows["symbol"].nunique() > 1:
        found.insert(1, "symbol", rows["symbol"])
    return found


def _refuse_repeats(rows: pd.DataFrame) -> None:
    """Refuses what has no one row for a series and a time: two forecasts of it, or a clock that is set back."""
    twice = rows.duplicated(["symbol", "timestamp"])
    if twice.any():
        row = rows[twice].iloc[0]
        raise ConfigError(
            f"{row['symbol']} has two rows for {row['timestamp']}: lay out one forecast of each series; where clocks "
            "are set back in its horizon, read its bars with timezone='UTC' (--timezone UTC)."
        )


Writer = Callable[[pd.DataFrame, str, str], pd.DataFrame]
"""(rows of ``rows_of``, column, the model's name) → the table."""

TABLES: Final[dict[str, Writer]] = {
    "summary": _summary,
    "nixtla": _nixtla,
    "qlib": _qlib,
    "vectorbt": _vectorbt,
    "predict": _predict,
}


# -- whole paths as bars ----------------------------------------------------------------------------------------------


def _whole(forecast: Forecast) -> tuple[pd.DatetimeIndex, npt.NDArray[np.float64]]:
    """The times (T + H,) and bars (S, T + H, 6) of each path behind the known bars, which indicators need."""
    times, paths = forecast.timestamps, forecast.samples.astype(np.float64)
    if forecast.history is None or forecast.history.empty:
        return times, paths
    past = forecast.history[list(FEATURES)].to_numpy(dtype=np.float64)
    known = pd.DatetimeIndex(forecast.history["timestamp"])
    return pd.DatetimeIndex(known.append(times)), np.concatenate(
        [np.broadcast_to(past, (len(paths), *past.shape)), paths], axis=1
    )


def _backtesting(forecast: Forecast) -> pd.DataFrame:
    times, bars = _whole(forecast)
    rows = pd.MultiIndex.from_product([range(len(bars)), times], names=["path", "timestamp"])
    return pd.DataFrame(bars.reshape(-1, 6)[:, :5], rows, ["Open", "High", "Low", "Close", "Volume"])


def _freqtrade(forecast: Forecast) -> pd.DataFrame:
    times, bars = _whole(forecast)
    moments = times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")
    frame = pd.DataFrame(bars.reshape(-1, 6)[:, :5], columns=list(FEATURES[:5]))
    frame.insert(0, "date", moments[np.tile(np.arange(len(times)), len(bars))])
    frame.index = pd.Index(np.repeat(np.arange(len(bars)), len(times)), name="path")
    return frame


PATHS: Final[dict[str, Callable[[Any], pd.DataFrame]]] = {"freqtrade": _freqtrade, "backtesting": _backtesting}


def _pair_file(forecast: Forecast) -> str:
    """The name under which freqtrade looks for the bars of a pair: ``BTC_USDT-5m.feather``."""
    size = forecast.metadata.get("frequency") or infer_frequency(_whole(forecast)[0])
    if size is None:
        raise ConfigError("freqtrade names files by their bar size, which these times do not show; pass frequency.")
    pair = re.sub(r"[/ .@$+:]", "_", _name(forecast))
    return f"{pair}-{str(size).replace('mo', 'M')}.feather"


def shown_as_json(
    forecast: Forecast, layout: Layout | None, quantile_levels: Sequence[float] | None, *, paths: bool = False
) -> Any:
    """A forecast as one JSON-ready value: its document, or in a layout its record or the rows of its table."""
    levels = quantile_levels or DEFAULT_LEVELS
    if layout is None:
        return document(forecast, levels, paths=paths)
    if layout == "record":
        return record(forecast, levels)
    table = forecast.to_frame(layout, quantile_levels=levels)
    return (table.reset_index() if table.index.names != [None] else table).to_dict("records")


# -- files ------------------------------------------------------------------------------------------------------------


def check_layout_target(path: str | Path, layout: str | None) -> Path:
    """The path, if a forecast can be written there in this layout (None: as by its ending); nothing is written.

    Raises:
        ConfigError: an unknown layout, an ending that it does not have, a missing folder.
    """
    if layout is None:
        return check_target(path)
    check_layout(layout)
    target = Path(path)
    ending = target.suffix.lower()
    if layout in PATHS:
        if target.is_file() or ending in (*ENDINGS, ".feather"):
            raise ConfigError(f"'{target}' is a file; the layout {layout} writes a folder with a file a path.")
        return check_folder(target)
    able = (".json",) if layout == "record" else tuple(one for one in ENDINGS if one not in _CHARTS)
    if ending not in able:
        raise ConfigError(f"'{target}' does not end in {' or '.join(able)}, as a file of the layout {layout} does.")
    return check_place(target)


def save(
    forecast: Forecast,
    path: str | Path,
    quantile_levels: Sequence[float],
    *,
    paths: bool = False,
    layout: Layout | None = None,
) -> Path:
    """Write a forecast; see ``Forecast.save``."""
    check_levels(quantile_levels)
    if layout is not None:
        return save_layout(forecast, path, layout, quantile_levels)
    target = check_target(path)
    ending = target.suffix.lower()
    if ending == ".png":
        from kronos.inference.charts import draw

        with replacing(target) as part:
            draw(forecast, part)
    elif ending == ".html":
        from kronos.inference.charts import page

        write_text(target, page(forecast))
    elif ending == ".json":
        write_text(target, json_text(document(forecast, quantile_levels, paths=paths)))
    else:
        table = forecast.to_frame() if paths else summary(forecast, quantile_levels)
        table.attrs = {"symbol": forecast.symbol, "metadata": to_json(forecast.metadata)}
        write_table(table, target)
    return target


def save_layout(forecast: Forecast, path: str | Path, layout: Layout, quantile_levels: Sequence[float]) -> Path:
    """Write a forecast in a layout; see ``Forecast.save``. Of whole paths each is a file of its own."""
    target = check_layout_target(path, layout)
    if layout in PATHS:
        _save_paths(forecast, target, layout)
    elif layout == "record":
        write_json(target, record(forecast, quantile_levels))
    else:
        table = forecast.to_frame(layout, quantile_levels=quantile_levels)
        table.attrs = {"symbol": forecast.symbol, "metadata": to_json(forecast.metadata)}
        write_table(table, target)
    return target


def _save_paths(forecast: Forecast, folder: Path, layout: str) -> None:
    """``path-000/BTC_USDT-5m.feather`` …, each a data folder of freqtrade, or ``path-000.csv`` … for backtesting.py."""
    frame, digits = PATHS[layout](forecast), max(3, len(str(forecast.num_samples - 1)))
    with writing(folder):
        folder.mkdir(exist_ok=True)
    for number in range(forecast.num_samples):
        bars, name = frame.loc[[number]], f"path-{number:0{digits}d}"
        if layout == "backtesting":
            write_table(bars.droplevel("path"), folder / f"{name}.csv")
            continue
        with writing(folder):
            (folder / name).mkdir(exist_ok=True)
        with replacing(folder / name / _pair_file(forecast)) as part:
            bars.reset_index(drop=True).to_feather(part)
