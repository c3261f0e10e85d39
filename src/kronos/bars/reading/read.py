"""The front door: any table of bars in, one bars table out, with a report of what was recognised."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars.calendar.frequency import parse_frequency
from kronos.bars.calendar.guess import Guess, fit_intraday, guess_calendar
from kronos.bars.calendar.markets import ALWAYS, OBSERVED, STEP, market, resolve_calendar
from kronos.bars.filler import flat_filler
from kronos.bars.reading.amounts import judge_amount, with_units
from kronos.bars.reading.content import open_content
from kronos.bars.reading.defects import Finding, Rows
from kronos.bars.reading.objects import parse_json
from kronos.bars.reading.oddities import oddities
from kronos.bars.reading.tables import from_arrow, from_frame, from_objects, from_text, from_workbook
from kronos.bars.reading.textfile import Columns
from kronos.bars.reading.times import parse_times
from kronos.bars.reading.validate import build_bars
from kronos.bars.reading.words import SPARE, normal
from kronos.bars.report import BarsReport, Defect, OnDefect, ReadContext, shown
from kronos.bars.samples import locate, sample_path
from kronos.bars.schema import FEATURES, to_table
from kronos.errors import DataError

_STEP = 5e-4  # prices with six digits blur the ratio less than this


def read_bars(
    path_or_table: Any,
    *,
    symbol: str | None = None,
    columns: dict[str, str | int] | None = None,
    timezone: str | None = None,
    on_defect: OnDefect = "strict",
    min_rows: int = 1,
    dayfirst: bool | None = None,
    epoch: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    newest_first: bool | None = None,
) -> pd.DataFrame:
    """Read bars from a file or a table; layout, units and zone are recognised by content.

    Args:
        path_or_table: CSV text in any common encoding, an Excel workbook (its first sheet with bars), JSON, JSON
            lines, Parquet, Feather, Arrow (each also in gzip or zip), ``sample:NAME`` for a packaged sample; or a
            pandas, polars or Arrow table; or Python objects as JSON holds them: a list of rows (ccxt) or of dicts,
            a dict of arrays, at any depth.
        symbol: of a table of many symbols, return this one; of a table that names none, call it so.
        columns: role → column name or position (from 0), where names do not tell: roles are ``timestamp,
            symbol, open, high, low, close, volume, amount`` and ``clock`` (a time of day beside a date).
        timezone: IANA name. Times without a zone are wall time there; others are converted to it.
        on_defect: ``strict`` refuses defects, ``drop`` drops the defective rows, and suspended days that the source has
            filled, and reports them, ``mend`` sets opens of 0 to the close before and drops what else is defective.
        min_rows: refuse fewer bars.
        dayfirst, epoch, decimal, encoding: decide where two readings of dates, epoch units, decimal marks
            or characters fit.
        newest_first: False refuses rows that run backwards; None or True: they are turned round, and the report
            says so.

    Returns:
        DataFrame ``timestamp[, symbol], open, high, low, close, volume, amount``, sorted, with a
        ``BarsReport`` in ``attrs["report"]``.

    Raises:
        DataError: what cannot be read without guessing, with file, row, column and what to do.
    """
    reading = ReadContext(
        symbol=symbol,
        columns=columns,
        timezone=timezone,
        on_defect=on_defect,
        min_rows=min_rows,
        dayfirst=dayfirst,
        epoch=epoch,
        decimal=decimal,
        encoding=encoding,
        newest_first=newest_first,
    )
    return _read(path_or_table, reading)[0]


def sample_bars(name: str) -> pd.DataFrame:
    """A packaged sample as a bars table, with its report in ``attrs["report"]``; names as in ``SAMPLES``."""
    return read_bars(sample_path(name))


def inspect_bars(path_or_table: Any, *, calendar: str | None = None, **options: Any) -> BarsReport:
    """The report on a table, with its calendar; defects are listed, not refused.

    Args:
        path_or_table: as for ``read_bars``.
        calendar: where the bars trade, by which gaps and bars outside the sessions are told; None: inferred.
        options: as for ``read_bars``, but ``on_defect``.

    Raises:
        DataError: only where nothing can be read at all, or an option must decide between readings.
    """
    bars, rows = _read(path_or_table, ReadContext(**{**options, "on_defect": "drop", "inspecting": True}))
    return describe(bars, rows, calendar)


def describe(bars: pd.DataFrame, rows: Rows | None = None, calendar: str | None = None) -> BarsReport:
    """The report of a bars table, completed by calendar, stamp, gaps, breaks and what else is odd.

    Args:
        bars: a bars table; of several symbols, the longest series is looked at.
        rows: the row number of each bar in its file; None: the bars are counted from 1.
        calendar: where they trade; None: inferred.

    Raises:
        CalendarError: no such calendar.
    """
    name = None if calendar is None else resolve_calendar(calendar)
    rows = np.arange(1, 1 + len(bars)) if rows is None else rows
    report: BarsReport = bars.attrs["report"]
    if report.frequency is None:
        return report
    symbol = None
    if "symbol" in bars.columns:
        symbol = str(bars["symbol"].value_counts(sort=False).idxmax())
        longest = (bars["symbol"] == symbol).to_numpy()
        bars, rows = bars[longest], rows[longest]
    times = pd.DatetimeIndex(bars["timestamp"]).as_unit("ns")
    size = parse_frequency(report.frequency)
    real = times[~flat_filler(bars)]  # filler lies where the market is closed
    if name is not None:
        by_hours = size.intraday and name not in (ALWAYS, OBSERVED, STEP)
        guess = Guess(name, fit_intraday(real if len(real) else times, size, market(name))[0] if by_hours else None)
    else:
        guess = guess_calendar(real, size, symbol) if len(real) < len(times) else Guess()
    if guess.name is None or (name is None and guess.name == ALWAYS):
        guess = guess_calendar(times, size, symbol)
    calendar, fit = guess.name, guess.fit
    found = oddities(bars, rows, size, calendar, fit)
    zone = fit.clock.label if fit else None if calendar in (None, ALWAYS, OBSERVED, STEP) else market(calendar).zone
    return report.noted(
        *guess.choice(symbol),
        calendar=calendar,
        stamp=fit.grid.stamp if fit else None,
        timezone_guess=zone if report.timezone is None else None,
        warnings=(*report.warnings, *found),
    )


def _read(path_or_table: Any, reading: ReadContext) -> tuple[pd.DataFrame, Rows]:
    """As ``read_bars``, with the row number in the file of each bar."""
    found, source, reading = _columns(path_or_table, reading)
    data, rows, roles = found.data, found.rows, found.roles
    if not found.ragged:
        reading.refuse_empty(len(data["timestamp"]))
    index, unread = parse_times(data["timestamp"], rows, reading, clock=data.get("clock"), header_zone=roles.zone)
    if "symbol" in data and not isinstance(data["symbol"], pd.Series):
        data["symbol"] = data["symbol"].cast(pa.string())
    frame = pd.DataFrame({name: _values(data[name]) for name in ("symbol", *FEATURES) if name in data}, copy=False)
    spare = {role: _values(data[role]) for role in SPARE if role in data}
    with_units(frame, roles.names, reading)
    frame, no_amount = judge_amount(frame, roles.names, reading)
    left_out = roles.left_out if no_amount is None else (*roles.left_out, no_amount)
    volume = frame["volume"].to_numpy() if "volume" in frame.columns else np.empty(0)
    if "tick_volume" in spare and len(volume) and volume.dtype.kind in "iuf" and not volume.any():
        # MetaTrader counts ticks where it knows no volume: then the ticks are the volume.
        frame["volume"] = spare["tick_volume"]
        reading.note("volume is 0 throughout: tick volume used")
        left_out = tuple(name for name in left_out if normal(name) not in SPARE["tick_volume"])
    warnings = _adjustments(frame, spare.get("adjusted"), rows)
    report = BarsReport(layout=roles.layout, source=source, left_out=left_out, warnings=warnings)
    if (picked := _rows_of(frame, reading)) is not None:
        frame, rows, index = frame.iloc[picked].reset_index(drop=True), rows[picked], index[picked]
    if _run_backwards(frame, index, reading):
        frame, rows, index = frame.iloc[::-1].reset_index(drop=True), rows[::-1], index[::-1]
        reading.note("rows run newest first: reversed")
    return build_bars(frame, (index, unread), rows, report, reading, found.ragged)


def _columns(path_or_table: Any, reading: ReadContext) -> tuple[Columns, str, ReadContext]:
    """The columns of a file, a table or Python objects, what to call their source, and the options with its name."""
    if isinstance(path_or_table, (str, os.PathLike)):
        path = locate(path_or_table)
        reading = replace(reading, where=path.name)
        kind, content = open_content(path, reading)
        if kind == "json":
            found = from_objects(parse_json(content, reading), reading, "JSON")
        elif kind == "workbook":
            found = from_workbook(content, reading)
        else:
            found = from_text(content, reading) if kind == "text" else from_arrow(kind, content, reading)
        return found, str(path), reading
    if isinstance(path_or_table, Mapping | list | tuple | np.ndarray):
        return from_objects(path_or_table, reading, "Python objects"), "table", reading
    return from_frame(to_table(path_or_table), reading), "table", reading


def _run_backwards(frame: pd.DataFrame, index: pd.DatetimeIndex, reading: ReadContext) -> bool:
    """Whether rows run newest first: most steps of time go back. What is out of order then is found afterwards."""
    if reading.newest_first is False or len(index) < 2 or index.is_monotonic_increasing:
        return False
    if "symbol" in frame.columns:  # of a long table the first symbol tells
        index = index[pd.factorize(frame["symbol"])[0] == 0]
    steps = np.diff(index.asi8[np.asarray(index.notna())])
    return len(steps) > 0 and float((steps < 0).mean()) > 0.5


def _rows_of(frame: pd.DataFrame, reading: ReadContext) -> Any:
    """The rows of the symbol that is wanted, None for all; a table that names no symbol takes it as its own."""
    if reading.symbol is None:
        return None
    if "symbol" not in frame.columns:
        frame["symbol"] = str(reading.symbol)
        return None
    names = frame["symbol"].astype(str)
    picked = np.flatnonzero((names == str(reading.symbol)).to_numpy())
    if len(picked) == 0:
        raise DataError(f"{reading.where}: {no_symbol(reading.symbol, names.unique().tolist())}")
    return picked


def no_symbol(wanted: object, names: Sequence[object]) -> str:
    """That a symbol is none of those there are, which of them are like it, and how many there are."""
    known = {str(name).upper(): str(name) for name in names}
    alike = [known[name] for name in difflib.get_close_matches(str(wanted).upper(), known, n=3, cutoff=0.6)]
    alike += [name for name in known.values() if str(wanted).upper() in name.upper() and name not in alike][:3]
    some = ", ".join(shown(name, 24) for name in names[:6]) + (" …" if len(names) > 6 else "")
    if not known:
        return f"there is no symbol '{wanted}', nor any other."
    count = f"there {'is' if len(names) == 1 else 'are'} {len(names):,} ({some})"
    near = f"; like it: {', '.join(shown(name, 24) for name in alike)}" if alike else ""
    return f"there is no symbol '{wanted}'; {count}{near}."


def _adjustments(frame: pd.DataFrame, adjusted: Any, rows: Rows) -> tuple[Defect, ...]:
    """Where an adjusted close stands beside the close, their ratio steps at each dividend and split."""
    close = frame["close"].to_numpy()
    plain = all(isinstance(column, np.ndarray) and column.dtype.kind in "iuf" for column in (adjusted, close))
    if not plain or len(frame) < 2:
        return ()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        factor = pd.Series(adjusted.astype(float) / close.astype(float))
        before = factor.groupby(frame["symbol"].to_numpy()).shift() if "symbol" in frame.columns else factor.shift()
        places = np.flatnonzero((factor / before - 1).abs() > _STEP)
    if len(places) == 0:
        return ()
    example = f"{factor[places[0]] / before[places[0]]:.5g} times"
    return (Finding("dividend_suspect", places, "Adj Close", example).defect(rows),)


def _values(column: Any) -> Any:
    """Numbers stay numbers; text stays text for the validator to judge."""
    if isinstance(column, pd.Series):
        return column.to_numpy() if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype) else column.array
    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type) or pa.types.is_integer(kind):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pandas()
