"""Signals side by side: each traded by Qlib, studied without a strategy, and compared with lots and momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.provider import Provider
from kronos.backtesting.signals import EXPOSURES, NEUTRAL, momentum_signal, neutralise, random_signal
from kronos.backtesting.simulate import Simulation, benchmark_returns, simulate, tradable_sessions
from kronos.backtesting.summary import MOMENTUM, RANDOM, Study, study, summarise
from kronos.errors import ConfigError
from kronos.protocol import Progress


@dataclass(frozen=True)
class Backtest:
    """Everything a report shows."""

    simulations: dict[str, Simulation]  # by signal, baselines included; ``random`` is the mean of its runs
    studies: dict[str, Study]  # by signal
    benchmark: str
    summary: dict[str, Any]  # plain figures and words, as in ``summary.json``

    @property
    def benchmark_returns(self) -> pd.Series:
        """Daily returns of the benchmark."""
        return next(iter(self.simulations.values())).daily["bench"]


def run_backtest(
    config: ResearchConfig,
    provider: Provider,
    panel: pd.DataFrame,
    *,
    notes: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Backtest:
    """Backtests every signal that the settings name.

    Args:
        panel: by (datetime, instrument): signals, and the exposures where signals are to be neutralised.
        notes: what the report has to say beside the figures, by subject.
        progress: strategies done, strategies in all, the one at work.

    Raises:
        ConfigError: a signal that the panel lacks, a benchmark that the provider lacks, dates outside its calendar.
        DataError: signals of other instruments or dates.
    """
    settings, moments = config.backtest, panel.index.get_level_values("datetime")
    first, last = config.backtest_time_range or (moments.min().date(), moments.max().date())
    sessions = tradable_sessions(provider, provider.sessions(first, last, "backtest_time_range"))
    benchmark = benchmark_returns(provider, settings.benchmark, provider.members(config.instrument), sessions)
    if missing := [name for name in (*settings.signals, *settings.neutralise) if name not in panel.columns]:
        known = ", ".join(str(name) for name in panel.columns if name not in EXPOSURES)
        raise ConfigError(f"the panel of signals has no column '{missing[0]}'; it has: {known}")
    signals = {name: panel[name].dropna() for name in settings.signals}
    if settings.neutralise:
        signals |= {n + NEUTRAL: neutralise(panel, n, settings.neutralise).dropna() for n in settings.signals}
    names = sorted(map(str, panel.index.get_level_values("instrument").unique()))
    before = sessions[0] - pd.Timedelta(days=2 * config.lookback_window + 30)
    closes = provider.table(names, before, sessions[-1])
    amounts, volumes = (provider.table(names, closes.index[0], sessions[-1], field) for field in ("amount", "volume"))
    deals = closes.reindex(sessions)
    if settings.deal_price != "close":  # the close where there is no such price, as Qlib does
        deals = provider.table(names, sessions[0], sessions[-1], settings.deal_price).fillna(deals).reindex(sessions)
    index = next(iter(signals.values())).index
    signals[MOMENTUM] = momentum_signal(index, closes, config.lookback_window)
    lots = [random_signal(index, seed) for seed in range(settings.random_runs)]
    runs = [(RANDOM, lot) for lot in lots] + list(signals.items())
    traded = []
    for done, (name, signal) in enumerate(runs):
        if progress is not None:
            progress(done, len(runs), name)
        traded.append(simulate(provider, signal, benchmark, settings))
    random_runs, count = traded[: len(lots)], len(lots)
    # the average of runs that differ by their lots alone: an equal share of the account in each
    daily, holdings = (reduce(add, parts) / count for parts in zip(*((r.daily, r.holdings) for r in random_runs)))
    simulations = dict(zip(signals, traded[count:], strict=True))
    simulations[RANDOM] = Simulation(daily, holdings, random_runs[0].held)
    studied = signals | {RANDOM: lots[0]}
    studies = {name: study(s, deals, config.predict_window, settings.groups) for name, s in studied.items()}
    values = amounts.fillna(volumes * closes)  # some providers know no amount
    summary = summarise(config, simulations, studies, random_runs, values, panel, notes or {})
    return Backtest(simulations, studies, settings.benchmark, summary)
