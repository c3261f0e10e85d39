"""Rows that run backwards are turned round and told; stamps of many kinds, one reading for the column or row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_files import csv, hourly, millis, ohlcv

from kronos.bars import FEATURES, read_bars
from kronos.errors import DataError

NAMES = ["time", "open", "high", "low", "close", "volume"]
TURNED = "rows run newest first: reversed"


def table(stamps: list[object], head: bool = True) -> bytes:
    """A file of as many bars, one a stamp."""
    bars = hourly().head(len(stamps))
    return csv(ohlcv(bars, NAMES, np.array(stamps, dtype=object)), header=head)


def times(folder: Path, data: bytes, **options: object) -> list[str]:
    """The times that are read from it."""
    path = folder / "a.csv"
    path.write_bytes(data)
    return read_bars(path, **options)["timestamp"].astype(str).tolist()  # type: ignore[arg-type]


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("kind", ["dates", "epochs", "day first"])
def test_newest_first_is_turned_round(head: bool, kind: str, tmp_path: Path) -> None:
    if kind == "day first" and not head:
        pytest.skip("without names the order of prices is told by that of the dates")
    bars = hourly().head(100)
    stamps = {
        "dates": bars["timestamp"].astype(str),
        "epochs": millis(bars),
        "day first": bars["timestamp"].dt.strftime("%d.%m.%Y %H:%M"),
    }[kind]
    data = csv(ohlcv(bars, NAMES, stamps).iloc[::-1], header=head)
    (tmp_path / "a.csv").write_bytes(data)
    found = read_bars(tmp_path / "a.csv")
    assert found["close"].tolist() == bars["close"].tolist()
    assert TURNED in found.attrs["report"].notes
    with pytest.raises(DataError, match="newest first"):
        read_bars(tmp_path / "a.csv", newest_first=False)


@pytest.mark.parametrize("blocks", [True, False])
def test_each_symbol_newest_first(blocks: bool) -> None:
    one = hourly().head(50)
    both = pd.concat([one.assign(symbol="B"), one.assign(symbol="A")])
    both = both.iloc[::-1] if blocks else both.sort_values("timestamp", ascending=False, kind="stable")
    found = read_bars(both)
    assert TURNED in found.attrs["report"].notes
    assert found["close"].tolist() == one["close"].tolist() * 2
    assert TURNED not in read_bars(pd.concat([one.assign(symbol="B"), one.assign(symbol="A")])).attrs["report"].notes


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_first_row_without_a_symbol(missing: object) -> None:
    bars = hourly().head(9).iloc[::-1].assign(symbol=pd.array([missing, *"AAAAAAAA"], dtype="string"))
    with pytest.raises(DataError, match="row 1, column symbol: no symbol"):
        read_bars(bars)


@pytest.mark.parametrize(
    ("order", "row"),
    [
        ([1, 2, 4, 3, 5, 6], 5),  # two that changed places: the later row is the one that is out of order
        ([1, 2, 9, 3, 4, 5], 5),
        ([1, 2, 3, 4, 6, 5], 7),
        ([6, 5, 3, 4, 2, 1], 4),
        ([6, 5, 4, 9, 3, 2], 4),
    ],
)
def test_the_row_that_is_out_of_order_is_named(order: list[int], row: int, tmp_path: Path) -> None:
    data = table([f"2024-03-{day:02d}" for day in order])
    with pytest.raises(DataError, match=f"row {row}, column timestamp: the timestamp is out of order"):
        times(tmp_path, data)
    assert len(times(tmp_path, data, on_defect="drop")) == 5


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("ms", "us"), ("s", "ms"), ("us", "ns"), ("us", "ms")])
@pytest.mark.parametrize("share", [3, 12, 29])
def test_a_unit_that_changes_on_the_way(first: str, second: str, share: int, tmp_path: Path) -> None:
    index = pd.date_range("2024-12-31 23:45", periods=30, freq="min")
    stamps = [*index[:share].as_unit(first).asi8, *index[share:].as_unit(second).asi8]  # type: ignore[arg-type]
    assert times(tmp_path, table(stamps)) == index.tz_localize("UTC").astype(str).tolist()
    path = tmp_path / "a.csv"
    note = f"epoch {first}, from row {share + 2} on {second}"
    assert any(note in text for text in read_bars(path).attrs["report"].notes)
    stamps[share] -= 10 * (stamps[share] - index[share - 3 : share - 2].as_unit(second).asi8[0])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"row {share + 2}.*in {first} before and in {second} here"):
        times(tmp_path, table(stamps))


def test_klines_whose_unit_changes(tmp_path: Path) -> None:
    bars = hourly().head(40)
    start = pd.Series(pd.date_range("2024-12-31", periods=40, freq="h").as_unit("ms").asi8)
    end, unit = start + 3599999, np.where(np.arange(40) < 24, 1, 1000)
    frame = ohlcv(bars, NAMES, start * unit).assign(end=np.where(unit == 1, end, end * 1000 + 999))
    frame = frame.assign(quote=bars["volume"] * bars["close"], n=3, a=1, b=1, x=0)
    (tmp_path / "a.csv").write_bytes(csv(frame, header=False))
    found = read_bars(tmp_path / "a.csv")
    assert found.attrs["report"].layout == "Binance klines"
    np.testing.assert_allclose(found["amount"], frame["quote"])


@pytest.mark.parametrize("zone", ["+00:00Z", "+0000Z", "-00:00Z"])
def test_an_offset_and_a_z(zone: str, tmp_path: Path) -> None:
    stamps = [f"2026-08-03 13:{minute}:00{zone}" for minute in range(30, 36)]
    assert times(tmp_path, table(stamps))[0] == "2026-08-03 13:30:00+00:00"
    with pytest.raises(DataError, match=r"02:00"):
        times(tmp_path, table([stamp.replace("00:00Z", "02:00Z").replace("0000Z", "02:00Z") for stamp in stamps]))


@pytest.mark.parametrize(
    ("stamps", "hour"),
    [
        ([f"2024-01-0{day},{name}" for day, name in zip(range(2, 6), "二三四五")], "00:00"),
        ([f"2024/01/0{day} 周{name} 09:30" for day, name in zip(range(2, 6), "二三四五")], "09:30"),
        ([f"2024年1月{day}日 星期{name}" for day, name in zip(range(2, 6), "二三四五")], "00:00"),
        ([f"2024年1月{day}日 下午3:00" for day in range(2, 6)], "15:00"),
        ([f"2024/1/{day}({name})" for day, name in zip(range(2, 6), "火水木金")], "00:00"),
        ([f"2024년 1월 {day}일" for day in range(2, 6)], "00:00"),
        ([f"2024-01-0{day} (화) 09:00" for day in range(2, 6)], "09:00"),
        ([f"{name}, 2024-01-0{day}" for day, name in zip(range(2, 6), ("Di", "Mi", "Do", "Fr"))], "00:00"),
        ([f"{day}. Januar 2024" for day in range(2, 6)], "00:00"),
        ([f"{day} janv. 2024" for day in range(2, 6)], "00:00"),
        ([f"mar {day} ene 2024" for day in range(2, 6)], "00:00"),
        ([f"{day} gennaio 2024" for day in range(2, 6)], "00:00"),
        ([f"{day} de janeiro de 2024" for day in range(2, 6)], "00:00"),
        ([f"{day} января 2024 г." for day in range(2, 6)], "00:00"),
        ([f"113/01/0{day}" for day in range(2, 6)], "00:00"),
        ([45293 + day for day in range(4)], "00:00"),
        ([45293.375 + day for day in range(4)], "09:00"),
    ],
)
def test_dates_with_words(stamps: list[object], hour: str, tmp_path: Path) -> None:
    days = pd.date_range(f"2024-01-02 {hour}", periods=4)
    assert pd.DatetimeIndex(times(tmp_path, table(stamps))).tolist() == days.tolist()


def test_months_of_a_language_that_begin_as_in_english(tmp_path: Path) -> None:
    stamps = ["12 mar 2024", "15 abr 2024", "13 may 2024", "12 ago 2024", "16 dic 2024"]
    assert times(tmp_path, table(list(stamps))) == [
        "2024-03-12",
        "2024-04-15",
        "2024-05-13",
        "2024-08-12",
        "2024-12-16",
    ]


def test_a_weekday_in_a_column_of_its_own(tmp_path: Path) -> None:
    bars = hourly().head(50)
    frame = ohlcv(bars, NAMES, pd.bdate_range("2024-01-01", periods=50))
    frame.insert(1, "w", [*"一二三四五"] * 10)
    (tmp_path / "a.csv").write_bytes(csv(frame, header=False))
    assert read_bars(tmp_path / "a.csv")["close"].tolist() == bars["close"].tolist()


@pytest.mark.parametrize("timezone", [None, "America/New_York"])
def test_the_hour_that_repeats(timezone: str | None, tmp_path: Path) -> None:
    index = pd.date_range("2024-11-03 00:00", periods=8, freq="30min", tz="America/New_York")
    for stamps in (index, index[::-1]):
        data = table([stamp.strftime("%Y-%m-%d %H:%M") for stamp in stamps])
        if timezone:
            assert pd.DatetimeIndex(read_bars(_saved(tmp_path, data), timezone=timezone)["timestamp"]).equals(
                pd.DatetimeIndex(index).as_unit("ns")
            )
        else:
            with pytest.raises(DataError, match="clocks went back then in America/New_York: timezone="):
                times(tmp_path, data)


def _saved(folder: Path, data: bytes) -> Path:
    (folder / "a.csv").write_bytes(data)
    return folder / "a.csv"


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Tokyo", "Asia/Shanghai", "Europe/Moscow", "Europe/Berlin"])
def test_midnights_of_a_zone_in_the_east(zone: str, tmp_path: Path) -> None:
    days = pd.bdate_range("2024-02-20", periods=60)  # across a change of clocks in Berlin
    stamps = days.tz_localize(zone).as_unit("s").asi8
    found = read_bars(_saved(tmp_path, table(list(stamps))))
    if zone == "Europe/Moscow":  # 21:00 UTC, where days of currencies begin too: left as it is
        assert str(found["timestamp"].dt.tz) == "UTC"
        return
    assert found["timestamp"].tolist() == days.tolist()
    assert any("midnights" in note for note in found.attrs["report"].notes)
    stamps = [*stamps[:-1], int(days[-1].timestamp())]  # the last by another program, at midnight in UTC
    assert times(tmp_path, table(stamps))[-1] == str(days[-1].date())


@pytest.mark.parametrize("hour", [0, 8, 14.5, 16, 22])
def test_days_that_are_no_midnights_elsewhere_stay(hour: float, tmp_path: Path) -> None:
    every = pd.date_range("2024-01-01", periods=30) + pd.Timedelta(hours=hour)
    found = read_bars(_saved(tmp_path, table(list(every.as_unit("s").asi8))))  # seven days a week
    assert pd.DatetimeIndex(found["timestamp"]).tz_localize(None).tolist() == every.tolist()


def test_hours_are_no_midnights_whatever_a_sample_shows() -> None:
    """Seven bars a day of Sydney, the first at 23:00 UTC in summer: every seventh row is the first of its day."""
    days = pd.bdate_range("2020-11-02", periods=900).tz_localize("Australia/Sydney")
    stamps = pd.DatetimeIndex([day + pd.Timedelta(hours=10 + hour) for day in days for hour in range(7)])
    found = read_bars(pd.DataFrame({"time": stamps.tz_convert("UTC")} | dict.fromkeys(FEATURES[:5], 1.0)))
    assert found["timestamp"].tolist() == stamps.tz_convert("UTC").tolist()


# -- which row is named -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "row", "said", "dropped"),
    [
        ([4, 5, 20, 8, 9, 10], 5, "2024-03-08 00:00:00, after 2024-03-20 00:00:00", (4,)),
        ([4, 5, 8, 7, 11, 12], 5, "2024-03-07 00:00:00, after 2024-03-08 00:00:00", (5,)),
        ([4, 5, 6, 7, 8, 1], 7, "2024-03-01 00:00:00, after 2024-03-08 00:00:00", (7,)),
    ],
)
def test_the_row_that_steps_back_is_named(
    days: list[int], row: int, said: str, dropped: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(table([f"2024-03-{day:02d}" for day in days]))
    with pytest.raises(DataError, match=rf"row {row}, column timestamp: the timestamp is out of order \({said}\)"):
        read_bars(tmp_path / "a.csv")
    found = read_bars(tmp_path / "a.csv", on_defect="drop")
    assert found.attrs["report"].defects[0].rows == dropped


def test_rows_of_two_symbols_are_compared_with_their_own() -> None:
    one = hourly().head(6)
    both = pd.concat([one.assign(symbol="B"), one.assign(symbol="A")]).sort_values("timestamp", kind="stable")
    order = [0, 1, 2, 3, 6, 5, 4, 7, 8, 9, 10, 11]  # B's third and fourth bars changed places
    times_of_b = both.iloc[order].query("symbol == 'B'")["timestamp"].astype(str).tolist()
    with pytest.raises(DataError, match=rf"row 7, .*\({times_of_b[3]}, after {times_of_b[2]} of the same symbol\)"):
        read_bars(both.iloc[order])
