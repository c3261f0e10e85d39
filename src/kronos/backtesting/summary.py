"""``summary.json``: every figure with its definition, every comparison with its test, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.performance import DEFINITIONS, annual_mean, capacity, performance
from kronos.backtesting.simulate import Simulation
from kronos.backtesting.study import Study
from kronos.evaluation.statistics import MeanTest, holm, newey_west, verdict

FORMAT: Final = 1
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
    figures = {name: performance(simulation, per_year) for name, simulation in simulations.items()}
    for name, simulation in simulations.items():
        figures[name]["capacity"] = capacity(
            simulation.held, traded_value, settings.invested / settings.topk, settings.participation
        )
    figures["random"]["runs_excess_annual"] = [
        float((run.net - run.daily["bench"]).mean() * per_year) for run in random_runs
    ]
    signals = [name for name in simulations if name not in ("random", "momentum")]
    compared = comparisons(simulations, signals, settings.benchmark, per_year)
    ordering = dict(zip(signals, holm([studies[name].rank_ic_test.p for name in signals]), strict=True))
    dates = pd.DatetimeIndex(panel.index.get_level_values("datetime").unique()).sort_values()
    sessions = pd.DatetimeIndex(next(iter(simulations.values())).daily.index)
    return {
        "format": FORMAT,
        "verdict": [in_words(name, figures[name], studies[name], ordering[name], compared) for name in signals],
        "notes": [*notes.values(), *_notes(config, panel, sessions)],
        "sessions": {"first": f"{sessions[0]:%Y-%m-%d}", "last": f"{sessions[-1]:%Y-%m-%d}", "count": len(sessions)},
        "signal_dates": {"first": f"{dates[0]:%Y-%m-%d}", "last": f"{dates[-1]:%Y-%m-%d}", "count": len(dates)},
        "benchmark": settings.benchmark,
        "strategies": figures,
        "studies": {
            name: {**study_figures(one, per_year), "rank_ic_adjusted_p": float(ordering.get(name, np.nan))}
            for name, one in studies.items()
        },
        "comparisons": compared,
        "definitions": DEFINITIONS,
        "settings": config.model_dump(mode="json"),
    }


def comparisons(
    simulations: Mapping[str, Simulation], signals: list[str], benchmark: str, per_year: int
) -> list[dict[str, Any]]:
    """Daily net returns of each signal less those of the benchmark, of lots and of momentum; p-values by Holm."""
    rows: list[dict[str, Any]] = []
    for name in signals:
        net = simulations[name].net.to_numpy()
        others = {benchmark: simulations[name].daily["bench"].to_numpy()}
        others |= {other: simulations[other].net.to_numpy() for other in ("random", "momentum")}
        for other, returns in others.items():
            rows.append(_compare(name, other, net - returns, per_year))
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["adjusted_p"] = float(adjusted)
        row["words"] = verdict(_called(row["other"]), row.pop("estimate"), float(adjusted), lower_is_better=False)
    return rows


def _compare(name: str, other: str, difference: npt.NDArray[np.float64], per_year: int) -> dict[str, Any]:
    estimate, test = annual_mean(difference, per_year), newey_west(difference)
    return {
        "signal": name,
        "other": other,
        "difference_annual": estimate.as_dict(),
        "t": test.t,
        "p": test.p,
        "estimate": estimate,
    }


def _called(other: str) -> str:
    names = {"universe": "the equal-weight universe", "random": "a random signal"}
    return names.get(other, other)


def in_words(
    name: str, figures: dict[str, Any], studied: Study, ordering_p: float, compared: list[dict[str, Any]]
) -> dict[str, str]:
    """The verdict on one signal.

    Args:
        ordering_p: p-value of its mean rank IC, corrected for the number of signals.
    """
    excess, own = figures["excess_annual"], [row for row in compared if row["signal"] == name]
    sides = [row["words"] for row in own]
    rank = studied.rank_ic_test
    ordered = "does not show that it orders what comes"
    if ordering_p < 0.05:
        ordered = "orders what comes" if rank.mean > 0 else "orders what comes the wrong way round"
    earned = (
        f"{excess['value']:+.1%} a year against {_called(own[0]['other'])} after cost "
        f"({_interval(excess)}): {'; '.join(sides)}. "
    )
    judged = f"It {ordered} (rank IC {rank.mean:+.3f}, t {rank.t:.1f}, p {ordering_p:.3f}, {rank.n} dates)."
    if not rank.n:
        judged = "Whether it orders what comes cannot be told: no date has enough names with unlike signals."
    return {"signal": name, "words": earned + judged}


def _interval(entry: dict[str, float]) -> str:
    if not np.isfinite(entry["low"]):
        return "too short a time for an interval"
    return f"95 % interval {entry['low']:+.1%} to {entry['high']:+.1%}"


def study_figures(one: Study, per_year: int) -> dict[str, Any]:
    """A study in plain types."""
    return {
        "horizon": one.horizon,
        "dates": len(one.ic),
        "ic": _test(one.ic_test),
        "rank_ic": _test(one.rank_ic_test),
        "decay": {str(ahead): {k: float(v) for k, v in row.items()} for ahead, row in one.decay.iterrows()},
        "groups": [float(value) for value in one.groups],
        "monotone": one.monotone,
        "spread": {**_test(one.spread_test), "annual": one.spread_test.mean * per_year / one.horizon},
        "top_group_turnover": one.turnover,
    }


def _test(test: MeanTest) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(test).items()}


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
