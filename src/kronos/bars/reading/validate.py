"""The one validator: a table enters as bars here, or is refused with file, row and column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import infer_frequency
from kronos.bars.filler import filled_days, named_days
from kronos.bars.reading.defects import Finding, Mask, Rows, forming_rows, time_findings, value_findings
from kronos.bars.reading.times import parse_times
from kronos.bars.report import DEFECTS, BarsReport, Defect, OnDefect, ReadContext, listing, name_columns
from kronos.bars.schema import COLUMNS, FEATURES, PRICES, to_table
from kronos.errors import DataError

_MOST_DROPPED: Final = 0.5


def validate_bars(
    table: Any,
    *,
    on_defect: OnDefect = "strict",
    source: str | None = None,
    min_rows: int = 1,
    timezone: str | None = None,
) -> pd.DataFrame:
    """Check a table whose columns already carry the names of a bars table.

    Args:
        table: ``timestamp`` (a column or the index), optionally ``symbol``, ``open, high, low, close``,
            optionally ``volume`` and ``amount``. Volume absent: both are 0. Only amount absent:
            volume times the mean price. Other columns are left out and named in the report.
        on_defect: ``strict`` refuses any defect; ``drop`` drops the defective rows and lists them in the
            report; ``mend`` does, too, but sets opens of 0 to the close before. Nothing else is changed in silence.
        source: what to call the table in errors.
        min_rows: refuse fewer rows, after dropping.
        timezone: as in ``read_bars``.

    Returns:
        DataFrame with the columns of ``COLUMNS``, sorted by (symbol,) timestamp, a RangeIndex, float64
        features, and ``attrs["report"]``.

    Raises:
        DataError: a defect in strict mode; in either mode a missing column, too few rows, mixed time zones,
            or so many defects that dropping them would leave less than half.
    """
    reading = ReadContext(where=source or "The table", timezone=timezone, on_defect=on_defect, min_rows=min_rows)
    frame = to_table(table)
    index = frame.index
    if "timestamp" not in frame.columns:
        if isinstance(index, pd.MultiIndex) and "timestamp" in index.names:
            frame = frame.reset_index()
        elif isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
            frame = frame.assign(timestamp=index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index)
    missing = [name for name in ("timestamp", *PRICES) if name not in frame.columns]
    if missing:
        raise DataError(
            f"{reading.where}: no column for {', '.join(missing)} among {listing(frame.columns)}. "
            f"Name them with {name_columns(**{missing[0]: 'NAME'})}."
        )
    twice = [str(name) for name in COLUMNS if list(frame.columns).count(name) > 1]
    if twice:
        raise DataError(f"{reading.where}: the column {twice[0]} appears twice. Keep one of them.")
    left_out = tuple(str(name) for name in frame.columns if name not in COLUMNS)
    reading.refuse_empty(len(frame))
    rows = np.arange(1, 1 + len(frame))
    times = parse_times(frame["timestamp"], rows, reading)
    return build_bars(frame, times, rows, BarsReport(source=source or "table", left_out=left_out), reading)[0]


def build_bars(
    frame: pd.DataFrame,
    times: tuple[pd.DatetimeIndex, str | None],
    rows: Rows,
    report: BarsReport,
    reading: ReadContext,
    earlier: tuple[Finding, ...] = (),
) -> tuple[pd.DataFrame, Rows]:
    """The validator's second half, for readers that have parsed the timestamps themselves.

    Args:
        times: as ``parse_times`` gives them.
        rows: the number of each row in its source.
        earlier: what the reader has found.

    Returns:
        The bars and, for each, the number of its row.
    """
    columns: dict[str, Any] = {"timestamp": times[0]}
    codes, names = _symbols(frame, rows, reading)
    if codes is not None:
        columns["symbol"] = names.take(codes)
    values, findings = value_findings(frame, reading)
    findings = [*earlier, *findings, *forming_rows(time_findings(*times, codes), values, times[0].asi8, codes)]
    defects = tuple(finding.defect(rows) for finding in findings)
    keep = _judge(findings, defects, len(frame), rows, reading)
    bars = pd.DataFrame({**columns, **{name: values[name] for name in FEATURES}}, copy=False)
    rows_read = len(bars) + sum(len(finding.rows_gone) for finding in findings)
    if keep is not None:
        bars, rows, codes = bars[keep], rows[keep], codes[keep] if codes is not None else None
    if codes is not None and (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        bars, rows, codes = bars.iloc[order], rows[order], codes[order]
    bars = bars.reset_index(drop=True)
    left, warnings = _without_filled(bars, rows, reading)
    if left is not None:
        bars, rows, codes = bars.iloc[left].reset_index(drop=True), rows[left], None if codes is None else codes[left]
    if len(bars) < reading.min_rows:
        raise DataError(f"{reading.where}: there are {len(bars)} usable bars, at least {reading.min_rows} are needed.")
    empty = np.flatnonzero(bars["volume"].to_numpy() == 0)
    some = [Finding("zero_volume", empty, "volume").defect(rows)] if 0 < len(empty) < len(bars) else []
    summary = _summary(bars, report, codes, names)
    if summary.frequency is None and codes is None and len(bars) < rows_read:  # dropped rows show it, too
        size = infer_frequency(times[0].dropna().unique().sort_values())
        summary = replace(summary, frequency=str(size) if size else None)
    bars.attrs["report"] = replace(
        summary,
        rows=len(bars),
        rows_read=rows_read,
        dropped=rows_read - len(bars),
        defects=defects,
        warnings=(*report.warnings, *warnings, *some),
        notes=tuple(reading.notes),
    )
    return bars, rows


def _symbols(
    frame: pd.DataFrame, rows: Rows, reading: ReadContext
) -> tuple[npt.NDArray[np.intp] | None, pd.Index[Any]]:
    """The number of each row's symbol, None where the table names none, and the symbols in order."""
    if "symbol" not in frame.columns:
        return None, pd.Index([])
    missing = np.flatnonzero(frame["symbol"].isna())
    if len(missing):
        raise DataError(
            f"{reading.where}, row {rows[missing[0]]}, column symbol: no symbol, as in {len(missing)} rows. "
            "Fill them, or leave those rows out."
        )
    codes, unique = pd.factorize(frame["symbol"].astype(str), sort=True)
    return codes, pd.Index(unique)


def _without_filled(bars: pd.DataFrame, rows: Rows, reading: ReadContext) -> tuple[Rows | None, list[Defect]]:
    """The bars that stay (None: all) where dropping leaves out days, too, that a source wrote without a bar; told."""
    if reading.on_defect == "strict" or reading.inspecting or not (bars["volume"] == 0).any():
        return None, []
    times = bars["timestamp"]
    size = infer_frequency(pd.DatetimeIndex(times if "symbol" not in bars.columns else times.unique()).sort_values())
    filled = filled_days(bars) if str(size) == "1d" else np.zeros(0, dtype=bool)
    if not filled.any():
        return None, []
    days = np.flatnonzero(filled)
    reading.note(
        f"{len(days)} day{'s' * (len(days) > 1)} at the close before with nothing traded left out: suspended, "
        "and filled by the source"
    )
    example = named_days(pd.DatetimeIndex(times.iloc[days]))
    return np.flatnonzero(~filled), [Finding("suspended_day", days, None, example).defect(rows)]


def as_bars(table: Any) -> pd.DataFrame | None:
    """The bars of a table that is a bars table of one symbol already, judged as any other but without a report.

    A universe's contexts come as slices of tables that were read before; to recognise each one's layout again would
    take as long as to forecast it. None: not such a table, or one with defects; ``read_bars`` says what is wrong.
    """
    if not isinstance(table, pd.DataFrame) or len(table) == 0:
        return None
    names = tuple(table.columns)
    types = dict(zip(names, table.dtypes, strict=True))
    plain = names == COLUMNS or names == ("timestamp", *FEATURES)
    if not plain or types["timestamp"].kind != "M" or any(types[name] != np.float64 for name in FEATURES):
        return None
    times = pd.DatetimeIndex(table["timestamp"])
    columns: dict[str, Any] = {"timestamp": times}
    if "symbol" in types:
        symbol = table["symbol"].iloc[0]
        if not isinstance(symbol, str) or not (table["symbol"] == symbol).all():
            return None
        columns["symbol"] = symbol
    values, findings = value_findings(table, ReadContext())
    if findings or time_findings(times, None, None):
        return None
    return pd.DataFrame(
        {**columns, **{name: values[name] for name in FEATURES}}
    )  # a copy: the caller may change theirs


def _judge(
    findings: list[Finding], defects: tuple[Defect, ...], total: int, rows: Rows, reading: ReadContext
) -> Mask | None:
    """The rows to keep (None: all), or a refusal: of strict mode with the first defective row in full."""
    if not findings:
        return None
    bad, forming = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    for finding in findings:
        bad[finding.where] = True
        forming[finding.where] |= finding.kind == "forming_bar"
    droppable = bad[~forming].mean() <= _MOST_DROPPED  # a bar that was written often while it formed is still one bar
    if reading.on_defect == "strict":
        seen = {finding.kind: int(rows[finding.seen_at]) for finding in findings if finding.seen_at is not None}
        first, *others = sorted(defects, key=lambda defect: seen.get(defect.kind, defect.rows[0]))
        row = seen.get(first.kind, first.rows[0])
        mend = DEFECTS[first.kind][1] or "Correct the rows"
        if first.kind == "newest_first":
            raise DataError(f"{reading.where}, from row {first.rows[0]}, column timestamp: {first.text}.\n{mend}.")
        column = f", column{'s' * (',' in first.column)} {first.column}" if first.column else ""
        example = f" ({first.example})" if first.example else ""
        more = f"; {first.count - 1} more row{'s' * (first.count > 2)} like it" if first.count > 1 else ""
        also = "; also " + ", ".join(f"{other.kind} {other.count}×" for other in others[:4]) if others else ""
        drop = ", or drop defective rows with on_defect='drop' (--on-defect drop)" if droppable else ""
        raise DataError(f"{reading.where}, row {row}{column}: {first.text}{example}{more}{also}.\n{mend}{drop}.")
    if not droppable:
        bad = bad[~forming]
        worst = max(defects, key=lambda defect: defect.count)
        mend = DEFECTS[worst.kind][1] or "Check the columns and the order of the rows"
        raise DataError(
            f"{reading.where}: {int(bad.sum())} of {len(bad)} rows are defective, mostly because "
            f"{worst.text}; too many to drop. {mend}."
        )
    for finding in findings:
        if finding.kind == "forming_bar":
            reading.note(
                f"of bars that were still forming the last row is kept: {len(finding.where)} earlier ones dropped"
            )
    return ~bad


def _summary(
    bars: pd.DataFrame, report: BarsReport, codes: npt.NDArray[np.intp] | None, names: pd.Index[Any]
) -> BarsReport:
    """The report with symbols, span, bar size and zone."""
    times = pd.DatetimeIndex(bars["timestamp"])
    if len(times) == 0:
        return report
    symbols, first, last = report.symbols, times[0], times[-1]
    if codes is not None:
        counts = np.bincount(codes, minlength=len(names))
        symbols = tuple(str(name) for name in names[counts > 0])
        first, last = times.min(), times.max()
        start = int(np.searchsorted(codes, counts.argmax()))
        times = times[start : start + int(counts.max())]  # the longest series shows the bar size best
    size = infer_frequency(times)
    zone, frequency = None if times.tz is None else str(times.tz), str(size) if size else None
    return replace(report, symbols=symbols, first=first, last=last, frequency=frequency, timezone=zone)
