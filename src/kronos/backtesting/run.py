"""Signals side by side: each traded by Qlib, studied without a strategy, and compared with lots and momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.provider import Provider
from kronos.backtesting.signals import EXPOSURES, NEUTRAL, momentum_signal, neutralise, random_signal
from kronos.backtesting.simulate import Simulation, benchmark_returns, simulate, tradable_sessions
from kronos.backtesting.study import Study, study
from kronos.backtesting.summary import MOMENTUM, RANDOM, summarise
from kronos.errors import ConfigError
from kronos.protocol import Progress


@dataclass(frozen=True)
class Backtest:
    """Everything a report shows.

    Attributes:
        simulations: by signal, baselines included; ``random`` is the mean of its runs.
        studies: by signal.
        benchmark: its name.
        summary: plain figures and words, as in ``summary.json``.
    """

    simulations: dict[str, Simulation]
    studies: dict[str, Study]
    benchmark: str
    summary: dict[str, Any]

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
    signals = chosen_signals(panel, config)
    names = sorted(map(str, panel.index.get_level_values("instrument").unique()))
    before = sessions[0] - pd.Timedelta(days=2 * config.lookback_window + 30)
    closes = provider.table(names, before, sessions[-1])
    index = next(iter(signals.values())).index
    signals[MOMENTUM] = momentum_signal(index, closes, config.lookback_window)
    lots = [random_signal(index, seed) for seed in range(settings.random_runs)]
    runs = [(RANDOM, lot) for lot in lots] + list(signals.items())
    traded = []
    for done, (name, signal) in enumerate(runs):
        if progress is not None:
            progress(done, len(runs), name)
        traded.append(simulate(provider, signal, benchmark, settings))
    random_runs = traded[: len(lots)]
    simulations = dict(zip(signals, traded[len(lots) :], strict=True)) | {RANDOM: mean_simulation(random_runs)}
    deals = deal_prices(provider, names, settings.deal_price, sessions)
    studied = signals | {RANDOM: lots[0]}
    studies = {name: study(s, deals, config.predict_window, settings.groups) for name, s in studied.items()}
    values = traded_value(provider, names, closes)
    summary = summarise(config, simulations, studies, random_runs, values, panel, dict(notes or {}))
    return Backtest(simulations, studies, settings.benchmark, summary)


def chosen_signals(panel: pd.DataFrame, config: ResearchConfig) -> dict[str, pd.Series]:
    """The signals of the settings, and each once more without what ``neutralise`` names.

    Raises:
        ConfigError: the panel has no such column.
    """
    chosen, exposures = config.backtest.signals, config.backtest.neutralise
    if missing := [name for name in (*chosen, *exposures) if name not in panel.columns]:
        known = ", ".join(str(name) for name in panel.columns if name not in EXPOSURES)
        raise ConfigError(f"the panel of signals has no column '{missing[0]}'; it has: {known}")
    signals = {name: panel[name].dropna() for name in chosen}
    if exposures:
        signals |= {name + NEUTRAL: neutralise(panel, name, exposures).dropna() for name in chosen}
    return signals


def deal_prices(provider: Provider, names: list[str], field: str, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """The price of each session that deals are made at; the close where there is none, as Qlib does."""
    closes = provider.table(names, sessions[0], sessions[-1])
    if field != "close":
        closes = provider.table(names, sessions[0], sessions[-1], field).fillna(closes)
    return closes.reindex(sessions)


def traded_value(provider: Provider, names: list[str], closes: pd.DataFrame) -> pd.DataFrame:
    """The traded value of each session; volume × close where a provider knows no amount."""
    amounts, volumes = (
        provider.table(names, closes.index[0], closes.index[-1], field) for field in ("amount", "volume")
    )
    return amounts.fillna(volumes * closes)


def mean_simulation(runs: list[Simulation]) -> Simulation:
    """The average of runs that differ by their lots alone: an equal share of the account in each."""
    daily = sum((run.daily for run in runs[1:]), start=runs[0].daily) / len(runs)
    holdings = sum((run.holdings for run in runs[1:]), start=runs[0].holdings) / len(runs)
    return Simulation(daily, holdings, runs[0].held)
