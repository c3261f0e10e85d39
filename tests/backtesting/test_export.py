"""Qlib's binary format: what is written is what Qlib reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.backtesting.market import SUSPENDED, market_bars

from kronos.backtesting.export import FIELDS, instrument_names, write_provider
from kronos.backtesting.provider import Provider
from kronos.bars import sample_bars
from kronos.errors import ConfigError, DataError

PRICES = ["open", "high", "low", "close"]


def test_round_trip_is_exact_in_float32(provider: Provider) -> None:
    before, after = market_bars(), provider.bars("all")
    before = before.sort_values(["symbol", "timestamp"], ignore_index=True)
    assert list(after["symbol"]) == list(before["symbol"])
    assert (after["timestamp"] == before["timestamp"]).all()
    for name in (*PRICES, "volume", "amount"):
        assert np.array_equal(after[name].to_numpy(np.float32), before[name].to_numpy(np.float32)), name


def test_suspended_day_is_nan_for_qlib_and_no_bar_for_us(provider: Provider) -> None:
    symbol, session = SUSPENDED
    day = provider.calendar()[session]
    row = provider.features([symbol], FIELDS, day, day).iloc[0]
    assert row.isna().all()
    bars = provider.bars([symbol])
    assert day not in set(bars["timestamp"])
    assert len(bars) == len(provider.calendar()) - 1


def test_change_follows_the_last_known_close(provider: Provider) -> None:
    symbol, session = SUSPENDED
    days = provider.calendar()
    rows = provider.features([symbol], ["close", "change"]).loc[symbol]
    expected = rows["close"].loc[days[session + 1]] / rows["close"].loc[days[session - 1]] - 1
    assert rows["change"].loc[days[session + 1]] == pytest.approx(expected, rel=1e-5)


def test_listing_ranges_and_sets(tmp_path: Path) -> None:
    bars = market_bars()
    days = np.unique(bars["timestamp"])
    late = bars[(bars["symbol"] != "NQ01") | ((bars["timestamp"] >= days[40]) & (bars["timestamp"] <= days[200]))]
    done = write_provider(late, tmp_path / "p", sets={"Pair": ["NQ01", "SP03"]})
    provider = Provider(done.folder)
    assert provider.sets() == ["all", "pair"]
    assert provider.members("pair") == {
        "NQ01": [(pd.Timestamp(days[40]), pd.Timestamp(days[200]))],
        "SP03": [(pd.Timestamp(days[0]), pd.Timestamp(days[-1]))],
    }
    assert provider.bars(["NQ01"])["timestamp"].iloc[0] == days[40]
    first, last = pd.Timestamp(days[50]), pd.Timestamp(days[60])
    assert len(provider.bars("pair", first, last)) == 22


def test_adjusted_and_raw_prices_by_factor(tmp_path: Path) -> None:
    """A split of two for one on the hundredth day: raw prices halve, stored ones go on."""
    raw = sample_bars("sp500").tail(200).reset_index(drop=True)
    split = raw["timestamp"].iloc[100]
    later = raw["timestamp"] >= split
    raw.loc[later, PRICES] /= 2
    raw.loc[later, "volume"] *= 2
    factors = pd.DataFrame({"symbol": "SP500", "timestamp": [raw["timestamp"].iloc[0], split], "factor": [1.0, 2.0]})
    provider = Provider(write_provider(raw, tmp_path / "p", factors=factors).folder)
    stored, back = provider.bars("all"), provider.bars("all", prices="raw")
    whole = sample_bars("sp500").tail(200)
    for name in (*PRICES, "volume"):
        assert np.array_equal(stored[name].to_numpy(np.float32), whole[name].to_numpy(np.float32)), name
        assert np.array_equal(back[name].to_numpy(np.float32), raw[name].to_numpy(np.float32)), name
    again = write_provider(stored, tmp_path / "again", factors=factors, adjusted=True)
    pd.testing.assert_frame_equal(Provider(again.folder).bars("all"), stored)


def test_vwap_is_amount_over_volume(provider: Provider) -> None:
    rows = provider.features(["SP05"], ["vwap", "amount", "volume"])
    np.testing.assert_allclose(rows["vwap"], rows["amount"] / rows["volume"], rtol=1e-6)


@pytest.mark.parametrize("symbol", ["PRN", "NA", "nan", "BTC/USDT", "BRK-A", "600519", "^GSPC", "a b", "汉字"])
def test_any_symbol_can_be_read_back(symbol: str, tmp_path: Path) -> None:
    bars = sample_bars("sp500").tail(30).assign(symbol=symbol)
    provider = Provider(write_provider(bars, tmp_path / "p").folder)
    name = instrument_names([symbol])[symbol]
    assert list(provider.members("all")) == [name]
    found = provider.bars("all")
    assert np.array_equal(found["close"].to_numpy(np.float32), bars["close"].to_numpy(np.float32))


def test_names_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(DataError, match="ignores case"):
        instrument_names(["abc", "ABC"])


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    hourly = sample_bars("eurusd")
    with pytest.raises(DataError, match="zone UTC"):
        write_provider(hourly, tmp_path / "a")
    plain = hourly.assign(timestamp=hourly["timestamp"].dt.tz_localize(None))
    with pytest.raises(DataError, match="several bars on 2017-01-01"):
        write_provider(plain, tmp_path / "b")
    daily = sample_bars("sp500").tail(20)
    with pytest.raises(ConfigError, match="'some' names 1 symbols without bars, the first 'X'"):
        write_provider(daily, tmp_path / "c", sets={"some": ["X"]})
    with pytest.raises(DataError, match="no column factor"):
        write_provider(daily, tmp_path / "d", factors=pd.DataFrame({"symbol": [], "timestamp": []}))
    write_provider(daily, tmp_path / "e")
    with pytest.raises(ConfigError, match="in use"):
        write_provider(daily, tmp_path / "e")


def test_what_is_no_provider_is_said(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Qlib provider at .*kronos qlib export"):
        Provider(tmp_path / "nothing")
    (tmp_path / "half" / "features").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no calendars/day.txt, instruments"):
        Provider(tmp_path / "half")
    with pytest.raises(ConfigError, match="no instrument set 'csi300' but all, some"):
        provider.bars("csi300")
    with pytest.raises(ConfigError, match="no instrument 'XYZ'"):
        provider.bars(["SP01", "XYZ"])
    with pytest.raises(ConfigError, match=r"lie outside the provider's calendar, 2017-12-\d\d … 2018-12-31"):
        provider.sessions(pd.Timestamp("2018-06-01"), pd.Timestamp("2020-01-01"))


def test_a_provider_without_amounts_is_read(tmp_path: Path) -> None:
    """As Qlib's public data are: no amount, no vwap, and an index that stands in no set."""
    bars = market_bars().query("symbol in ['SP01', 'SP02']")
    provider = Provider(write_provider(bars, tmp_path / "p").folder)
    for name in ("amount", "vwap"):
        (provider.folder / "features" / "sp01" / f"{name}.day.bin").unlink()
    sets = provider.folder / "instruments" / "all.txt"
    sets.write_text("".join(line for line in sets.open() if line.startswith("SP01")))
    found = provider.bars("all")
    expected = found["volume"] * found[PRICES].mean(axis=1)
    np.testing.assert_allclose(found["amount"], expected, rtol=1e-6)
    assert provider.lacks(["SP01", "SP02", "SP03"]) == ["SP03"]


def test_defects_of_a_foreign_provider_are_refused_or_dropped(tmp_path: Path) -> None:
    provider = Provider(write_provider(market_bars().query("symbol == 'SP01'"), tmp_path / "p").folder)
    path = provider.folder / "features" / "sp01" / "high.day.bin"
    values = np.fromfile(path, dtype="<f4")
    values[5] = np.nan
    values.tofile(path)
    with pytest.raises(DataError, match="high"):
        provider.bars("all")
    assert len(provider.bars("all", on_defect="drop")) == 259
