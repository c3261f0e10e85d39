"""``summary.json``: every figure with its definition, every comparison with its test, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.performance import DEFINITIONS, annual_mean, capacity, performance
from kronos.backtesting.simulate import Simulation
from kronos.backtesting.study import Study
from kronos.evaluation.statistics import Estimate, holm, newey_west, verdict

FORMAT: Final = 1
RANDOM, MOMENTUM = "random", "momentum"
BASELINES: Final = (RANDOM, MOMENTUM)
_CALLED: Final = {"universe": "the equal-weight universe", RANDOM: "a random signal"}
_SHORT: Final = 252  # sessions; fewer cannot tell a strategy from luck


def summarise(
    config: ResearchConfig,
    simulations: Mapping[str, Simulation],
    studies: Mapping[str, Study],
    random_runs: list[Simulation],
    traded_value: pd.DataFrame,
    panel: pd.DataFrame,
    notes: dict[str, str],
) -> dict[str, Any]:
    """The whole summary, in plain types."""
    settings, per_year = config.backtest, config.sessions_per_year
    order = settings.invested / settings.topk
    figures = {
        name: performance(one, per_year) | {"capacity": capacity(one.held, traded_value, order, settings.participation)}
        for name, one in simulations.items()
    }
    figures[RANDOM]["runs_excess_annual"] = [
        float((run.net - run.daily["bench"]).mean() * per_year) for run in random_runs
    ]
    signals = [name for name in simulations if name not in BASELINES]
    compared = comparisons(simulations, signals, settings.benchmark, per_year)
    ordering = dict(zip(signals, holm([studies[name].rank_ic_test.p for name in signals]), strict=True))
    sessions = pd.DatetimeIndex(next(iter(simulations.values())).daily.index)
    return {
        "format": FORMAT,
        "verdict": [in_words(name, figures[name], studies[name], ordering[name], compared) for name in signals],
        "notes": [*notes.values(), *_notes(config, panel, sessions)],
        "sessions": _span(sessions),
        "signal_dates": _span(panel.index.get_level_values("datetime").unique().sort_values()),
        "benchmark": settings.benchmark,
        "strategies": figures,
        "studies": {
            name: study_figures(one, per_year) | {"rank_ic_adjusted_p": float(ordering.get(name, np.nan))}
            for name, one in studies.items()
        },
        "comparisons": compared,
        "definitions": DEFINITIONS,
        "settings": config.model_dump(mode="json"),
    }


def _span(days: pd.Index) -> dict[str, Any]:
    return {"first": f"{days[0]:%Y-%m-%d}", "last": f"{days[-1]:%Y-%m-%d}", "count": len(days)}


def comparisons(
    simulations: Mapping[str, Simulation], signals: list[str], benchmark: str, per_year: int
) -> list[dict[str, Any]]:
    """Daily net returns of each signal less those of the benchmark, of lots and of momentum; p-values by Holm."""
    rows: list[dict[str, Any]] = []
    estimates: list[Estimate] = []
    for name in signals:
        others = {benchmark: simulations[name].daily["bench"]} | {other: simulations[other].net for other in BASELINES}
        for other, returns in others.items():
            difference = (simulations[name].net - returns).to_numpy()
            estimate, test = annual_mean(difference, per_year), newey_west(difference)
            estimates.append(estimate)
            row = {"signal": name, "other": other, "difference_annual": estimate.as_dict(), "t": test.t, "p": test.p}
            rows.append(row)
    for row, estimate, adjusted in zip(rows, estimates, holm([row["p"] for row in rows]), strict=True):
        row["adjusted_p"] = float(adjusted)
        row["words"] = verdict(_called(row["other"]), estimate, float(adjusted), lower_is_better=False)
    return rows


def _called(other: Any) -> str:
    return _CALLED.get(other, str(other))


def in_words(
    name: str, figures: dict[str, Any], studied: Study, ordering_p: float, compared: list[dict[str, Any]]
) -> dict[str, str]:
    """The verdict on one signal.

    Args:
        ordering_p: p-value of its mean rank IC, corrected for the number of signals.
    """
    excess, against = figures["excess_annual"], [row for row in compared if row["signal"] == name]
    interval = "too short a time for an interval"
    if np.isfinite(excess["low"]):
        interval = f"95 % interval {excess['low']:+.1%} to {excess['high']:+.1%}"
    earned = (
        f"{excess['value']:+.1%} a year against {_called(against[0]['other'])} after cost "
        f"({interval}): {'; '.join(row['words'] for row in against)}. "
    )
    rank = studied.rank_ic_test
    ordered = "does not show that it orders what comes"
    if ordering_p < 0.05:
        ordered = "orders what comes" if rank.mean > 0 else "orders what comes the wrong way round"
    judged = f"It {ordered} (rank IC {rank.mean:+.3f}, t {rank.t:.1f}, p {ordering_p:.3f}, {rank.n} dates)."
    if not rank.n:
        judged = "Whether it orders what comes cannot be told: no date has enough names with unlike signals."
    return {"signal": name, "words": earned + judged}


def study_figures(one: Study, per_year: int) -> dict[str, Any]:
    """A study in plain types."""
    ic, rank_ic, spread = (
        {name: float(value) for name, value in asdict(test).items()}
        for test in (one.ic_test, one.rank_ic_test, one.spread_test)
    )
    return {
        "horizon": one.horizon,
        "dates": len(one.ic),
        "ic": ic,
        "rank_ic": rank_ic,
        "decay": {str(ahead): {k: float(v) for k, v in row.items()} for ahead, row in one.decay.iterrows()},
        "groups": [float(value) for value in one.groups],
        "monotone": one.monotone,
        "spread": spread | {"annual": one.spread_test.mean * per_year / one.horizon},
        "top_group_turnover": one.turnover,
    }


def _notes(config: ResearchConfig, panel: pd.DataFrame, sessions: pd.DatetimeIndex) -> list[str]:
    """What a reader must know before believing a figure."""
    notes = []
    names = panel.groupby(level="datetime").size()
    if names.min() < 2 * config.backtest.topk:
        notes.append(
            f"on some dates only {int(names.min())} names have a signal, for a portfolio of {config.backtest.topk}: "
            "most of the universe is held whatever the signal says"
        )
    if len(sessions) < _SHORT:
        notes.append(f"{len(sessions)} sessions are too few to tell a strategy from luck")
    return notes
