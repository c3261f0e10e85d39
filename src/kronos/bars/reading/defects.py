"""Finds defects in columns: each finder returns the rows concerned, none changes anything."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.reading.times import clock_change
from kronos.bars.reading.words import BLANKS
from kronos.bars.report import Defect, ReadContext, shown
from kronos.bars.schema import PRICES

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

TOLERANCE: Final = 1e-6
"""Relative slack of the comparisons between prices: eight steps of a 32-bit float, so that bars which
passed through float32, or were printed with seven digits, are not refused."""


@dataclass(frozen=True)
class Finding:
    """One kind of defect, with every row concerned."""

    kind: str  # a key of DEFECTS
    where: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # 0-based positions in the table
    column: str | None = None
    example: str | None = None  # what the first of the rows holds
    rows_gone: tuple[int, ...] = ()  # numbers of rows that the reader could not put into the table at all
    seen_at: int | None = None  # the position that shows the defect, where others must go to mend it

    def defect(self, rows: Rows) -> Defect:
        """The finding as an entry of the report; ``rows`` are the row numbers of the whole table."""
        first = self.rows_gone[:10] or tuple(rows[self.where[:10]].tolist())
        return Defect(self.kind, len(self.where) + len(self.rows_gone), first, self.column, self.example)


def _at(kind: str, mask: Mask, column: str, values: Any) -> list[Finding]:
    """A finding when the mask has any row."""
    positions = np.flatnonzero(mask)
    if len(positions) == 0:
        return []
    found = values[positions[0]]
    return [Finding(kind, positions, column, f"{found:.10g}" if isinstance(found, float) else shown(found))]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what overflows is found and named
def value_findings(frame: pd.DataFrame, reading: ReadContext) -> tuple[dict[str, Floats], list[Finding]]:
    """The six features as float64, and their defects; what is filled in is noted."""
    values: dict[str, Floats] = {}
    findings: list[Finding] = []
    for name in PRICES:
        values[name], text, found = _floats(name, frame[name])
        price = values[name]
        findings += found
        if price.size and np.isfinite(price.sum()) and price.min() > 1e-37 and price.max() < 3e38:
            continue  # the usual case, in one pass
        single, missing = price.astype(np.float32), np.isnan(price)
        if len(positions := np.flatnonzero(missing & ~text)):
            findings.append(Finding("missing_price", positions, name))
        findings += _at("infinite_price", np.isinf(single), name, price)
        findings += _at("nonpositive_price", ~missing & (single <= 0), name, price)
    if findings and any(finding.kind in ("missing_price", "nonpositive_price") for finding in findings):
        findings = _with_reasons(values, findings)
        zero = next((finding for finding in findings if finding.kind == "zero_open"), None)
        if zero is not None and reading.on_defect == "mend":
            findings.remove(zero)
            _open_at_the_close_before(values, frame, zero, reading)
    findings += _shape_findings(values, findings)
    for name in ("volume", "amount"):
        values[name], found = _traded(name, frame, values, reading, findings)
        findings += found
    if {"volume", "amount"} <= set(frame.columns):
        # Volume in lots or amount in thousands is common; it is said, never changed.
        stride = len(values["close"]) // 10_000 + 1  # a sample from the whole table is enough for a note
        sample = {name: column[::stride] for name, column in values.items()}
        worth, amount = sample["volume"] * _mean_price(sample), sample["amount"]
        traded = (worth > 0) & (amount > 0) & np.isfinite(worth) & np.isfinite(amount)
        ratio = float(np.median(amount[traded] / worth[traded])) if traded.any() else 1.0
        if 50 < ratio < 200:
            reading.note("volume is in lots: amount is about 100 × volume × price")
        elif not 0.5 < ratio < 2:
            reading.note(f"amount is about {ratio:.2g} × volume × price: their units differ")
    merged: dict[str, Finding] = {}  # one finding a kind: a row with four missing prices is one defect, not four
    for finding in findings:
        if before := merged.get(finding.kind):
            earlier = before if before.where[0] <= finding.where[0] else finding
            where, column = np.union1d(before.where, finding.where), f"{before.column}, {finding.column}"
            finding = Finding(finding.kind, where, column, earlier.example)
        merged[finding.kind] = finding
    return values, list(merged.values())


def _with_reasons(values: dict[str, Floats], findings: list[Finding]) -> list[Finding]:
    """The findings of prices, those of missing and non-positive ones divided by what the rows are.

    Most such rows are a habit of their source, which has a name and a remedy.

    Args:
        values: the four prices.
        findings: at most one of each price and kind.
    """
    prices = np.stack([values[name] for name in PRICES])
    zero, missing = prices == 0, np.isnan(prices)
    opened, high, low, close = prices
    with np.errstate(invalid="ignore"):
        valid = (low <= np.minimum(opened, close)) & (high >= np.maximum(opened, close))
    kinds: dict[str, tuple[Mask, str]] = {
        "empty_bar": (np.asarray(missing.all(axis=0)), ", ".join(PRICES)),
        "rounded_prices": (np.full(len(close), bool(zero.all())), ", ".join(PRICES)),
        "halted_bar": (np.asarray(zero[:3].all(axis=0) & ~missing[3] & (close >= 0)), "open, high, low"),
        "zero_open": (zero[0] & (prices[1:] > 0).all(axis=0) & (low <= close) & (close <= high), "open"),
        "negative_price": ((low < 0) & valid & ~zero.any(axis=0), ", ".join(PRICES)),
    }
    taken = np.zeros(len(close), dtype=bool)
    named: list[Finding] = []
    for kind, (mask, column) in kinds.items():
        rows = np.flatnonzero(mask & ~taken)
        taken |= mask
        if len(rows):
            found = prices[:, rows[0]]
            example = None if kind in ("empty_bar", "zero_open") else f"close {found[3]:.10g}"
            named.append(Finding(kind, rows, column, example))
    left = [
        replace(finding, where=finding.where[~taken[finding.where]])
        if finding.kind in ("missing_price", "nonpositive_price")
        else finding
        for finding in findings
    ]
    return [*named, *(finding for finding in left if len(finding.where))]


def _open_at_the_close_before(
    values: dict[str, Floats], frame: pd.DataFrame, zero: Finding, reading: ReadContext
) -> None:
    """Set opens of 0 to the close before, held within the bar's own low and high; the first bar's to its own close."""
    rows, close, opened = zero.where, values["close"], values["open"].copy()
    before = np.append(close[:1], close[:-1])
    if "symbol" in frame.columns:
        symbol = frame["symbol"].to_numpy()
        before = np.where(np.append(False, symbol[1:] == symbol[:-1]), before, close)
    before = np.where(before > 0, before, close)
    opened[rows] = np.clip(before[rows], values["low"][rows], values["high"][rows])
    values["open"] = opened
    reading.note(f"open is 0 in {len(rows)} rows: set to the close before, as asked")


def _mean_price(values: dict[str, Floats]) -> Floats:
    return (values["open"] + values["high"] + values["low"] + values["close"]) / 4


def _floats(name: str, series: pd.Series[Any]) -> tuple[Floats, Mask, list[Finding]]:
    """A column as float64, the rows that hold text instead of a number, and the finding that says so."""
    text = np.zeros(len(series), dtype=bool)
    if series.dtype.kind in "iuf" and isinstance(series.dtype, np.dtype):
        return series.to_numpy(dtype=np.float64), text, []
    if series.dtype.kind == "b":
        values, text = np.full(len(series), np.nan), ~text
    else:
        values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        text = np.isnan(values) & ~series.isna().to_numpy(dtype=bool)
        if text.any():  # words that mean "nothing here" are a missing value, not text
            words = series[text].astype(str).str.strip().str.lower()
            text[text] = ~words.isin({blank.lower() for blank in BLANKS}).to_numpy()
    return values, text, _at("text_in_number", text, name, series.to_numpy()) if text.any() else []


def _shape_findings(values: dict[str, Floats], earlier: list[Finding]) -> list[Finding]:
    """Bars whose prices are sound one by one but contradict each other."""
    top = np.maximum(values["open"], values["close"])
    bottom = np.minimum(values["open"], values["close"])
    high, low = values["high"], values["low"]
    if (high >= top).all() and (low <= bottom).all():
        return []  # the usual case
    sound = np.ones(len(high), dtype=bool)
    for finding in earlier:
        sound[finding.where] = False
    slack = TOLERANCE * np.abs(high)
    crossed = (high < low - slack) & sound
    short = (high < top - slack) & ~crossed & sound
    long = (low > bottom + slack) & ~crossed & sound
    return [
        Finding(kind, rows, column, f"{values[column][rows[0]]:.10g} against {other[rows[0]]:.10g}")
        for kind, mask, column, other in (
            ("high_below_low", crossed, "high", low),
            ("high_below_body", short, "high", top),
            ("low_above_body", long, "low", bottom),
        )
        if len(rows := np.flatnonzero(mask))
    ]


def _traded(
    name: str, frame: pd.DataFrame, values: dict[str, Floats], reading: ReadContext, earlier: list[Finding]
) -> tuple[Floats, list[Finding]]:
    """Volume or amount; absent volume is 0, absent amount is volume times the mean price."""
    there = name in frame.columns
    if name == "amount" and "volume" not in frame.columns:
        if there:
            reading.note("amount without volume: both read as 0")
        return np.zeros(len(frame)), []
    column, text, findings = _floats(name, frame[name] if there else pd.Series(np.nan, frame.index))
    if column.size and np.isfinite(column.sum()) and column.min() >= 0 and column.max() < 3e38:
        return column, findings
    missing = np.isnan(column)
    worth = np.zeros(len(frame)) if name == "volume" else values["volume"] * _mean_price(values)
    stand_in = np.where(np.isfinite(worth), worth, 0.0)
    if missing.all() and not text.any():
        reading.note("no volume: volume and amount are 0" if name == "volume" else "no amount: volume × mean price")
        return stand_in, findings
    blank = missing & ~text
    for finding in earlier:
        blank[finding.where] = False  # of a row that goes, nothing is filled in
    if filled := int(blank.sum()):
        words = "0" if name == "volume" else "volume × mean price"
        reading.note(f"{name} is missing in {filled} rows: read as {words}")
    findings += _at(f"negative_{name}", column < 0, name, column)
    findings += _at(f"infinite_{name}", np.isinf(column.astype(np.float32)), name, column)
    return np.where(missing, stand_in, column), findings


def time_findings(times: pd.DatetimeIndex, unread: str | None, codes: npt.NDArray[np.intp] | None) -> list[Finding]:
    """Unparsable, duplicate and unsorted timestamps; order is judged within each symbol."""
    stamps, bad = times.asi8, np.asarray(times.isna(), dtype=bool)
    found = [Finding("unparsable_time", np.flatnonzero(bad), "timestamp", unread)] if bad.any() else []
    if codes is None:
        parts = [np.flatnonzero(~bad)]
    else:
        order = np.argsort(codes, kind="stable")
        order = order[~bad[order]]
        parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    pairs = zip(*(_order(part, stamps) for part in parts), strict=True)
    duplicates, unsorted = (np.sort(np.concatenate(rows)) for rows in pairs)
    if len(unsorted) and (np.diff(stamps[~bad]) <= 0).mean() > 0.95:
        found.append(Finding("newest_first", unsorted, "timestamp"))
        unsorted = unsorted[:0]
    for kind, rows in (("duplicate_time", duplicates), ("unsorted_time", unsorted)):
        if len(rows):
            row = int(rows[0]) if kind == "duplicate_time" else _first_step_back(parts, stamps, duplicates)
            found.append(Finding(kind, rows, "timestamp", _in_its_place(times, row, codes), seen_at=row))
    return found


def _first_step_back(parts: list[Rows], stamps: Rows, duplicates: Rows) -> int:
    """The first row that is earlier than the one before it of its symbol; repeated ones are another matter."""
    single = [part[~np.isin(part, duplicates)] for part in parts]
    return min(int(part[1:][np.diff(stamps[part]) < 0].min(initial=len(stamps))) for part in single)


def _in_its_place(times: pd.DatetimeIndex, row: int, codes: npt.NDArray[np.intp] | None) -> str:
    """A stamp that repeats or is out of order, beside that before it of its symbol, and a clock change as its cause."""
    stamp = times[row]
    before = ~np.asarray(times[:row].isna())
    if codes is not None:
        before &= codes[:row] == codes[row]
    last = np.flatnonzero(before)[-1:]
    whose = " of the same symbol" if codes is not None and len(last) and codes.min() < codes.max() else ""
    text = f"{stamp}, after {times[last[0]]}{whose}" if len(last) else str(stamp)
    zone = clock_change(stamp)
    hint = f"timezone='{zone}' (--timezone {zone}) tells the hours apart"
    return text if zone is None else f"{text}; the clocks went back then in {zone}: {hint}"


def forming_rows(
    found: list[Finding], values: dict[str, Floats], stamps: Rows, codes: npt.NDArray[np.intp] | None
) -> list[Finding]:
    """The findings, those of repeated times parted: where rows hold one bar while it formed, the last one is the bar.

    Such rows stand one below the other, have one open, and none shrinks: high, low and volume only grow.
    """
    repeated = next((finding for finding in found if finding.kind == "duplicate_time"), None)
    if repeated is None:
        return found
    rows = repeated.where
    before = np.maximum(rows - 1, 0)
    grown = (rows > 0) & (stamps[rows] == stamps[before]) & (values["open"][rows] == values["open"][before])
    grown &= (values["high"][rows] >= values["high"][before]) & (values["low"][rows] <= values["low"][before])
    grown &= values["volume"][rows] >= values["volume"][before]
    grown &= (values["close"][rows] != values["close"][before]) | (values["volume"][rows] > values["volume"][before])
    series = np.zeros(len(stamps), dtype=np.intp) if codes is None else codes
    grown &= series[rows] == series[before]
    for other in found:
        if other is not repeated:
            grown &= ~np.isin(before, other.where)
    # Where one of the rows of a time contradicts the row before it, none is taken for a bar that was forming.
    grown = pd.Series(grown).groupby([series[rows], stamps[rows]]).transform("all").to_numpy(dtype=bool)
    if not grown.any():
        return found
    first, last = (values["close"][some[grown][0]] for some in (before, rows))
    example = f"{repeated.example}, close {first:.10g} and then {last:.10g}"
    forming = Finding("forming_bar", before[grown], "timestamp", example)
    rest = replace(repeated, where=rows[~grown])
    return [*(one for one in found if one is not repeated), forming, *([rest] if len(rest.where) else [])]


def _order(positions: Rows, stamps: Rows) -> tuple[Rows, Rows]:
    """Positions whose stamp appeared before, and the fewest others that must go for the rest to be sorted."""
    series = stamps[positions]
    if len(series) < 2 or (np.diff(series) > 0).all():
        return positions[:0], positions[:0]
    again = pd.Series(series).duplicated().to_numpy()
    kept, series = positions[~again], series[~again]
    ahead = np.maximum.accumulate(series)
    behind = np.minimum.accumulate(series[::-1])[::-1]
    # A row is in place when nothing before it is later and nothing after it is earlier.
    disturbed = np.flatnonzero((series < ahead) | (series > behind))
    return positions[again], kept[np.delete(disturbed, _longest_rising(series[disturbed]))]


def _longest_rising(series: Rows) -> list[int]:
    """Positions of a longest strictly rising subsequence; of two rows that changed places the earlier one is in it."""
    last = len(series) - 1
    return [last - position for position in _latest_rising(-series[::-1])][::-1]


def _latest_rising(series: Rows) -> list[int]:
    """Positions of a longest strictly rising subsequence, the last of equal ones (patience sorting)."""
    tails: list[int] = []
    ends: list[int] = []
    before = [-1] * len(series)
    for position, value in enumerate(series.tolist()):
        slot = bisect.bisect_left(tails, value)
        if slot:
            before[position] = ends[slot - 1]
        if slot == len(tails):
            tails.append(value)
            ends.append(position)
        else:
            tails[slot], ends[slot] = value, position
    chain: list[int] = []
    position = ends[-1] if ends else -1
    while position >= 0:
        chain.append(position)
        position = before[position]
    return chain[::-1]
