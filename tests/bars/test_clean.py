"""Cleaning cuts exactly what its thresholds say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars import CLEANING, CleaningRule, clean_bars, sample_bars
from kronos.errors import ConfigError, DataError

RULE = CleaningRule(min_length=5, jump=0.3, idle=1, flat=3)


def bars(close: list[float], volume: list[float] | None = None) -> pd.DataFrame:
    price = np.asarray(close, dtype=float)
    traded = np.ones(len(price)) if volume is None else np.asarray(volume, dtype=float)
    table = {"timestamp": pd.date_range("2024-01-01", periods=len(price), freq="D")}
    table |= dict.fromkeys(("open", "high", "low", "close"), price)
    return pd.DataFrame({**table, "volume": traded, "amount": traded})


def spans(table: pd.DataFrame, rule: CleaningRule = RULE) -> list[tuple[int, int]]:
    return [(piece.first, piece.last) for piece in clean_bars(table, frequency="1d", rule=rule).pieces]


def rising(count: int, start: float = 100.0) -> list[float]:
    return [start + k for k in range(count)]


def test_published_thresholds() -> None:
    assert CLEANING["1m"] == CleaningRule(2048, 0.10, 15, 45)
    assert CLEANING["1d"] == CleaningRule(128, 0.30, 1, 3)
    assert CLEANING["1w"] == CleaningRule(16, 0.50, 0, 2)
    assert len(CLEANING) == 8


def test_nothing_to_cut() -> None:
    assert spans(bars(rising(20))) == [(0, 19)]
    assert len(clean_bars(sample_bars("sp500")).pieces) == 1


def test_a_jump_splits_between_two_bars() -> None:
    table = bars(rising(10) + rising(10, 200.0))
    assert spans(table) == [(0, 9), (10, 19)]
    assert clean_bars(table, frequency="1d", rule=RULE).jumps == 1
    assert spans(bars(rising(10) + rising(10, 143.0))) == [(0, 9), (10, 19)]  # 109 → 143 is 31 %


def test_a_jump_below_the_threshold_does_not_split() -> None:
    assert spans(bars(rising(10) + rising(10, 140.0))) == [(0, 19)]  # 109 → 140 is 28 %


def test_untraded_runs_are_cut_when_longer_than_the_threshold() -> None:
    volume = [1.0] * 20
    volume[8] = 0.0
    assert spans(bars(rising(20), volume)) == [(0, 19)]
    volume[9] = 0.0
    assert spans(bars(rising(20), volume)) == [(0, 7), (10, 19)]
    assert clean_bars(bars(rising(20), volume), frequency="1d", rule=RULE).idle_bars == 2


def test_series_without_any_volume_are_not_judged_by_it() -> None:
    assert spans(bars(rising(20), [0.0] * 20)) == [(0, 19)]


def test_standing_closes_are_cut_when_longer_than_the_threshold() -> None:
    def flat(count: int) -> list[float]:
        return [*rising(10), *[109.0] * count, *rising(10, 110.0)]

    assert spans(bars(flat(3))) == [(0, 22)]
    assert spans(bars(flat(4))) == [(0, 9), (14, 23)]


def test_short_pieces_are_left_out() -> None:
    found = clean_bars(bars(rising(4) + rising(10, 200.0)), frequency="1d", rule=RULE)
    assert [(piece.first, piece.last) for piece in found.pieces] == [(4, 13)]
    assert found.short_bars == 4


def test_a_missing_price_splits() -> None:
    close = rising(20)
    close[10] = np.nan
    assert spans(bars(close)) == [(0, 9), (11, 19)]


def test_symbols_are_cut_apart_and_pieces_are_symbols() -> None:
    table = pd.concat([bars(rising(20)).assign(symbol="A"), bars(rising(10) + rising(10, 200.0)).assign(symbol="B")])
    found = clean_bars(table.reset_index(drop=True), frequency="1d", rule=RULE)
    frame = found.to_frame()
    assert frame.groupby("symbol").size().to_dict() == {"A/1": 20, "B/1": 10, "B/2": 10}
    assert found.to_dict()["rows_kept"] == 40


def test_nothing_left_and_nothing_to_start_with() -> None:
    assert clean_bars(bars(rising(3)), frequency="1d", rule=RULE).to_frame().empty
    assert clean_bars(bars([]), frequency="1d", rule=RULE).pieces == ()


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="no thresholds for bars of 2h"):
        clean_bars(bars(rising(9)), frequency="2h")
    with pytest.raises(DataError, match="frequency"):
        clean_bars(bars(rising(9)))
