"""Habits of sources: rows that are no bars, and bars that are odd. Each is named, and dropped or mended on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.bars import inspect_bars, read_bars, sample_bars
from kronos.bars.report import Defect, OnDefect
from kronos.errors import DataError
from kronos.protocol import FEATURES

PRICES = ["open", "high", "low", "close"]
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def daily(n: int = 60, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = np.round(40 * np.exp(np.cumsum(0.01 * rng.standard_normal(n))), 2)
    opened = np.append(40.0, close[:-1]) + np.round(0.1 * rng.standard_normal(n), 2)
    high, low = np.maximum(opened, close) + 0.2, np.minimum(opened, close) - 0.2
    times = pd.bdate_range("2022-02-01", periods=n)
    volume = rng.integers(20_000, 90_000, n).astype(float)
    return pd.DataFrame(
        {"timestamp": times, "open": opened, "high": high, "low": low, "close": close, "volume": volume}
    )


def minutes(n: int = 200, start: str = "2023-05-08 10:00") -> pd.DataFrame:
    return daily(n).assign(timestamp=pd.date_range(start, periods=n, freq="min"))


def setting(rows: slice | list[int], columns: list[str], value: float) -> Spoil:
    def spoil(bars: pd.DataFrame) -> pd.DataFrame:
        bars.loc[rows, columns] = value
        return bars

    return spoil


def kinds(found: tuple[Defect, ...]) -> dict[str, int]:
    return {one.kind: one.count for one in found}


def warned(bars: pd.DataFrame | Path) -> dict[str, Defect]:
    return {one.kind: one for one in inspect_bars(bars).warnings}


# -- rows that are no bars --------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Spoil, str, int, str]] = {
    "a suspended day without a cell": (setting([7, 8], [*PRICES, "volume"], np.nan), "empty_bar", 2, "suspended day"),
    "a suspended day that keeps its volume": (setting([0], PRICES, np.nan), "empty_bar", 1, "suspended day"),
    "a halt written as zeros": (setting(slice(10, 14), [*PRICES, "volume"], 0.0), "halted_bar", 5, "day of halt"),
    "a halt that carries the close": (setting([5, 6], ["open", "high", "low", "volume"], 0.0), "halted_bar", 2, "halt"),
    "opens of 0": (setting(slice(0, 9), ["open"], 0.0), "zero_open", 10, "on_defect='mend'"),
    "real prices below 0": (setting([20], PRICES, -37.63), "negative_price", 1, "oil in April 2020"),
    "one price missing": (setting([4], ["close"], np.nan), "missing_price", 1, "a price is missing"),
    "a low of 0": (setting([4], ["low"], 0.0), "nonpositive_price", 1, "zero or negative"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_no_bars(name: str, tmp_path: Path) -> None:
    spoil, kind, count, words = ROWS[name]
    path = tmp_path / "bars.csv"
    spoil(daily()).to_csv(path, index=False)
    with pytest.raises(DataError) as refused:
        read_bars(path)
    assert words in str(refused.value)
    assert "--on-defect drop" in str(refused.value)
    kept = read_bars(path, on_defect="drop")
    assert len(kept) == 60 - count
    report = kept.attrs["report"]
    assert kinds(report.defects) == {kind: count}
    assert (report.dropped, report.frequency) == (count, "1d")
    assert not any("is missing in" in note for note in report.notes)


def test_prices_that_the_source_rounded_to_nothing() -> None:
    with pytest.raises(DataError, match="the source has probably rounded them") as refused:
        read_bars(daily().assign(**dict.fromkeys(PRICES, 0.0)))
    assert "on_defect" not in str(refused.value)  # nothing would be left


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_opens_of_0_become_the_close_before_on_request(share: float, tmp_path: Path) -> None:
    bars, path = daily(), tmp_path / "bars.csv"
    rows = bars.index < share * len(bars)
    bars.assign(open=bars["open"].where(~rows, 0.0)).to_csv(path, index=False)
    with pytest.raises(DataError, match="--on-defect mend"):
        read_bars(path)
    mended = read_bars(path, on_defect="mend")
    assert len(mended) == len(bars)
    before = bars["close"].shift(1).fillna(bars["close"]).clip(bars["low"], bars["high"])
    np.testing.assert_allclose(mended["open"], bars["open"].where(~rows, before))
    np.testing.assert_array_equal(mended["close"], bars["close"])
    assert any(f"open is 0 in {rows.sum()} rows: set to" in note for note in mended.attrs["report"].notes)


def test_the_close_before_is_that_of_the_same_symbol() -> None:
    one, two = daily().assign(symbol="A"), daily().assign(symbol="B")
    two[PRICES] *= 50
    both = pd.concat([one, two], ignore_index=True)
    both.loc[60, "open"] = 0.0
    mended = read_bars(both, on_defect="mend")
    assert mended["open"][60] == pytest.approx(two["close"][0])


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("place", [0, 30, 59])
def test_of_a_forming_bar_the_last_row_is_kept(rows: int, place: int, tmp_path: Path) -> None:
    bars, path = daily(), tmp_path / "bars.csv"
    whole = bars.iloc[place]
    parts = []
    for step in range(1, rows):
        share = step / rows
        close = round(whole["open"] + share * (whole["close"] - whole["open"]), 3)
        top, bottom = max(whole["open"], close), min(whole["open"], close)
        parts.append(
            whole.to_dict() | {"close": close, "high": top, "low": bottom, "volume": round(whole["volume"] * share)}
        )
    pd.concat([bars[:place], pd.DataFrame(parts), bars[place:]]).to_csv(path, index=False)
    with pytest.raises(DataError, match="a later row of the same time"):
        read_bars(path)
    kept = read_bars(path, on_defect="drop")
    pd.testing.assert_frame_equal(kept[PRICES], bars[PRICES])
    report = kept.attrs["report"]
    assert kinds(report.defects) == {"forming_bar": rows - 1}
    assert any("the last row is kept" in note for note in report.notes)


def test_rows_of_forming_bars_are_never_too_many_to_drop() -> None:
    bars = daily(8).loc[lambda rows: rows.index.repeat(4)].reset_index(drop=True)
    share = np.tile([0.1, 0.4, 0.8, 1.0], 8)
    kept = read_bars(bars.assign(volume=np.round(bars["volume"] * share)), on_defect="drop")
    assert kinds(kept.attrs["report"].defects) == {"forming_bar": 24}
    np.testing.assert_array_equal(kept["volume"], daily(8)["volume"])


def test_of_rows_that_contradict_each_other_the_first_is_kept() -> None:
    bars = daily()
    other = bars.iloc[[30]].assign(open=bars["open"][30] + 0.05)
    kept = read_bars(pd.concat([bars[:31], other, bars[31:]], ignore_index=True), on_defect="drop")
    assert kinds(kept.attrs["report"].defects) == {"duplicate_time": 1}
    pd.testing.assert_frame_equal(kept[PRICES], bars[PRICES])


def test_one_row_of_a_time_is_left_whatever_the_others_are() -> None:
    bars = daily()
    grown = bars.iloc[[30]].assign(volume=bars["volume"][30] + 500)
    other = bars.iloc[[30]].assign(open=bars["open"][30] + 0.05)
    taller = other.assign(volume=bars["volume"][30] + 900)
    for rows in ([grown, other], [other, taller], [other, grown], [grown, other, taller]):
        kept = read_bars(pd.concat([bars[:31], *rows, bars[31:]], ignore_index=True), on_defect="drop")
        assert len(kept) == 60
        assert kept["timestamp"].is_unique
        assert kept["volume"][30] == bars["volume"][30]
        assert kinds(kept.attrs["report"].defects) == {"duplicate_time": len(rows)}


@pytest.mark.parametrize("stray", ["broken row,,", "1643673600,40.1", ",,,"])
def test_a_stray_first_row_of_a_table_without_a_header(stray: str, tmp_path: Path) -> None:
    bars, path = minutes(), tmp_path / "bars.csv"
    seconds = bars["timestamp"].astype("int64") // 10**9 if bars["timestamp"].dt.unit == "ns" else None
    seconds = bars["timestamp"].map(lambda time: int(time.timestamp())) if seconds is None else seconds
    rows = bars.assign(timestamp=seconds).to_csv(index=False, header=False)
    path.write_text(f"{stray}\n{rows}")
    with pytest.raises(DataError, match=r"row 1: .*not 6 cells") as refused:
        read_bars(path)
    assert stray[:8] in str(refused.value)
    kept = read_bars(path, on_defect="drop")
    report = kept.attrs["report"]
    assert (len(kept), report.rows_read, report.dropped) == (200, 201, 1)
    path.write_text(rows)
    assert read_bars(path).attrs["report"].dropped == 0


# -- rows that are bars, but odd --------------------------------------------------------------------------------------


def test_a_volume_below_one_beside_thousands_is_broken() -> None:
    bars = daily()
    bars.loc[[12, 40], "volume"] = 0.00021
    found = warned(bars)["tiny_volume"]
    assert (found.rows, found.example) == ((13, 41), "0.00021")
    coins = daily().assign(volume=lambda table: table["volume"] / 7)
    coins.loc[12, "volume"] = 0.3
    assert "tiny_volume" not in warned(coins)  # parts of coins are traded


def test_filler_over_a_weekend_is_told_with_the_currency_week() -> None:
    bars = sample_bars("eurusd").tail(600).reset_index(drop=True).assign(volume=50.0)
    gap = int(np.argmax(np.diff(bars["timestamp"].dt.tz_localize(None)).astype("timedelta64[h]").astype(int)))
    last = bars.iloc[gap]
    closed = pd.date_range(last["timestamp"], bars["timestamp"][gap + 1], freq="h", inclusive="neither")
    flat = pd.DataFrame({"timestamp": closed, **dict.fromkeys(PRICES, last["close"]), "volume": 0.0, "amount": 0.0})
    filled = pd.concat([bars[: gap + 1], flat, bars[gap + 1 :]], ignore_index=True)[["timestamp", *FEATURES]]
    found = warned(filled)
    assert found["flat_filler"].count == len(flat) > 20
    assert f"{len(flat)} while the market is closed" in str(found["flat_filler"].example)
    assert found["outside_session"].count >= len(flat)  # and bars of Christmas Day
    assert "flat_filler" not in warned(bars)


@pytest.mark.parametrize(
    ("volume", "run", "told"), [(True, 2, False), (True, 3, True), (False, 8, False), (False, 12, True)]
)
def test_quiet_minutes_are_no_filler(volume: bool, run: int, told: bool) -> None:
    bars = minutes()
    bars.loc[100 : 99 + run, PRICES] = bars["close"][99]
    bars.loc[100 : 99 + run, "volume"] = 0.0
    bars = bars if volume else bars.drop(columns="volume")
    assert ("flat_filler" in warned(bars)) == told


def test_a_bar_on_a_weekend() -> None:
    bars = daily()
    friday = int(np.flatnonzero(bars["timestamp"].dt.day_of_week == 4)[3])
    bars.loc[friday, "timestamp"] += pd.Timedelta(days=1)
    found = warned(bars)["outside_session"]
    assert (found.rows, found.count) == ((friday + 1,), 1)


def test_bars_after_an_early_close_lie_outside_the_session() -> None:
    days = pd.DatetimeIndex(["2023-11-20", "2023-11-21", "2023-11-22", "2023-11-24", "2023-11-27"])
    parts = [
        pd.date_range(day + pd.Timedelta("9h30min"), periods=390 if day.day != 24 else 213, freq="min") for day in days
    ]
    times = parts[0].append(parts[1:])
    bars = daily(len(times)).assign(timestamp=times, symbol="SPY")
    report = inspect_bars(bars)
    found = {one.kind: one for one in report.warnings}["outside_session"]
    assert report.calendar == "XNYS"
    assert found.count == 3
    assert "2023-11-24 13:00:00" in str(found.example)


@pytest.mark.parametrize("run", [1, 2, 5])
def test_suspended_days_that_the_source_filled_are_told(run: int) -> None:
    bars = daily()
    bars.loc[20 : 19 + run, PRICES] = bars["close"][19]
    bars.loc[20 : 19 + run, "volume"] = 0.0
    bars.loc[20 + run, "low"] = min(bars["low"][20 + run], bars["close"][19])
    found = warned(bars)
    assert (found["suspended_day"].count, "flat_filler" in found) == (run, False)
    assert str(found["suspended_day"].example).startswith("2022-03-01")
    assert "suspended_day" not in warned(minutes(60).assign(**bars[[*PRICES, "volume"]]))


def filled(bars: pd.DataFrame, first: int, run: int) -> pd.DataFrame:
    """The bars with a run of days at the close before, without volume."""
    rows = slice(first, first + run - 1)
    bars = bars.copy()
    bars.loc[rows, PRICES], bars.loc[rows, "volume"] = bars["close"][first - 1], 0.0
    return bars


@pytest.mark.parametrize(("first", "run", "length"), [(1, 2, 5), (20, 1, 60), (33, 12, 60), (55, 5, 60)])
@pytest.mark.parametrize("on_defect", ["drop", "mend"])
def test_dropping_leaves_suspended_days_out_as_if_their_cells_were_empty(
    first: int, run: int, length: int, on_defect: OnDefect
) -> None:
    bars = filled(daily(length), first, run)
    empty = bars.copy()
    empty.loc[first : first + run - 1, [*PRICES, "volume"]] = np.nan
    found = read_bars(bars, on_defect=on_defect)
    pd.testing.assert_frame_equal(found, read_bars(empty, on_defect=on_defect))
    report = found.attrs["report"]
    assert (report.rows, report.rows_read, report.dropped) == (length - run, length, run)
    told = {one.kind: one for one in report.warnings}
    assert (told["suspended_day"].count, told["suspended_day"].rows[0]) == (run, first + 1)
    assert "zero_volume" not in told
    assert any("suspended, and filled by the source" in note for note in report.notes)
    assert len(read_bars(bars)) == inspect_bars(bars).rows == length


def test_of_many_symbols_each_is_judged_alone() -> None:
    one, other = filled(daily(40), 10, 3).assign(symbol="A"), filled(daily(40), 10, 28).assign(symbol="B")
    found = read_bars(pd.concat([one, other], ignore_index=True), on_defect="drop")
    assert found["symbol"].value_counts().to_dict() == {"B": 40, "A": 37}  # of B most days stand still


def test_a_market_that_trades_on_weekends_is_never_suspended() -> None:
    bars = filled(daily(60).assign(timestamp=pd.date_range("2022-02-01", periods=60)), 20, 3)
    assert len(read_bars(bars, on_defect="drop")) == 60
    assert len(read_bars(filled(minutes(60), 20, 9), on_defect="drop")) == 60


def test_a_named_calendar_tells_what_few_bars_cannot_show() -> None:
    clocks = ["2023-11-24 12:58", "2023-11-24 12:59", "2023-11-24 13:00", "2023-11-24 13:01", "2023-11-27 09:30"]
    after = inspect_bars(daily(5).assign(timestamp=pd.to_datetime(clocks)), calendar="XNYS")
    assert after.calendar == "XNYS"
    assert [one.rows for one in after.warnings if one.kind == "outside_session"] == [(3, 4)]
    times = pd.date_range("2023-05-05 20:55", periods=9, freq="min").append(
        pd.date_range("2023-05-07 21:05", periods=4, freq="min")
    )
    bars = daily(13).assign(timestamp=times)
    bars.loc[5:8, PRICES], bars.loc[5:8, "volume"] = bars["close"][4], 0.0
    found = {one.kind: one for one in inspect_bars(bars, calendar="FX").warnings}
    assert "4 while the market is closed" in str(found["flat_filler"].example)


def test_bars_that_begin_with_the_first_trade_of_their_minute() -> None:
    bars = minutes(60)
    beside = [0, 3, 9, 40, 41]
    bars.loc[beside, "timestamp"] += pd.Timedelta(seconds=1)
    report = inspect_bars(bars)
    found = {one.kind: one for one in report.warnings}["off_grid"]
    assert (report.frequency, found.count, found.rows) == ("1m", 5, tuple(row + 1 for row in beside))
    few = minutes(6).iloc[[0, 3, 4]].reset_index(drop=True)
    few.loc[[0, 1], "timestamp"] += pd.Timedelta(seconds=1)
    assert read_bars(few).attrs["report"].frequency == "1m"


def test_breaks_are_in_the_report() -> None:
    bars = daily(120)
    bars.loc[:59, PRICES] *= 3
    bars.loc[100:, "volume"] *= 400
    found = warned(bars)
    assert {"split_suspect", "volume_step"} <= set(found)
    assert found["split_suspect"].rows == (61,)
    assert found["volume_step"].rows == (101,)
