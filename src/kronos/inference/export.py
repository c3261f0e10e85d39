"""Writes a forecast to a file, whole or not at all.

The table of ``.csv`` and ``.parquet`` has one row a bar, because that is what opens well in a spreadsheet and
joins on a timestamp; the document of ``.json`` keeps the same numbers as nested lists for programs.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError, MissingExtraError
from kronos.inference.forecast import DEFAULT_LEVELS, check_levels

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

ENDINGS = (".html", ".png", ".csv", ".parquet", ".json")


def save(
    forecast: Forecast, path: str | Path, *, quantile_levels: Sequence[float] = DEFAULT_LEVELS, paths: bool = False
) -> Path:
    """Write a forecast in the form that the ending names; see ``Forecast.save``."""
    target = check_target(path)
    check_levels(quantile_levels)
    write: dict[str, Callable[[Path], object]] = {
        ".html": partial(_write_html, forecast),
        ".png": partial(_write_png, forecast),
        ".csv": partial(_write_csv, forecast, quantile_levels, paths),
        ".parquet": partial(_write_parquet, forecast, quantile_levels, paths),
        ".json": partial(_write_json, forecast, quantile_levels, paths),
    }
    with replacing(target) as temporary:
        write[target.suffix.lower()](temporary)
    return target


def check_target(path: str | Path) -> Path:
    """The path as a Path, if a forecast can be written there; cheap, so it can be asked before the work begins.

    Raises:
        ConfigError: an unknown ending, a folder that does not exist, or a folder where the file should be.
        MissingExtraError: ``.png`` without matplotlib.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        found = f"the ending '{ending}'" if ending else "no ending"
        raise ConfigError(f"'{target}' has {found}; a forecast is written as one of {', '.join(ENDINGS)}.")
    if target.is_dir():
        raise ConfigError(f"'{target}' is a folder; give the name of a file in it.")
    if not target.parent.is_dir():
        raise ConfigError(f"The folder '{target.parent}' for '{target.name}' does not exist; make it first.")
    if ending == ".png" and find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "A PNG chart")
    return target


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file beside the target that takes its place on success and vanishes on any failure."""
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(6)}{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def summary(forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS) -> pd.DataFrame:
    """One row a bar: ``timestamp, prob_up``, then for each feature ``<name>_mean`` and ``<name>_q<level>``."""
    mean, bands = forecast.mean(), forecast.quantile_array(quantile_levels)
    table: dict[str, Any] = {"timestamp": forecast.timestamps}
    if forecast.history is not None:
        table["prob_up"] = forecast.prob_up().to_numpy()
    for index, column in enumerate(forecast.columns):
        table[f"{column}_mean"] = mean[column].to_numpy()
        for level, band in zip(quantile_levels, bands, strict=True):
            table[f"{column}_q{level:g}"] = band[:, index]
    return pd.DataFrame(table)


def document(
    forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS, *, paths: bool = False
) -> dict[str, Any]:
    """The forecast as one JSON-ready document.

    Keys: ``symbol, metadata, last_close, timestamps, prob_up``, then ``mean`` {feature: [H]}, ``quantiles``
    {level: {feature: [H]}} and, with ``paths``, ``columns`` and ``paths`` [S][H][6].
    """
    bands = zip(quantile_levels, forecast.quantile_array(quantile_levels), strict=True)
    known = forecast.history is not None
    content: dict[str, Any] = {
        "symbol": forecast.symbol,
        "metadata": dict(forecast.metadata),
        "last_close": forecast.last_close if known else None,
        "timestamps": forecast.timestamps,
        "prob_up": forecast.prob_up() if known else None,
        "mean": _by_column(forecast.columns, forecast.mean().to_numpy()),
        "quantiles": {f"{level:g}": _by_column(forecast.columns, band) for level, band in bands},
    }
    if paths:
        content |= {"columns": forecast.columns, "paths": forecast.samples}
    result: dict[str, Any] = to_json(content)
    return result


def to_json(value: Any) -> Any:
    """Numpy, pandas, dates and paths as what JSON knows; NaN and infinity, which it does not know, as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if isinstance(value, datetime | date):  # also pandas' Timestamp
        return None if value is pd.NaT else value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        return [to_json(row) for row in value.reset_index().to_dict("records")]
    if isinstance(value, np.ndarray | pd.Series | pd.Index):
        return [to_json(item) for item in value.tolist()]
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    return str(value)


def _by_column(columns: Sequence[str], values: Any) -> dict[str, Any]:
    return {column: values[:, index] for index, column in enumerate(columns)}


def _table(forecast: Forecast, quantile_levels: Sequence[float], paths: bool) -> pd.DataFrame:
    return forecast.to_frame() if paths else summary(forecast, quantile_levels)


def _write_csv(forecast: Forecast, quantile_levels: Sequence[float], paths: bool, target: Path) -> None:
    # Nine digits bring every float32 back exactly.
    _table(forecast, quantile_levels, paths).to_csv(target, index=False, float_format="%.9g")


def _write_parquet(forecast: Forecast, quantile_levels: Sequence[float], paths: bool, target: Path) -> None:
    table = _table(forecast, quantile_levels, paths)
    table.attrs = {"symbol": forecast.symbol, "metadata": to_json(dict(forecast.metadata))}
    table.to_parquet(target, index=False)


def _write_json(forecast: Forecast, quantile_levels: Sequence[float], paths: bool, target: Path) -> None:
    content = document(forecast, quantile_levels, paths=paths)
    target.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def _write_html(forecast: Forecast, target: Path) -> None:
    from kronos.inference.charts.html import page

    target.write_text(page(forecast), encoding="utf-8")


def _write_png(forecast: Forecast, target: Path) -> None:
    from kronos.inference.charts.png import draw

    draw(forecast, target)
