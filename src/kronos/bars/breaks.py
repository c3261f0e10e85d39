"""Breaks of a series: where its prices or its volume go on in another unit.

A split, a bonus issue, a change of contract or of the source's unit is no move of the market. Breaks are suspected and
told; :mod:`kronos.bars.adjust` brings bars into one unit where the caller asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.clues import daily_limit
from kronos.bars.runs import runs

Floats = npt.NDArray[np.float64]
Kind = Literal["split_suspect", "price_limit", "price_jump", "wild_bar", "volume_step"]

_RATIOS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100, 3 / 2, 5 / 2, 5 / 4, 4 / 3, 7 / 5, 6 / 5, 13 / 10)
_SPLITS: Final = np.array([*_RATIOS, *(1 / ratio for ratio in _RATIOS if ratio == int(ratio))])
"""Old price over new: shares are joined in whole numbers, divided and given as a bonus in others, too."""

_TENTHS: Final = _SPLITS[~np.isclose(_SPLITS, 4 / 3)]
"""The same where exchanges limit a day's move, in East Asia: bonus shares are given so many for ten."""

_CASH: Final = 0.01  # log gap of the dividend that such a bonus usually comes with

_NEAR: Final = 0.02  # of the ratio; overnight moves blur it
_RARE: Final = 1.25  # smaller splits are for exchanges whose price limit rules out that it was a move
_USUAL: Final = 8.0  # a break stands out by so many usual moves
_LEAST: Final = float(np.log(1.15))  # no smaller gap is one, unless a price limit says so
_LARGE: Final = 0.4  # log gap that no usual market opens with
_ALWAYS: Final = float(np.log(4.0))  # no news move a price as far
_NEWS: Final = 2.5  # times the usual volume: whoever trades so much trades on news
_BACK: Final = 3  # bars within which a price that jumps and comes back was wrong in between
_STEP: Final = 10.0  # a lasting step of volume by more is a change of its unit
_SHORT_STEP: Final = 30.0  # … where there are too few days to tell by less
_SPAN: Final = 20  # days or bars on either side that volume is judged by
_ENOUGH: Final = 10  # bars of a day or more on either side of a step of volume
_ENOUGH_DAYS: Final = 3  # the same in days of intraday bars
_CALM: Final = 3.0  # usual moves; beyond them volume steps with the news
_CALM_FAR: Final = 6.0  # … where all days behind a step lie so far from all before it that a usual day may move, too


@dataclass(frozen=True)
class Break:
    """One break of a series.

    Attributes:
        kind: ``split_suspect`` (near a usual ratio), ``price_limit`` (a gap that the exchange allows nobody to trade),
            ``price_jump`` (a gap by half and more), ``wild_bar`` (a jump, and back within three bars), ``volume_step``.
        row: 0-based, of the first bar behind it.
        timestamp: of that bar.
        seen: price before over price after, as found; of a volume step volume after over volume before.
        factor: what earlier prices (volume) would be divided (multiplied) by; None where only the caller can know.
        others: of a ``split_suspect``, other ratios no further than a usual move, such as 1.4 beside 4/3.
        limit: of a ``price_limit``, the share that the exchange allows.
        end: of a ``wild_bar``, the row at which prices are back.
    """

    kind: Kind
    row: int
    timestamp: pd.Timestamp
    seen: float
    factor: float | None = None
    limit: float | None = None
    end: int | None = None
    others: tuple[float, ...] = ()

    @property
    def day(self) -> str:
        """Its date, and its time of day where it has one."""
        wall = self.timestamp.tz_localize(None)  # zones that skip a midnight have none to compare with
        return f"{wall:%Y-%m-%d}" if wall == wall.normalize() else f"{wall:%Y-%m-%d %H:%M}"

    @property
    def text(self) -> str:
        """In words, such as ``4 for 1 on 2020-08-31 (seen 3.95)``."""
        when = self.day
        if self.kind == "split_suspect" and self.factor is not None:
            return split_text(self.factor, self.timestamp, self.seen)
        if self.kind == "price_limit":
            return f"{_gap(self.seen)} on {when}, beyond the {self.limit:.0%} that the exchange allows a day"
        if self.kind == "volume_step":
            return f"{_times(self.seen)} from {when} on"
        return f"{_gap(self.seen)} on {when}" + (", and back" if self.kind == "wild_bar" else "")

    @property
    def caution(self) -> str:
        """What has to be said of a forecast whose context holds this break, and what to do."""
        when = self.day
        if self.kind == "volume_step":
            return (
                f"volume is {_times(self.seen)} from {when} on, as if its unit or source had changed; "
                f"adjust='volume' (--adjust volume) multiplies the volume before by {self.seen:.3g}, adjust='cut' "
                "(--adjust cut) reads the bars since then alone"
            )
        if self.kind == "wild_bar":
            what = f"the price jumps on {when} ({_gap(self.seen)}) and comes back: the bars between are wrong"
        elif self.kind == "split_suspect" and self.factor is not None:
            what = (
                f"the price breaks on {when} ({_gap(self.seen)}) as in a split or bonus of {split_words(self.factor)}"
            )
        elif self.kind == "price_limit":
            what = (
                f"the price breaks on {when} ({_gap(self.seen)}) by more than the {self.limit:.0%} that the exchange "
                "allows a day: a split, bonus or rights issue, or a mistake"
            )
        else:
            what = f"the price breaks on {when} ({_gap(self.seen)}): a split, another unit, or a mistake"
        splits = ""
        if self.factor is not None:
            doubt = f" ({' or '.join(f'{one:.3g}' for one in self.others)} would fit, too)" if self.others else ""
            splits = f"adjust='splits' (--adjust splits) divides the prices before by {self.factor:.6g}{doubt}, "
        return (
            f"{what}; the forecast takes it for a move of the market: {splits}adjust='{when.replace(' ', 'T')}=FACTOR' "
            "by a factor that you know, adjust='cut' reads the bars since then alone"
        )


def split_words(ratio: float) -> str:
    """A split by old price over new: ``4 for 1``, ``1 for 10``."""
    return f"{ratio:.3g} for 1" if ratio > 1 else f"1 for {1 / ratio:.3g}"


def split_text(ratio: float, timestamp: pd.Timestamp, seen: float) -> str:
    """A suspected split in words, such as ``4 for 1 on 2020-08-31 (seen 3.95)``."""
    return f"{split_words(ratio)} on {timestamp} (seen {seen:.3g})"


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times as large" if ratio > 1 else f"1/{1 / ratio:.3g} as large"


def _gap(seen: float) -> str:
    """The price after in terms of the price before, of whose ratio ``seen`` is the inverse."""
    return (
        f"it opens at 1/{seen:.3g} of the close before"
        if seen > 1
        else f"it opens at {1 / seen:.3g} times the close before"
    )


# -- finding them ------------------------------------------------------------------------------------------------------


def find_breaks(bars: pd.DataFrame, symbol: str | None = None, calendar: str | None = None) -> list[Break]:
    """The breaks of one series, in order.

    Args:
        bars: a bars table of one symbol, prices positive.
        symbol, calendar: its name and where it trades, from which the exchange's price limit may be known.
    """
    if len(bars) < 3:
        return []
    times = pd.DatetimeIndex(bars["timestamp"])
    opens, closes, volume = (bars[name].to_numpy(dtype=np.float64) for name in ("open", "close", "volume"))
    found = _wild(_price_breaks(times, opens, closes, volume, daily_limit(symbol, calendar)))
    return sorted([*found, *_volume_steps(times, closes, volume, found)], key=lambda one: one.row)


def _price_breaks(
    times: pd.DatetimeIndex, opens: Floats, closes: Floats, volume: Floats, limit: float | None
) -> list[Break]:
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = closes[:-1] / opens[1:]
        moves = np.abs(np.log(seen))
    rows = np.flatnonzero(moves > (_LEAST if limit is None else min(_LEAST, -np.log1p(-limit))))
    if len(rows) == 0:
        return []  # the usual case
    usual = _usual_move(closes)
    ratios, cash = (_SPLITS, 0.0) if limit is None else (_TENTHS, _CASH)
    found: list[Break] = []
    for before in rows.tolist():
        row, ratio = before + 1, float(seen[before])
        beyond = limit is not None and _beyond(closes[before], opens[row], limit)
        away = np.abs(np.log(ratios / ratio) + cash)
        factor = float(ratios[np.argmin(away)])
        large = beyond or (moves[before] > _LEAST and moves[before] > _USUAL * usual)
        near = away.min() <= _NEAR + usual and (beyond or factor >= _RARE or factor < 1)
        news = not beyond and moves[before] < _ALWAYS and _much_traded(volume, row, max(ratio, 1.0))
        if large and near and not (news and 0.5 < factor < 2):
            others = tuple(sorted(ratios[(away < _NEAR + usual) & (ratios != factor)].tolist()))
            found.append(Break("split_suspect", row, times[row], ratio, factor, others=others))
        elif beyond:
            found.append(Break("price_limit", row, times[row], ratio, limit=limit))
        elif large and moves[before] > _LARGE and not news:
            found.append(Break("price_jump", row, times[row], ratio))
    return found


def _usual_move(closes: Floats) -> float:
    """The median move from close to close; of a few bars by their calmer half, which a jump cannot raise."""
    moves = np.abs(np.diff(np.log(closes)))
    middle = float(np.median(moves)) if len(moves) > _SPAN else 2.1 * float(np.quantile(moves, 0.25))
    return max(middle, 1e-4)


def _beyond(close: float, opened: float, limit: float) -> bool:
    """Whether a price lies outside of what an exchange allows after a close, which it rounds to a tick."""
    slack = 0.006 + 0.002 * close
    return not close * (1 - limit) - slack <= opened <= close * (1 + limit) + slack


def _much_traded(volume: Floats, row: int, ratio: float) -> bool:
    """Whether far more shares changed hands than usual, as they do on news, and as no split makes them."""
    before = float(np.median(volume[max(0, row - _SPAN) : row]))
    return before > 0 and float(volume[row]) > _NEWS * ratio * before


def _wild(breaks: list[Break]) -> list[Break]:
    """Two breaks within a few bars that undo each other are one wild bar."""
    found: list[Break] = []
    for one in breaks:
        last = found[-1] if found else None
        undone = last is not None and last.end is None and one.row - last.row <= _BACK
        if last is not None and undone and abs(np.log(last.seen * one.seen)) < 0.2 * abs(np.log(last.seen)):
            found[-1] = Break("wild_bar", last.row, last.timestamp, last.seen, last.factor or last.seen, end=one.row)
        else:
            found.append(one)
    return found


def _volume_steps(times: pd.DatetimeIndex, closes: Floats, volume: Floats, prices: list[Break]) -> list[Break]:
    """Lasting steps in the volume of days (of bars, where a bar is a day or more), at prices that hardly move."""
    traded = np.flatnonzero(volume > 0)
    if len(traded) < 2 * _ENOUGH_DAYS or np.ptp(np.log(volume[traded])) <= np.log(_STEP):
        return []
    days = times[traded].tz_localize(None).normalize()
    codes, begins = np.unique(days.asi8, return_index=True)
    intraday = len(codes) < len(traded)
    level = np.log(pd.Series(volume[traded]).groupby(np.searchsorted(codes, days.asi8)).median().to_numpy())
    if len(level) < 2 or np.ptp(level) <= np.log(_STEP):
        return []
    series, place = pd.Series(level), np.arange(1, len(level))
    before = series.rolling(_SPAN, min_periods=1).median().to_numpy()[:-1]
    after = series[::-1].rolling(_SPAN, min_periods=1).median().to_numpy()[::-1][1:]
    settled = np.minimum(place, len(level) - place) >= (_ENOUGH_DAYS if intraday else _ENOUGH)
    least = np.where(settled, np.log(_STEP), np.log(_SHORT_STEP) if intraday else np.inf)
    last = closes[traded[np.append(begins[1:], len(traded)) - 1]]
    usual = _usual_move(last) if len(last) > _ENOUGH_DAYS else np.inf
    found: list[Break] = []
    for first, end in runs(np.abs(after - before) > least):
        at = first + int(np.argmax(np.abs(np.diff(level))[first:end])) + 1
        earlier, later = level[max(0, at - _SPAN) : at], level[at : at + _SPAN]
        step, row = float(np.median(later) - np.median(earlier)), int(traded[begins[at]])
        low, high = (earlier, later) if step > 0 else (later, earlier)
        between = np.quantile(high, 0.1) - np.quantile(low, 0.9)
        apart = abs(step) > least[at - 1] and between > np.log(2)
        calm = _CALM_FAR if between > np.log(_STEP) else _CALM
        split = any(abs(one.row - row) <= 1 and one.factor and abs(step - np.log(one.factor)) < 1 for one in prices)
        if apart and not split and abs(np.log(last[at] / last[at - 1])) < calm * usual:
            found.append(Break("volume_step", row, times[row], float(np.exp(step)), float(np.exp(step))))
    return found
