"""The charts of the report, by plotly; the page holds plotly.js itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from kronos.backtesting.performance import drawdown
from kronos.backtesting.signals import NEUTRAL
from kronos.backtesting.simulate import Simulation
from kronos.backtesting.study import Study
from kronos.evaluation.report_charts import INK, PALETTE, dress

if TYPE_CHECKING:
    import plotly.graph_objects as go

OPACITY: Final = {"solid": 1.0, "dash": 0.55, "dot": 0.4}
"""Of bars, where a line would be solid, dashed or dotted."""

Styles = Mapping[str, Mapping[str, Any]]


def styles(names: list[str], baselines: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Line of each strategy: signals solid, their neutral forms dashed in the same colour, baselines dotted."""
    families = list(dict.fromkeys(name.removesuffix(NEUTRAL) for name in names))
    lines = {}
    for name in names:
        family = name.removesuffix(NEUTRAL)
        dash = "dot" if name in baselines else "solid" if family == name else "dash"
        colour = PALETTE[families.index(family) % len(PALETTE)]
        lines[name] = {"color": colour, "width": 2.2 if dash == "solid" else 1.4, "dash": dash}
    return lines


def wealth_chart(simulations: Mapping[str, Simulation], benchmark: str, lines: Styles) -> go.Figure:
    """Compounded return after cost; that of signals before cost thin and dashed, shown on a click in the legend."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in simulations.items():
        _line(chart, name, growth(one.net), lines[name])
        if lines[name]["dash"] == "solid":
            before = {**lines[name], "width": 1, "dash": "dash"}
            _line(chart, f"{name}, before cost", growth(one.daily["gross"]), before, visible="legendonly")
    bench = next(iter(simulations.values())).daily["bench"]
    _line(chart, benchmark, growth(bench), {"color": INK, "width": 2})
    chart.update_yaxes(tickformat="+.0%")
    return dress(chart, 460, title="Return since the start, after cost")


def excess_chart(simulations: Mapping[str, Simulation], lines: Styles) -> go.Figure:
    """Sum of the daily excess over the benchmark, after cost."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in simulations.items():
        _line(chart, name, (one.net - one.daily["bench"]).cumsum(), lines[name])
    chart.update_yaxes(tickformat="+.0%")
    return dress(chart, 380, title="Excess over the benchmark after cost, summed")


def drawdown_chart(simulations: Mapping[str, Simulation], lines: Styles) -> go.Figure:
    """Net wealth below its peak."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in simulations.items():
        _line(chart, name, drawdown(one.net), lines[name])
    chart.update_yaxes(tickformat=".0%")
    return dress(chart, 380, title="Drawdown")


def turnover_chart(simulations: Mapping[str, Simulation], lines: Styles) -> go.Figure:
    """Value traded a day over the account, mean of a month."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in simulations.items():
        _line(chart, name, one.daily["turnover"].resample("MS").mean(), lines[name])
    chart.update_yaxes(tickformat=".0%", rangemode="tozero")
    return dress(chart, 380, title="Turnover a day, by month")


def ic_chart(studies: Mapping[str, Study], lines: Styles) -> go.Figure:
    """The rank IC of each date, summed: a steady rise is skill, a jump is luck."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in studies.items():
        _line(chart, name, one.ic["rank_ic"].cumsum(), lines[name])
    return dress(chart, 380, title="Rank IC, summed over dates")


def decay_chart(studies: Mapping[str, Study], lines: Styles) -> go.Figure:
    """Mean rank IC by sessions ahead, with one standard error."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in studies.items():
        chart.add_scatter(
            x=one.decay.index.astype(str),
            y=one.decay["rank_ic"],
            error_y={"array": one.decay["error"], "thickness": 1, "width": 2},
            mode="lines+markers",
            line=dict(lines[name]),
            name=name,
        )
    chart.update_xaxes(title="sessions ahead", type="category")
    return dress(chart, 380, title="Rank IC by sessions ahead, ± one standard error", **{"legend_y": -0.3})


def groups_chart(studies: Mapping[str, Study], lines: Styles) -> go.Figure:
    """Mean return over the horizon of each group of the signal."""
    import plotly.graph_objects as go

    chart = go.Figure()
    for name, one in studies.items():
        chart.add_bar(
            x=[str(number) for number in range(1, len(one.groups) + 1)],
            y=one.groups,
            marker_color=lines[name]["color"],
            opacity=OPACITY[lines[name]["dash"]],
            name=name,
        )
    horizon = next(iter(studies.values())).horizon
    chart.update_xaxes(title="group by signal, lowest to highest", type="category")
    chart.update_yaxes(tickformat="+.2%")
    return dress(chart, 380, title=f"Mean return over {horizon} sessions by group")


def growth(daily: pd.Series) -> pd.Series:
    """Compounded return since the start."""
    return (1.0 + daily).cumprod() - 1.0


def _line(chart: go.Figure, name: str, series: pd.Series, line: Mapping[str, Any], **options: Any) -> None:
    chart.add_scatter(x=series.index, y=series, mode="lines", line=dict(line), name=name, **options)
