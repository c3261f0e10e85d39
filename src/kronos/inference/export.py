"""What leaves a forecast as tables and documents, and where it may be written.

One row a bar (:func:`summary`), the same with what tells series apart (:func:`rows_of`), one JSON document
(:func:`document`) and one for agents (:func:`record`); other tools' layouts are made of these
(:mod:`kronos.inference.layouts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kronos.errors import ConfigError, MissingExtraError
from kronos.files import check_place, json_text, replacing, to_json
from kronos.inference.certainty import ENOUGH_PATHS, Shown, asks_spread
from kronos.inference.views import volatility_document

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

DEFAULT_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
ENDINGS = (".html", ".png", ".csv", ".parquet", ".json")


def check_target(path: str | Path) -> Path:
    """The path, if a forecast can be written there; raises as ``Forecast.save``, but before the work begins."""
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        found = f"the ending '{ending}'" if ending else "no ending"
        raise ConfigError(f"'{target}' has {found}; a forecast is written as one of {', '.join(ENDINGS)}.")
    check_place(target)
    if ending == ".png" and find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "A PNG chart")
    return target


def summary(forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS) -> pd.DataFrame:
    """One row a bar: ``timestamp, prob_up, prob_up_error, close_median_error``, then for each feature
    ``<name>_mean`` and ``<name>_q<level>``. What too few distinct paths cannot tell is NaN, and so is ``prob_up`` of
    paths without a direction.
    """
    shown = Shown(forecast)
    mean, bands = forecast.mean(), shown.quantiles(quantile_levels)
    table: dict[str, Any] = {"timestamp": forecast.timestamps}
    if forecast.history is not None:
        table["prob_up"], table["prob_up_error"] = shown.prob_up().to_numpy().T
    table["close_median_error"] = shown.median_error()["close"].to_numpy()
    for index, column in enumerate(forecast.columns):
        table[f"{column}_mean"] = mean[column].to_numpy()
        for level, band in zip(quantile_levels, bands, strict=True):
            table[f"{column}_q{level:g}"] = band[:, index]
    return pd.DataFrame(table)


def document(
    forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS, *, paths: bool = False
) -> dict[str, Any]:
    """The forecast as one JSON-ready document: ``symbol, metadata, last_close, timestamps``, by bar ``prob_up,
    prob_up_error, close_median_error``, at the 95 % level over the whole horizon ``value_at_risk,
    expected_shortfall``, ``volatility`` (a year's, as ``Forecast.volatility``: how the year was counted, and by bar
    ``expected, median, lower, upper, context, har``), then ``mean`` {feature: [H]}, ``quantiles``
    {level: {feature: [H]}} and, with ``paths``, ``columns`` and ``paths`` [S][H][6]. What too few distinct paths cannot
    tell is null. Where the paths have no direction, ``direction`` says so in a sentence, and ``prob_up`` is null.
    """

    def by_column(values: Any) -> dict[str, Any]:
        return {column: values[:, index] for index, column in enumerate(forecast.columns)}

    shown = Shown(forecast)
    bands, chance = shown.quantiles(quantile_levels), shown.prob_up()
    content: dict[str, Any] = {
        "symbol": forecast.symbol,
        "metadata": forecast.metadata,
        "last_close": forecast.last_close if shown.known else None,
        "timestamps": forecast.timestamps,
        "prob_up": chance["prob_up"] if shown.known else None,
        "prob_up_error": chance["error"] if shown.known else None,
        "direction": shown.direction,
        "close_median_error": shown.median_error()["close"],
        "value_at_risk": shown.value_at_risk(),
        "expected_shortfall": shown.expected_shortfall(),
        "volatility": volatility_document(forecast),
        "mean": by_column(forecast.mean().to_numpy()),
        "quantiles": {f"{level:g}": by_column(band) for level, band in zip(quantile_levels, bands, strict=True)},
    }
    whole = {"columns": forecast.columns, "paths": forecast.samples} if paths else {}
    return {key: to_json(value) for key, value in (content | whole).items()}


def cutoff_of(forecast: Forecast) -> pd.Timestamp:
    """The time of the last bar that the forecast knows; NaT where neither metadata nor history says."""
    known = forecast.history
    last: Any = pd.NaT if known is None or known.empty else known["timestamp"].iloc[-1]
    return pd.Timestamp(forecast.metadata.get("cutoff", last))


def rows_of(
    forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS, *, paths: bool = False
) -> pd.DataFrame:
    """The rows of ``summary``, or of all paths, with what tells series apart: ``symbol, timezone, cutoff, last_close,
    notes, instant``; many forecasts are laid one below the other.

    ``timestamp`` and ``cutoff`` are wall times, as the series writes them, by the clock of ``timezone`` (None: the
    series names none); ``instant`` is the timestamp in UTC, NaT where no zone is known.
    """
    frame = forecast.to_frame() if paths else summary(forecast, quantile_levels)
    times, cutoff = forecast.timestamps, cutoff_of(forecast)
    instants = pd.Series(pd.NaT, frame.index, dtype="datetime64[ns, UTC]")
    if times.tz is not None:
        instants = frame["timestamp"].dt.tz_convert("UTC")
        frame["timestamp"], cutoff = (
            frame["timestamp"].dt.tz_localize(None),
            cutoff.tz_convert(times.tz).tz_localize(None),
        )
    return frame.assign(
        symbol=forecast.symbol,
        timezone=None if times.tz is None else str(times.tz),
        cutoff=cutoff,
        last_close=forecast.last_close if Shown(forecast).known else float("nan"),
        notes="; ".join(map(str, forecast.metadata.get("warnings", ()))) or None,
        instant=instants,
    )


def record(
    forecast: Forecast, quantile_levels: Sequence[float] = DEFAULT_LEVELS, column: str = "close"
) -> dict[str, Any]:
    """What a programme that acts on a forecast needs and may keep, as one JSON-ready mapping.

    ``symbol, cutoff, made_at`` (UTC), the ``model`` with its ``revision`` and the digest of its ``weights``, what was
    asked (``horizon, frequency, calendar, seed, num_samples``), ``distinct_paths``; then of one ``column`` by bar
    ``mean`` and ``quantiles`` {level: [H]}, ``prob_up`` with its sampling error, or in ``direction`` a sentence where
    the paths have none, over the whole horizon ``value_at_risk, expected_shortfall`` at the 95 % level, and ``notes``.
    What too few distinct paths cannot tell is null.
    """
    whole, known = document(forecast, quantile_levels), forecast.metadata
    told = {name: known.get(name) for name in ("model", "revision", "weights", "frequency", "calendar", "seed")}
    content = {
        "symbol": forecast.symbol,
        "cutoff": cutoff_of(forecast),
        "made_at": forecast.made_at,
        **told,
        "horizon": forecast.horizon,
        "num_samples": forecast.num_samples,
        "distinct_paths": forecast.distinct_paths,
        "last_close": whole["last_close"],
        "timestamps": whole["timestamps"],
        "column": column,
        "mean": whole["mean"][column],
        "quantiles": {level: bars[column] for level, bars in whole["quantiles"].items()},
        **{name: whole[name] for name in ("prob_up", "prob_up_error", "direction")},
        **{name: whole[name] for name in ("value_at_risk", "expected_shortfall")},
        "notes": Shown(forecast).notes,
    }
    return {key: to_json(value) for key, value in content.items()}


def write_table(table: pd.DataFrame, target: Path) -> None:
    """Write a table as ``.csv``, ``.parquet`` or ``.json`` (a list of rows), whole or not at all; with its index if
    that has a name.
    """
    index = any(name is not None for name in table.index.names)
    with replacing(target) as part:
        if target.suffix.lower() == ".csv":
            table.to_csv(part, index=index, float_format="%.9g")  # brings every float32 back exactly
        elif target.suffix.lower() == ".parquet":
            table.to_parquet(part, index=index)
        else:
            rows = (table.reset_index() if index else table).to_dict("records")
            part.write_text(json_text(rows), encoding="utf-8")


def asked_levels(levels: Sequence[float] | None, num_samples: int) -> Sequence[float]:
    """The quantile levels asked for, checked before the work begins; None: ``DEFAULT_LEVELS``.

    Raises:
        ConfigError: as ``check_levels``, or quantiles other than the median of fewer than ``ENOUGH_PATHS`` paths.
    """
    if levels is None:
        return DEFAULT_LEVELS
    check_levels(levels)
    if num_samples < ENOUGH_PATHS and asks_spread(levels):
        raise ConfigError(
            f"Quantiles need {ENOUGH_PATHS} paths or more; these are of {num_samples}. Raise num_samples "
            f"(--samples {ENOUGH_PATHS}), or ask for the median .5 alone."
        )
    return levels


def check_levels(levels: Sequence[float]) -> None:
    """Raises ConfigError where quantile levels lie outside [0, 1], are repeated, or are missing."""
    if len(levels) == 0:
        raise ConfigError("At least one quantile level is needed, for instance 0.1, 0.5, 0.9.")
    if wrong := [level for level in levels if not 0 <= level <= 1]:
        raise ConfigError(f"Quantile levels lie between 0 and 1, as 0.9 for 90 %; found {wrong[0]:g}.")
    if len(set(levels)) < len(levels):
        raise ConfigError("Each quantile level may be given once; found one twice.")
