"""A signal traded by Qlib: TopkDropout with costs, one session a step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pandas as pd

from kronos.backtesting.config import UNIVERSE, BacktestSettings
from kronos.backtesting.provider import Provider, Spans, member_mask, use_provider
from kronos.errors import ConfigError, DataError

STRATEGY: Final = {"topk", "n_drop", "hold_thresh"}
EXCHANGE: Final = {"deal_price", "open_cost", "close_cost", "min_cost", "limit_threshold", "trade_unit"}
"""Settings that Qlib's strategy and Qlib's exchange know by the same names."""


@dataclass(frozen=True)
class Simulation:
    """What a strategy earned, by session."""

    daily: pd.DataFrame  # ``gross`` return before cost, ``cost`` and ``turnover`` as shares of the account, ``bench``
    holdings: pd.Series  # number of names held
    held: pd.DataFrame  # (sessions, instruments) share of the account in each name

    @property
    def net(self) -> pd.Series:
        """Daily return after cost."""
        return self.daily["gross"] - self.daily["cost"]

    @property
    def excess(self) -> pd.Series:
        """Daily return after cost less the benchmark's."""
        return self.net - self.daily["bench"]


def simulate(provider: Provider, signal: pd.Series, benchmark: pd.Series, settings: BacktestSettings) -> Simulation:
    """Trades one signal over the sessions of the benchmark.

    The signal of a session is traded on the next one, at its ``deal_price``. Sessions without signals trade nothing.

    Args:
        signal: by (datetime, instrument); equal values of a date are ordered by lot.
        benchmark: daily returns; its sessions are those of the backtest.

    Raises:
        DataError: the signal names no instrument of the provider, or lies outside the sessions.
    """
    use_provider(provider.folder)
    from qlib.backtest import get_strategy_executor
    from qlib.backtest.executor import SimulatorExecutor
    from qlib.contrib.strategy.signal_strategy import TopkDropoutStrategy

    sessions, ranked = pd.DatetimeIndex(benchmark.index), ranks(signal)
    names = sorted(map(str, ranked.index.get_level_values("instrument").unique()))
    dates = pd.DatetimeIndex(ranked.index.get_level_values("datetime"))
    if unknown := provider.lacks(names):
        raise DataError(
            f"the signals name {len(unknown)} instruments that the provider {provider.folder} does not have, "
            f"the first '{unknown[0]}'"
        )
    if not ((dates >= sessions[0]) & (dates < sessions[-1])).any():
        of = f"{dates.min().date()} … {dates.max().date()}" if len(dates) else "no date at all"
        raise DataError(
            f"no signal lies in the backtest, {sessions[0].date()} … {sessions[-1].date()}; the signals are of {of}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Qlib's own, about pandas and empty slices
        trader, market = get_strategy_executor(
            sessions[0],
            sessions[-1],
            TopkDropoutStrategy(signal=ranked, risk_degree=settings.invested, **settings.model_dump(include=STRATEGY)),
            SimulatorExecutor("day", generate_portfolio_metrics=True),
            benchmark=benchmark,
            account=settings.account,
            pos_type=_ordered_position(),
            exchange_kwargs={"freq": "day", "codes": names, **settings.model_dump(include=EXCHANGE)},
        )
        market.reset(start_time=sessions[0], end_time=sessions[-1])
        trader.reset(level_infra=market.get_level_infra())
        result = None
        while not market.finished():  # Qlib's own loop draws a progress bar on stderr
            result = market.execute(trader.generate_trade_decision(result))
            trader.post_exe_step(result)
        metrics, positions = market.trade_account.get_portfolio_metrics()
    daily = metrics.rename(columns={"return": "gross"})[["gross", "cost", "turnover", "bench", "account"]].astype(float)
    weights = {
        day: {name: float(position.get_stock_weight(name)) for name in position.get_stock_list()}
        for day, position in positions.items()
    }
    held = pd.DataFrame.from_dict(weights, orient="index", dtype=float).reindex(daily.index)
    return Simulation(daily, (held > 0).sum(axis=1), held)


@cache
def _ordered_position() -> type:
    """Qlib's book of what is held, with the names in order.

    Its own lists them as a set does, by hashes that differ from process to process, and trades and adds up in that
    order: the last digits of every figure would differ with them, and so would the choice among names without a signal.
    """
    from qlib.backtest.position import Position

    class OrderedPosition(Position):  # type: ignore[misc]  # Qlib has no types
        """A position whose names are listed in their order."""

        def get_stock_list(self) -> list[str]:
            """Names held, ascending."""
            return sorted(super().get_stock_list())

    return OrderedPosition


def tradable_sessions(provider: Provider, sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The sessions that Qlib can trade: it asks for the one after each, so the calendar's last one is out.

    Raises:
        ConfigError: fewer than two are left.
    """
    kept = sessions[sessions < provider.calendar()[-1]]
    if len(kept) < 2:
        raise ConfigError(
            f"the backtest has {len(kept)} sessions before the last one of the provider's calendar; it needs two"
        )
    return kept


def ranks(signal: pd.Series, seed: int = 0) -> pd.Series:
    """The signal's rank on each date, ties broken by lot: a share of paths takes few values, and any other order of
    equal names would always favour the same ones."""
    known = signal.dropna().sort_index()
    lots = pd.Series(np.random.default_rng(seed).random(len(known)), index=known.index)
    order = pd.DataFrame({"signal": known, "lot": lots}).sort_values(["signal", "lot"])
    return order.groupby(level="datetime").cumcount().astype(float).reindex(known.index)


def benchmark_returns(provider: Provider, benchmark: str, spans: Spans, sessions: pd.DatetimeIndex) -> pd.Series:
    """Daily returns of an instrument, or of the members of the set with equal weight every day.

    Raises:
        ConfigError: the provider has no such instrument, or no bars of it on the sessions.
    """
    universe, calendar = benchmark == UNIVERSE, provider.calendar()
    if not universe and provider.lacks([benchmark]):
        raise ConfigError(
            f"the provider {provider.folder} has no benchmark '{benchmark}'; name one of its "
            f"{len(provider.members('all'))} instruments, or '{UNIVERSE}' for the instrument set with equal weights"
        )
    before = calendar[max(0, int(calendar.searchsorted(sessions[0])) - 1)]
    closes = provider.table(sorted(spans) if universe else [benchmark], before, sessions[-1])
    moves = closes.ffill().pct_change(fill_method=None)
    if universe:
        members = member_mask(spans, moves.columns, pd.DatetimeIndex(moves.index))
        return moves.where(closes.notna() & members).mean(axis=1).reindex(sessions).fillna(0.0)
    known = closes[benchmark].reindex(sessions).notna()
    if not known.iloc[0] or known.mean() < 0.9:
        raise ConfigError(
            f"the benchmark '{benchmark}' has bars on {int(known.sum())} of the {len(sessions)} sessions from "
            f"{sessions[0].date()} to {sessions[-1].date()}; choose another one, or '{UNIVERSE}'"
        )
    return moves[benchmark].reindex(sessions).fillna(0.0)
