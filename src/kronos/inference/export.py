"""Writes a forecast to a file, whole or not at all.

The table of ``.csv`` and ``.parquet`` has one row a bar, because that is what opens well in a spreadsheet and
joins on a timestamp; the document of ``.json`` keeps the same numbers as nested lists for programs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kronos.errors import ConfigError, MissingExtraError
from kronos.files import replacing, to_json

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

DEFAULT_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that files and ``Forecast.quantile`` hold unless others are named."""
ENDINGS = (".html", ".png", ".csv", ".parquet", ".json")


def save(
    forecast: Forecast, path: str | Path, *, quantile_levels: Sequence[float] = DEFAULT_LEVELS, paths: bool = False
) -> Path:
    """Write a forecast in the form that the ending names; see ``Forecast.save``."""
    target = check_target(path)
    check_levels(quantile_levels)
    with replacing(target) as part:
        match target.suffix.lower():
            case ".html":
                from kronos.inference.charts.html import page

                part.write_text(page(forecast), encoding="utf-8")
            case ".png":
                from kronos.inference.charts.png import draw

                draw(forecast, part)
            case ".json":
                content = document(forecast, quantile_levels, paths=paths)
                part.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
            case ending:
                table = forecast.to_frame() if paths else summary(forecast, quantile_levels)
                if ending == ".csv":
                    table.to_csv(part, index=False, float_format="%.9g")  # brings every float32 back exactly
                else:
                    table.attrs = {"symbol": forecast.symbol, "metadata": to_json(forecast.metadata)}
                    table.to_parquet(part, index=False)
    return target


def check_target(path: str | Path) -> Path:
    """The path as a Path, if a forecast can be written there; cheap, so it can be called before the work begins.

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

    def by_column(values: Any) -> dict[str, Any]:
        return {column: values[:, index] for index, column in enumerate(forecast.columns)}

    bands = zip(quantile_levels, forecast.quantile_array(quantile_levels), strict=True)
    known = forecast.history is not None
    content: dict[str, Any] = {
        "symbol": forecast.symbol,
        "metadata": forecast.metadata,
        "last_close": forecast.last_close if known else None,
        "timestamps": forecast.timestamps,
        "prob_up": forecast.prob_up() if known else None,
        "mean": by_column(forecast.mean().to_numpy()),
        "quantiles": {f"{level:g}": by_column(band) for level, band in bands},
    }
    if paths:
        content |= {"columns": forecast.columns, "paths": forecast.samples}
    result: dict[str, Any] = to_json(content)
    return result


def check_levels(levels: Sequence[float]) -> None:
    """Refuse quantile levels outside [0, 1], repeated ones, or an empty list.

    Raises:
        ConfigError: says which level is wrong.
    """
    if len(levels) == 0:
        raise ConfigError("At least one quantile level is needed, for instance 0.1, 0.5, 0.9.")
    wrong = [level for level in levels if not 0 <= level <= 1]
    if wrong:
        raise ConfigError(f"Quantile levels lie between 0 and 1, as 0.9 for 90 %; found {wrong[0]:g}.")
    if len(set(levels)) < len(levels):
        raise ConfigError("Each quantile level may be given once; found one twice.")
