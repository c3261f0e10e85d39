"""Breaks are found where a series goes on in another unit, and nowhere else; they are mended on request alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars import Break, find_breaks
from kronos.bars.adjust import Adjustment, mend_breaks
from kronos.errors import ConfigError
from kronos.protocol import FEATURES

PRICES = ["open", "high", "low", "close"]


def walk(
    n: int = 300, *, sigma: float = 0.012, frequency: str = "B", seed: int = 4, volume: float = 5e5
) -> pd.DataFrame:
    """Calm bars of one share."""
    rng = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(sigma * rng.standard_normal(n)))
    opened = np.append(20.0, close[:-1]) * np.exp(0.2 * sigma * rng.standard_normal(n))
    reach = 1 + sigma * rng.random(n) / 2
    traded = volume * np.exp(0.3 * rng.standard_normal(n))
    high, low = np.maximum(opened, close) * reach, np.minimum(opened, close) / reach
    times = pd.date_range("2021-03-01", periods=n, freq=frequency)
    prices = {"open": opened, "high": high, "low": low, "close": close}
    return pd.DataFrame({"timestamp": times, **prices, "volume": traded, "amount": traded * close})


def broken(row: int, ratio: float, bars: pd.DataFrame | None = None) -> pd.DataFrame:
    """The bars with a split of ``ratio`` for one before a row."""
    bars = walk() if bars is None else bars
    earlier = bars.index < row
    bars.loc[earlier, PRICES] *= ratio
    bars.loc[earlier, "volume"] /= ratio
    return bars


def kinds(found: list[Break]) -> list[tuple[str, int]]:
    return [(one.kind, one.row) for one in found]


@pytest.mark.parametrize("seed", range(5))
def test_calm_bars_have_no_break(seed: int) -> None:
    assert find_breaks(walk(seed=seed)) == []
    assert find_breaks(walk(seed=seed, frequency="h", sigma=0.004)) == []


@pytest.mark.parametrize(("ratio", "row"), [(2.0, 40), (10.0, 150), (0.1, 299), (1.5, 3), (4 / 3, 200), (20.0, 77)])
def test_a_split_is_found_with_its_ratio(ratio: float, row: int) -> None:
    (found,) = find_breaks(broken(row, ratio))
    assert (found.kind, found.row, found.factor) == ("split_suspect", row, pytest.approx(ratio))


@pytest.mark.parametrize(
    ("symbol", "calendar", "ratio", "kind"),
    [
        ("600123", None, 1.2, "split_suspect"),
        ("SZ000123", "XSHG", 1.13, "price_limit"),
        ("688123", None, 1.16, None),  # within its twenty per cent
        ("000123", "XKRX", 1.13, None),  # Seoul allows thirty
        ("ABC", "XNYS", 1.2, None),  # anybody's earnings
    ],
)
def test_what_an_exchange_does_not_allow_is_no_move(
    symbol: str, calendar: str | None, ratio: float, kind: str | None
) -> None:
    found = find_breaks(broken(120, ratio), symbol, calendar)
    assert kinds(found) == ([] if kind is None else [(kind, 120)])


@pytest.mark.parametrize(
    ("symbol", "seen", "factor", "others"),
    [
        ("600123", 1.35, 1.3, ()),  # three shares for ten, money beside it, and a weak opening
        ("SZ000123", 1.318, 1.3, ()),
        ("688123", 1.42, 1.4, ()),  # of which 4/3 for one is none
        ("600123", 1.99, 2.0, ()),
        (None, 1.33, 4 / 3, (1.3,)),
        (None, 1.365, 4 / 3, (1.4,)),
        (None, 4.05, 4.0, ()),
    ],
)
def test_ratios_that_a_usual_move_cannot_tell_apart(
    symbol: str | None, seen: float, factor: float, others: tuple[float, ...]
) -> None:
    bars = broken(120, seen)
    bars.loc[120, "open"] = bars.loc[119, "close"] / seen
    bars.loc[120, "low"], bars.loc[120, "high"] = bars.loc[120, PRICES].min(), bars.loc[120, PRICES].max()
    (found,) = find_breaks(bars, symbol)
    assert (found.factor, found.others) == (pytest.approx(factor), pytest.approx(others))
    assert ("would fit, too" in found.caution) == bool(others)


def test_a_fall_on_news_is_a_move() -> None:
    bars = broken(120, 1.5)
    bars.loc[120, "volume"] *= 12
    assert find_breaks(bars) == []
    assert kinds(find_breaks(broken(120, 11_800.0))) == [("price_jump", 120)]


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("ratio", [4.0, 0.25, 3.3])
def test_a_jump_and_back_is_one_wild_bar(ratio: float, rows: int) -> None:
    bars = walk()
    bars.loc[90 : 89 + rows, PRICES] *= ratio
    (found,) = find_breaks(bars)
    assert (found.kind, found.row, found.end) == ("wild_bar", 90, 90 + rows)


@pytest.mark.parametrize("factor", [100.0, 0.01, 25.0, 1000.0])
def test_a_lasting_step_of_volume_is_told_with_its_date(factor: float) -> None:
    bars = walk()
    bars.loc[180:, "volume"] *= factor
    (found,) = find_breaks(bars)
    assert (found.kind, found.row) == ("volume_step", 180)
    assert found.seen == pytest.approx(factor, rel=0.5)


@pytest.mark.parametrize("days", [6, 2])
def test_volume_of_intraday_bars_is_judged_by_days(days: int) -> None:
    one = walk(120, sigma=0.0008, frequency="min", volume=2000)
    parts = [one.assign(timestamp=one["timestamp"] + pd.Timedelta(days=day)) for day in range(days)]
    bars = pd.concat(parts, ignore_index=True)
    bars.loc[120 * days // 2 :, "volume"] *= 99
    (found,) = [one for one in find_breaks(bars) if one.kind == "volume_step"]
    assert found.row == 120 * days // 2


def test_a_few_days_of_trading_on_news_are_no_step() -> None:
    bars = walk()
    bars.loc[100:104, "volume"] *= 40
    assert find_breaks(bars) == []
    bars = walk()
    bars.loc[100:, "volume"] *= 20
    bars.loc[100:, PRICES] *= 1.1
    bars.loc[100, "open"] /= 1.1
    bars.loc[100, "low"] /= 1.1
    assert find_breaks(bars) == []


def test_nothing_is_mended_unasked_and_all_is_told() -> None:
    bars = broken(120, 4.0)
    same, notes = mend_breaks(bars, None)
    assert same is bars
    assert len(notes) == 1
    assert "2021-08-16" in notes[0]
    assert "4 for 1" in notes[0]
    assert all(word in notes[0] for word in ("--adjust splits", "adjust='cut'", "adjust='2021-08-16=FACTOR'"))


@pytest.mark.parametrize("adjust", ["splits", "2021-08-16=4", "splits,volume", " splits , cut "])
def test_the_past_comes_into_the_unit_of_today(adjust: str) -> None:
    mended, notes = mend_breaks(broken(120, 4.0), adjust)
    np.testing.assert_allclose(mended[list(FEATURES)], walk()[list(FEATURES)])
    assert len(notes) == 1
    assert "divided by 4, as asked" in notes[0]


def test_a_wild_bar_is_brought_back() -> None:
    bars = walk()
    bars.loc[90:91, PRICES] *= 4
    bars.loc[90:91, "volume"] /= 4
    np.testing.assert_allclose(mend_breaks(bars, "splits")[0][list(FEATURES)], walk()[list(FEATURES)])


@pytest.mark.parametrize("amount", [True, False])
def test_a_step_of_volume_is_rescaled_with_the_amount_that_follows_it(amount: bool) -> None:
    bars = walk()
    bars.loc[180:, ["volume", "amount"] if amount else ["volume"]] *= 100
    mended, notes = mend_breaks(bars, "volume")
    assert "volume before 2021-11-08 multiplied by" in notes[0]
    for name in ("volume", "amount"):
        step = np.median(mended[name][180:200]) / np.median(mended[name][160:180])
        assert 0.5 < step < 2
    pd.testing.assert_frame_equal(mended[PRICES], bars[PRICES])


def test_cut_leaves_what_lies_behind_the_last_break() -> None:
    mended, notes = mend_breaks(broken(120, 2.0, broken(40, 3.0)), "cut")
    pd.testing.assert_frame_equal(mended, walk()[120:].reset_index(drop=True))
    assert "read from 2021-08-16" in notes[0]
    whole, notes = mend_breaks(walk(), "cut,splits,volume")
    assert (len(whole), notes) == (300, ["adjust=splits,volume,cut: nothing was found to adjust"])


@pytest.mark.parametrize(("asked", "idle"), [("splits", []), ("volume", ["volume"]), ("splits,cut,volume", [])])
def test_what_finds_nothing_to_adjust_is_said(asked: str, idle: list[str]) -> None:
    _, notes = mend_breaks(broken(90, 4.0), asked)
    assert [note for note in notes if "nothing was found" in note] == [
        f"adjust={word}: nothing was found to adjust" for word in idle
    ]


def test_several_breaks_are_told_in_two_sentences() -> None:
    bars = broken(200, 2.0, broken(120, 2.0, broken(40, 3.0)))
    _, notes = mend_breaks(bars, None)
    assert len(notes) == 2
    assert notes[0].startswith("the price breaks on 2021-12-06")
    assert notes[1] == "the context holds 2 more breaks like it: 2021-04-26, 2021-08-16"


def test_a_factor_beside_the_bars_is_said() -> None:
    bars, notes = mend_breaks(walk(), "1999-01-01=2")
    assert "does not divide the bars that are read" in notes[0]
    pd.testing.assert_frame_equal(bars, walk())


@pytest.mark.parametrize("text", ["2021-13-45=2", "2021-08-16=0", "2021-08-16=inf"])
def test_what_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a date and a positive factor"):
        Adjustment.read(text)


@pytest.mark.parametrize(("moves", "factor", "told"), [(4.5, 80, True), (4.5, 14, False), (9.0, 80, False)])
def test_a_wide_step_of_volume_is_told_on_a_day_that_moves(moves: float, factor: float, told: bool) -> None:
    bars = walk()
    usual = float(np.median(np.abs(np.diff(np.log(bars["close"])))))
    now = np.log(bars["close"][160] / bars["close"][159])
    bars.loc[160:, PRICES] *= np.exp(moves * usual - now)
    bars.loc[160, "open"] = bars["close"][159]
    bars.loc[160:, "volume"] *= factor
    assert ("volume_step" in {one.kind for one in find_breaks(bars)}) == told
