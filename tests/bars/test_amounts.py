"""Volume and amount for what they are: rates of turnover, units in headers, columns the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.bars import read_bars

ROWS = 60


def series(rows: int = ROWS, price: float = 20.0) -> pd.DataFrame:
    """A random walk with whole volumes, and what was traded."""
    draw = np.random.default_rng(5)
    close = price * np.exp(np.cumsum(draw.normal(0, 0.015, rows)))
    opened = np.append(price, close[:-1])
    bars = pd.DataFrame({"date": pd.bdate_range("2024-01-02", periods=rows), "open": opened, "close": close})
    bars["high"], bars["low"] = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
    bars["volume"] = draw.integers(20_000, 90_000, rows) * 100.0
    bars["worth"] = bars["volume"] * bars[["open", "high", "low", "close"]].mean(axis=1)
    return bars


def with_turnover(turnover: pd.Series[float], rows: int = ROWS) -> pd.DataFrame:
    return series(rows).drop(columns="worth").assign(turnover=turnover)


@pytest.mark.parametrize("rows", [5, ROWS])
@pytest.mark.parametrize("shares", [1.8e7, 3e9, 5e8])
def test_a_rate_of_turnover_is_no_amount(shares: float, rows: int) -> None:
    bars = series(rows)
    found = read_bars(with_turnover((bars["volume"] / shares * 100).round(3), rows))
    if rows < ROWS and shares == 5e8:  # 1e-8 × volume × price of few rows is also an amount in 100 millions
        return
    assert np.allclose(found["amount"], bars["worth"], rtol=1e-6)
    report = found.attrs["report"]
    assert "turnover" in report.left_out
    assert any(note.startswith("'turnover' left out: a rate") for note in report.notes)


@pytest.mark.parametrize("unit", [1, 1e3, 1e4, 1e6, 1e8, 0.01, 1 / 300])
@pytest.mark.parametrize("rows", [5, ROWS])
def test_an_amount_in_another_unit_stays(unit: float, rows: int) -> None:
    value = (series(rows)["worth"] / unit).round(4)
    found = read_bars(with_turnover(value, rows))
    assert found["amount"].tolist() == value.tolist()
    assert "turnover" not in found.attrs["report"].left_out


def test_ones_are_no_amount() -> None:
    bars = series(60)
    bars["volume"] *= 1e8
    found = read_bars(bars.drop(columns="worth").assign(turnover=1.0))
    assert np.allclose(found["amount"], bars["worth"] * 1e8)
    assert "turnover" in found.attrs["report"].left_out


def test_a_volume_beside_one_in_thousands_is_taken() -> None:
    bars = series().drop(columns="worth")
    found = read_bars(bars.assign(**{"Volume (K)": bars["volume"] / 1000}))
    assert found["volume"].tolist() == bars["volume"].tolist()
    assert found.attrs["report"].left_out == ("Volume (K)",)


def test_an_amount_that_the_caller_names_stays() -> None:
    rate = series()["volume"] / 1.8e7
    found = read_bars(with_turnover(rate), columns={"amount": "turnover"})
    assert found["amount"].tolist() == rate.tolist()


@pytest.mark.parametrize("price", [0.02, 20.0, 45_000.0])
def test_huobi_klines(price: float) -> None:
    bars = series(price=price)
    seconds = pd.to_datetime(bars["date"]).astype("datetime64[s]").astype("int64")
    rows = [
        {"id": int(second), **{name: row[name] for name in ("open", "close", "low", "high")}, "amount": row["volume"],
         "vol": row["worth"], "count": 7}
        for second, (_, row) in zip(seconds, bars.iterrows(), strict=True)
    ]  # fmt: skip
    found = read_bars({"status": "ok", "ch": "market.btcusdt.kline.1day", "data": rows[::-1]})
    assert found["timestamp"].dt.tz_localize(None).tolist() == bars["date"].tolist()
    assert np.allclose(found["volume"], bars["volume"])
    assert np.allclose(found["amount"], bars["worth"])
    assert any("changed places" in note for note in found.attrs["report"].notes)


@pytest.mark.parametrize(
    ("volume", "amount", "size", "value"),
    [
        ("Volume (K)", None, 1e3, 1),
        ("Volume (mln)", None, 1e6, 1),
        ("Volume ('000)", "Turnover (HK$ mn)", 1e3, 1e6),
        ("成交量(万股)", "成交额(亿元)", 1e4, 1e8),
        ("Volume (万手)", "成交额(万元)", 1e4, 1e4),
        ("Volume (millions of)", "Amount", None, 1),
        ("Volume (BTC)", None, 1, 1),
        ("成交量(手)", "成交额(元)", 1, 1),
    ],
)
def test_units_in_headers(volume: str, amount: str | None, size: float | None, value: float, tmp_path: Path) -> None:
    bars = series()
    table = bars[["date", "open", "high", "low", "close"]].assign(**{volume: bars["volume"] / (size or 1)})
    if amount is not None:
        table[amount] = bars["worth"] / value
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_bars(tmp_path / "a.csv")
    notes = found.attrs["report"].notes
    assert np.allclose(found["volume"], bars["volume"] if size else 0)
    assert any("as its header says" in note for note in notes) == (bool(size) and size > 1)
    if size is None:
        assert volume in found.attrs["report"].left_out
    elif amount is not None:
        assert np.allclose(found["amount"], bars["worth"], rtol=1e-6)
