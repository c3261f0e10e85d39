"""The trading side of the evaluation's investment task: TopkDropout with costs, by the backtest."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from kronos.bars import FEATURES
from kronos.errors import MissingExtraError
from kronos.evaluation.investment import Trade
from kronos.evaluation.windows import Series

HELD, DROPPED, HOLD, COST = 50, 5, 5, 0.0015  # the paper's, for an index of 300 names
SHARE = 5  # of fewer names at most every fifth is held


def trader() -> Trade:
    """What trades signals here.

    Raises:
        MissingExtraError: Qlib is not installed.
    """
    if find_spec("qlib") is None:
        raise MissingExtraError("pyqlib", "qlib", "The task 'investment'")
    return trade


def trade(series: Mapping[str, Series], signals: Mapping[str, pd.Series]) -> dict[str, pd.DataFrame]:
    """By forecaster a table of sessions, as ``Trade`` has it; a signal is traded on the session after it."""
    from kronos.backtesting.config import UNIVERSE, BacktestSettings
    from kronos.backtesting.export import write_provider
    from kronos.backtesting.provider import Provider
    from kronos.backtesting.simulate import benchmark_returns, simulate, tradable_sessions

    names = sorted({str(name) for signal in signals.values() for name in signal.index.get_level_values("instrument")})
    topk = max(1, min(HELD, len(names) // SHARE))
    settings = BacktestSettings(
        topk=topk, n_drop=max(1, topk * DROPPED // HELD), hold_thresh=HOLD, open_cost=COST, close_cost=COST
    )
    out = {}
    with TemporaryDirectory() as folder:
        bars = pd.concat([_table(series[name]).assign(symbol=name) for name in names], ignore_index=True)
        written = write_provider(bars, Path(folder) / "provider")
        provider = Provider(written.folder)
        dates = pd.DatetimeIndex(next(iter(signals.values())).index.get_level_values("datetime"))
        calendar = provider.calendar()
        sessions = tradable_sessions(provider, calendar[calendar >= dates.min()])
        benchmark = benchmark_returns(provider, UNIVERSE, provider.members("all"), sessions)
        for name, signal in signals.items():
            done = simulate(provider, signal.rename(index=written.renamed, level="instrument"), benchmark, settings)
            out[name] = done.daily[["bench", "turnover"]].assign(net=done.net)
    return out


def _table(series: Series) -> pd.DataFrame:
    """The bars of one symbol, timestamps on the exchange's clock without a zone."""
    times = pd.DatetimeIndex(series.timestamps)
    if series.zone is not None:
        times = times.tz_localize("UTC").tz_convert(series.zone).tz_localize(None)
    table = pd.DataFrame(series.values, columns=list(FEATURES))
    table.insert(0, "timestamp", times)
    return table
