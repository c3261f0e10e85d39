"""Looks a table over without refusing it: layout, symbol, bar size, zone, calendar, rows and every defect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kronos.bars.calendar.frequency import parse_frequency
from kronos.bars.calendar.future import missing_before
from kronos.bars.calendar.guess import Fit, guess_calendar, symbol_hint
from kronos.bars.calendar.markets import ALWAYS, market
from kronos.bars.clean import split_suspects
from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.read import read_with_rows
from kronos.bars.report import BarsReport, Defect, RowNumbers


def inspect_bars(path_or_table: Any, **options: Any) -> BarsReport:
    """The report on a table, with its calendar; defects are listed, not refused.

    Args:
        path_or_table: as for ``read_bars``.
        options: as for ``read_bars``, but ``on_defect``.

    Raises:
        DataError: only where nothing can be read at all, or an option must decide between readings.
    """
    bars, rows = read_with_rows(path_or_table, ReadContext(**{**options, "on_defect": "drop"}))
    return describe(bars, rows)


def describe(bars: pd.DataFrame, rows: RowNumbers | None = None) -> BarsReport:
    """The report of a bars table, completed by calendar, stamp, gaps and split suspects.

    Args:
        bars: a bars table; of several symbols, the longest series is looked at.
        rows: the row number of each bar in its file; None: the bars are counted from 1.
    """
    rows = RowNumbers.counted(len(bars)) if rows is None else rows
    report: BarsReport = bars.attrs["report"]
    if "symbol" in bars.columns:
        counts = bars["symbol"].value_counts(sort=False)
        longest = (bars["symbol"] == counts.idxmax()).to_numpy()
        bars, rows = bars[longest], rows.picked(longest)
    if report.frequency is None:
        return report
    times = pd.DatetimeIndex(bars["timestamp"]).as_unit("ns")
    size = parse_frequency(report.frequency)
    symbol = str(bars["symbol"].iloc[0]) if "symbol" in bars.columns else None
    guess = guess_calendar(times, size, symbol_hint(symbol))
    found: list[Defect] = []
    missing = missing_before(times, size, guess)
    if missing is not None and missing.any():
        places = np.flatnonzero(missing)
        example = f"{int(missing[places[0]])} before {times[places[0]]}, {len(places)} places"
        found.append(Defect("gap", int(missing.sum()), rows.first(places), example=example))
    suspects = split_suspects(bars)
    if suspects:
        places = np.array([suspect.row - 1 for suspect in suspects])
        found.append(Defect("split_suspect", len(suspects), rows.first(places), example=suspects[0].text))
    calendar, stamp, zone = _named(guess)
    return replace(
        report,
        calendar=calendar,
        stamp=stamp,
        timezone_guess=zone if report.timezone is None else None,
        warnings=(*report.warnings, *found),
    )


def _named(guess: Fit | str | None) -> tuple[str | None, str | None, str | None]:
    if isinstance(guess, Fit):
        return guess.market.name, guess.grid.stamp, guess.clock.label
    if guess is None or guess == ALWAYS:
        return guess, None, None
    return guess, None, market(guess).zone
