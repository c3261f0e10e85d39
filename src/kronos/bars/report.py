"""One reading of a table: what the caller decided, what was recognised, and what was wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args

import pandas as pd

from kronos.errors import ConfigError, DataError

OnDefect = Literal["strict", "drop", "mend"]


def shown(found: object, width: int = 40) -> str:
    """What stands in a file, fit for one line of an error: cut, and odd characters escaped."""
    text = str(found)
    text = text if len(text) <= width else text[: width - 1] + "…"
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def listing(names: Iterable[object], most: int = 12) -> str:
    """Column names for an error."""
    shown_names = [repr(shown(name, 24)) for name in names]
    return ", ".join(shown_names[:most]) + (" …" if len(shown_names) > most else "") if shown_names else "no columns"


def name_columns(**spots: object) -> str:
    """The option that names columns, as Python says it and, in brackets, as the command line does."""
    python = ", ".join(f"'{role}': {spot}" for role, spot in spots.items())
    shell = " ".join(f"--column {role}={spot}" for role, spot in spots.items())
    return f"columns={{{python}}} ({shell})"


_ADVISED: Final = re.compile(r"\b(\w+)=(\{[^}]*\}|'[^']*'|\w+) \(--[^)]*\)")


def for_table(text: str) -> str:
    """The advice of ``read_bars`` for callers whose call has no such options: ``read_bars(..., epoch='s')``."""
    return _ADVISED.sub(r"read_bars(..., \1=\2)", text)


DEFECTS: Final[dict[str, tuple[str, str]]] = {
    "unparsable_time": (
        "the timestamp cannot be read",
        f"Correct the timestamps, or name the right column with {name_columns(timestamp='NAME')}",
    ),
    "text_in_number": (
        "text where a number is expected",
        "Correct the cells, or say how decimals are written: decimal=',' (--decimal ,)",
    ),
    "missing_price": ("a price is missing", ""),
    "infinite_price": ("a price is infinite, or too large for 32-bit floats", ""),
    "nonpositive_price": ("a price is zero or negative", ""),
    "empty_bar": (
        "all prices are missing: a suspended day, or a row without a bar",
        "Leave such rows out",
    ),
    "halted_bar": (
        "open, high and low are 0: nothing was traded, as on a day of halt or a holiday",
        "Leave such rows out",
    ),
    "rounded_prices": (
        "every price is 0: the source has probably rounded them",
        "Get the prices with more decimals; they cannot be restored",
    ),
    "zero_open": (
        "the open is 0 beside real prices, as some sources write the minutes of past days (akshare)",
        "Set such opens to the close before with on_defect='mend' (--on-defect mend)",
    ),
    "negative_price": (
        "the price is negative",
        "Such prices can be real (oil in April 2020, power, spreads), but have no log returns, which models here read",
    ),
    "high_below_low": ("high is below low", ""),
    "high_below_body": ("high is below open or close", ""),
    "low_above_body": ("low is above open or close", ""),
    "negative_volume": ("volume is negative", ""),
    "infinite_volume": ("volume is infinite", ""),
    "negative_amount": ("amount is negative", ""),
    "infinite_amount": ("amount is infinite", ""),
    "duplicate_time": (
        "the timestamp appeared before",
        f"Keep one row a timestamp; where many symbols share the table, name theirs with {name_columns(symbol='NAME')}",
    ),
    "forming_bar": (
        "a later row of the same time holds the bar as it was formed",
        "Keep the last row of each bar",
    ),
    "newest_first": (
        "the rows run newest first",
        "Sort them oldest first, or have them turned round with newest_first=True (--newest-first)",
    ),
    "unsorted_time": ("the timestamp is out of order", "Sort the rows oldest first"),
    "ragged_row": ("the row has another number of columns than the table", ""),
    "stray_row": ("the row is no bar: words where the rows below it hold numbers", ""),
    "gap": ("bars are missing before this row", ""),
    "zero_volume": ("no volume was traded", ""),
    "dividend_suspect": ("the adjusted close changes its distance: a dividend or split", ""),
    "split_suspect": ("the price jumps by a ratio that looks like a split", ""),
    "price_limit": (
        "the price jumps by more than the exchange allows a day: a split, a rights issue, or a mistake",
        "",
    ),
    "price_jump": ("the price jumps by half or more: a split, another unit, or a mistake", ""),
    "wild_bar": ("the price jumps and comes back: a wrong bar", ""),
    "volume_step": ("the volume goes on in another size: its unit or source changed", ""),
    "tiny_volume": ("less than one unit was traded where thousands are usual: the volume is broken", ""),
    "flat_filler": ("bars repeat the close before and trade nothing: filler, or nobody traded", ""),
    "suspended_day": ("a session at the close before, with nothing traded: suspended, and filled by the source", ""),
    "off_grid": ("the timestamp lies a moment beside the minute that others keep", ""),
    "outside_session": ("the bar lies outside the trading sessions", ""),
}
"""Every kind of defect or warning, in plain words, and what mends it where correcting the rows does not say it all."""


class TwoReadingsError(DataError):
    """Bars that can be read in two ways; the message names the option that decides."""


@dataclass(frozen=True, kw_only=True)
class ReadContext:
    """The options of ``read_bars``, the name of the source in errors, and the notes for its report.

    Raises:
        ConfigError: ``on_defect`` is none of ``strict``, ``drop`` and ``mend``, or this machine does not know the zone.
    """

    where: str = "The table"
    symbol: str | None = None
    columns: dict[str, str | int] | None = None
    timezone: str | None = None
    on_defect: OnDefect = "strict"
    min_rows: int = 1
    dayfirst: bool | None = None
    epoch: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    newest_first: bool | None = None
    inspecting: bool = False  # what may stay is told, not dropped
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_defect not in get_args(OnDefect):
            raise ConfigError(f"on_defect must be 'strict', 'drop' or 'mend', not '{self.on_defect}'.")
        if self.timezone is not None:
            try:
                pd.Timestamp("2024-01-01").tz_localize(self.timezone)
            except Exception as error:
                raise ConfigError(
                    f"Unknown time zone '{self.timezone}'. Use an IANA name such as UTC, Asia/Shanghai or "
                    "America/New_York."
                ) from error

    def note(self, text: str) -> None:
        """Add a reading that was chosen to the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse_empty(self, count: int) -> None:
        """Raise DataError where there are no rows."""
        if count == 0:
            raise DataError(f"{self.where}: there are no rows of data. Bars need at least {max(self.min_rows, 1)}.")


@dataclass(frozen=True)
class Defect:
    """One kind of defect.

    Attributes:
        kind: a key of ``DEFECTS``.
        count: rows concerned.
        rows: the first of them (at most 10). Rows count from 1; in a text file they are the file's own
            line numbers, header included, as an editor shows them.
        column: the column, where one can be named.
        example: what was found in the first row.
    """

    kind: str
    count: int
    rows: tuple[int, ...] = ()
    column: str | None = None
    example: str | None = None

    @property
    def text(self) -> str:
        """The kind in plain words."""
        return DEFECTS[self.kind][0]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {"kind": self.kind, "text": self.text, **vars(self), "rows": list(self.rows)}


@dataclass(frozen=True, repr=False)
class BarsReport(dict[str, Any]):
    """What was recognised in a table of bars; found as ``bars.attrs["report"]``.

    The report is also a mapping of plain types (the same as ``to_dict()``), because pandas writes
    ``attrs`` as JSON beside the data and can do so only with plain types.

    Attributes:
        layout: name of the recognised layout.
        source: the file, or ``"table"``.
        symbols: the symbols, empty when the table names none.
        rows: bars returned.
        rows_read: rows found, before any were dropped.
        first, last: first and last timestamp.
        frequency: bar size, such as ``"5m"`` or ``"1d"``; None when it cannot be told.
        timezone: ``"UTC"`` or an IANA name for aware timestamps; None when the file does not say
            (then the timestamps are wall time, as written).
        timezone_guess: the zone that the trading hours suggest, when the file does not say.
        calendar: the calendar that the timestamps fit, or None.
        stamp: ``"start"`` or ``"end"`` of the bar, None when not told apart.
        left_out: columns of the source that were not used.
        defects: what is wrong (refused in strict mode, dropped in drop mode, set right or dropped in mend mode).
        warnings: what was accepted but is worth knowing (gaps, no volume).
        notes: readings that were chosen, in words.
        dropped: rows dropped because of defects.
    """

    layout: str = "table"
    source: str = "table"
    symbols: tuple[str, ...] = ()
    rows: int = 0
    rows_read: int = 0
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    frequency: str | None = None
    timezone: str | None = None
    timezone_guess: str | None = None
    calendar: str | None = None
    stamp: str | None = None
    left_out: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    warnings: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, pd.Timestamp):
                value = value.isoformat()
            elif isinstance(value, tuple):
                value = [part.to_dict() if isinstance(part, Defect) else part for part in value]
            self[item.name] = value
        self["symbol"] = self.symbol

    @property
    def symbol(self) -> str | None:
        """The symbol, when there is exactly one."""
        return self.symbols[0] if len(self.symbols) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types, ready for JSON."""
        return dict(self)

    def noted(self, *notes: str, **changes: Any) -> BarsReport:
        """The report with more notes, and other values of some fields."""
        return replace(self, notes=(*self.notes, *notes), **changes)

    def facts(self) -> dict[str, str]:
        """What was recognised, in words for people."""
        what = "days" if (self.frequency or "").endswith(("d", "w", "mo")) else "hours"
        hours = f"; the {what} are those of {self.timezone_guess}" if self.timezone_guess else ""
        stamp = f", stamps name the {self.stamp} of the bar" if self.stamp else ""
        more = f" … ({len(self.symbols)})" if len(self.symbols) > 8 else ""
        return {
            "file": self.source,
            "layout": self.layout,
            "symbol": ", ".join(self.symbols[:8]) + more or "not named",
            "bar size": self.frequency or "cannot be told",
            "time zone": self.timezone or f"not said{hours or '; the times are wall time'}",
            "calendar": (self.calendar or "none stands out") + stamp,
            "rows": f"{self.rows:,}" + (f" of {self.rows_read:,}" if self.dropped else ""),
            "from": str(self.first),
            "to": str(self.last),
            "left out": ", ".join(self.left_out) or "no column",
            "read as": "; ".join(self.notes) or "written",
        }

    def __repr__(self) -> str:
        span = f"{self.first} … {self.last}" if self.rows else "no rows"
        return f"BarsReport({self.layout}, {self.symbol or 'no symbol'}, {self.rows} × {self.frequency}, {span})"

    # pandas copies attrs deeply at every step; a frozen report need not be.
    def __copy__(self) -> BarsReport:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BarsReport:
        return self
