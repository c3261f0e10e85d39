"""A market for tests: a cross-section cut from the packaged index samples, which are single series.

The S&P 500 and the Nasdaq composite of 1999–2018 are cut into pieces of 260 sessions that do not overlap, and every
piece is dated as if it had been traded on the last 260 of them. That gives 38 symbols of real bars on one real
calendar. What it does not give is a market: pieces of different years do not move together.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from kronos.backtesting.config import BacktestSettings, ResearchConfig
from kronos.backtesting.export import write_provider
from kronos.backtesting.provider import Provider
from kronos.bars import sample_bars

SESSIONS = 260
SUSPENDED = ("SP02", 100)  # a symbol and the session on which it has no bar


@cache
def _pieces() -> pd.DataFrame:
    tables = []
    for name, sample in (("SP", "sp500"), ("NQ", "nasdaq")):
        bars = sample_bars(sample).drop(columns="symbol")
        days = bars["timestamp"].tail(SESSIONS).to_numpy()
        for number in range(len(bars) // SESSIONS):
            piece = bars.iloc[number * SESSIONS : (number + 1) * SESSIONS].assign(timestamp=days)
            piece.insert(1, "symbol", f"{name}{number:02d}")
            tables.append(piece)
    joined = pd.concat(tables, ignore_index=True)
    symbol, session = SUSPENDED
    gone = (joined["symbol"] == symbol) & (joined["timestamp"] == days[session])
    joined = joined[~gone].reset_index(drop=True)
    joined.attrs = {}
    return joined


def market_bars() -> pd.DataFrame:
    """38 symbols × 260 sessions of 2017-12-18 … 2018-12-31, one of them suspended for a day."""
    return _pieces().copy()


def export_market(folder: Path) -> Provider:
    """The market as a provider, with a set of 30 symbols beside ``all``."""
    bars = market_bars()
    write_provider(bars, folder, sets={"some": sorted(bars["symbol"].unique())[:30]})
    return Provider(folder)


def research(provider: Provider, out: Path, **backtest: object) -> ResearchConfig:
    """Settings that fit the market; a portfolio of 10."""
    settings = {"topk": 10, "n_drop": 3, "hold_thresh": 1, "random_runs": 2, "signals": ("mean",)}
    return ResearchConfig(
        provider=provider.folder,
        out=out,
        calendar="XNYS",
        lookback_window=30,
        predict_window=5,
        train_time_range=("2017-12-18", "2018-06-29"),
        val_time_range=("2018-05-18", "2018-09-14"),
        test_time_range=("2018-08-10", "2018-12-31"),
        backtest_time_range=("2018-10-01", "2018-12-31"),
        backtest=BacktestSettings(**{**settings, **backtest}),
    )


def panel_of(values: pd.DataFrame, name: str) -> pd.Series:
    """(dates, symbols) as a signal by (datetime, instrument)."""
    table = values.copy()
    table.index.name, table.columns.name = "datetime", "instrument"
    return pd.Series(table.stack(), name=name).dropna()


def next_returns(provider: Provider, names: list[str], sessions: int) -> pd.DataFrame:
    """What a date's signal would have to know: the return from the next open to the open some sessions later."""
    opens = provider.features(names, ["open"])["open"].unstack("instrument").astype(float)
    return pd.DataFrame(opens.shift(-1 - sessions) / opens.shift(-1) - 1.0)


def random_table(index: pd.DatetimeIndex, names: list[str], seed: int) -> pd.DataFrame:
    """Independent numbers by date and symbol."""
    draws = np.random.default_rng(seed).standard_normal((len(index), len(names)))
    return pd.DataFrame(draws, index=index, columns=names)
