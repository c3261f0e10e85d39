"""The charts of the report: what each shows, drawn by plotly for the page and by matplotlib as a PNG file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from kronos.backtesting.performance import drawdown
from kronos.backtesting.run import Backtest
from kronos.backtesting.signals import NEUTRAL
from kronos.backtesting.simulate import Simulation
from kronos.backtesting.summary import BASELINES
from kronos.errors import MissingExtraError
from kronos.evaluation.report_charts import INK, PALETTE, dress
from kronos.files import replacing

if TYPE_CHECKING:
    import plotly.graph_objects as go

_OPACITY: Final = {"solid": 1.0, "dash": 0.55, "dot": 0.4}  # of bars, where a line would be solid, dashed or dotted
_DASHES: Final = {"solid": "-", "dash": "--", "dot": ":"}  # as matplotlib writes them
_BLACK, _GRID = "#1b2430", "#e8ecf0"  # of the PNG files, which are white

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """One strategy in a chart.

    Attributes:
        line: its colour, width and dash, as plotly has them.
        error: the length of error bars.
        hidden: on the page alone, and there only after a click in the legend.
    """

    name: str
    values: pd.Series
    line: Line
    error: pd.Series | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Chart:
    """What a chart shows, whatever draws it.

    Attributes:
        name: of the PNG file; empty: the page alone has it.
        kind: lines over time; points, or bars, over categories.
        axis: title of the horizontal axis.
        form: of the numbers on the vertical axis.
    """

    name: str
    title: str
    curves: list[Curve]
    kind: Literal["lines", "points", "bars"] = "lines"
    axis: str = ""
    form: str = ""
    height: int = 380


def lines_of(names: list[str]) -> dict[str, Line]:
    """Line of each strategy: signals solid, their neutral forms dashed in the same colour, baselines dotted."""
    families = list(dict.fromkeys(name.removesuffix(NEUTRAL) for name in names))
    lines: dict[str, Line] = {}
    for name in names:
        family = name.removesuffix(NEUTRAL)
        dash = "dot" if name in BASELINES else "solid" if family == name else "dash"
        colour = PALETTE[families.index(family) % len(PALETTE)]
        lines[name] = {"color": colour, "width": 2.2 if dash == "solid" else 1.4, "dash": dash}
    return lines


def growth(daily: pd.Series) -> pd.Series:
    """Compounded return since the start."""
    return (1.0 + daily).cumprod() - 1.0


def charts_of(backtest: Backtest) -> list[Chart]:
    """Return, excess, drawdown, turnover; rank IC summed and by sessions ahead; return by group of the signal."""
    lines, studies = lines_of(list(backtest.simulations)), backtest.studies

    def curves(series: Callable[[Simulation], pd.Series]) -> list[Curve]:
        return [Curve(name, series(one), lines[name]) for name, one in backtest.simulations.items()]

    returns = []
    for name, one in backtest.simulations.items():
        returns.append(Curve(name, growth(one.net), lines[name]))
        if lines[name]["dash"] == "solid":
            thin = {**lines[name], "width": 1, "dash": "dash"}
            returns.append(Curve(f"{name}, before cost", growth(one.daily["gross"]), thin, hidden=True))
    plain = {"color": INK, "width": 2, "dash": "solid"}
    returns.append(Curve(backtest.benchmark, growth(backtest.benchmark_returns), plain))
    skill = [Curve(name, one.ic["rank_ic"].cumsum(), lines[name]) for name, one in studies.items()]
    decay = [
        Curve(name, one.decay["rank_ic"].rename(index=str), lines[name], one.decay["error"])
        for name, one in studies.items()
    ]
    groups = [
        Curve(name, one.groups.set_axis([str(k + 1) for k in range(len(one.groups))]), lines[name])
        for name, one in studies.items()
    ]
    excess = curves(lambda one: (one.net - one.daily["bench"]).cumsum())
    turnover = curves(lambda one: one.daily["turnover"].resample("MS").mean())
    by_group = f"Mean return over {next(iter(studies.values())).horizon} sessions by group"
    ordered = "group by signal, lowest to highest"
    return [
        Chart("return", "Return since the start, after cost", returns, form="+.0%", height=460),
        Chart("excess", "Excess over the benchmark after cost, summed", excess, form="+.0%"),
        Chart("drawdown", "Drawdown", curves(lambda one: drawdown(one.net)), form=".0%"),
        Chart("turnover", "Turnover a day, by month", turnover, form=".0%"),
        Chart("ic", "Rank IC, summed over dates", skill),
        Chart("", "Rank IC by sessions ahead, ± one standard error", decay, "points", "sessions ahead"),
        Chart("groups", by_group, groups, "bars", ordered, "+.2%"),
    ]


def figure(chart: Chart) -> go.Figure:
    """A chart as plotly draws it."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for curve in chart.curves:
        x, y, line = curve.values.index, curve.values, dict(curve.line)
        if chart.kind == "bars":
            drawn.add_bar(x=x, y=y, marker_color=line["color"], opacity=_OPACITY[line["dash"]], name=curve.name)
            continue
        options: dict[str, Any] = {"visible": "legendonly"} if curve.hidden else {}
        if curve.error is not None:
            options["error_y"] = {"array": curve.error, "thickness": 1, "width": 2}
        mode = "lines" if chart.kind == "lines" else "lines+markers"
        drawn.add_scatter(x=x, y=y, mode=mode, line=line, name=curve.name, **options)
    if chart.axis:
        drawn.update_xaxes(title=chart.axis, type="category")
    if chart.form:
        drawn.update_yaxes(tickformat=chart.form)
    if chart.name == "turnover":
        drawn.update_yaxes(rangemode="tozero")
    return dress(drawn, chart.height, title=chart.title, **({"legend_y": -0.3} if chart.kind == "points" else {}))


def save_png(chart: Chart, folder: Path) -> Path:
    """Writes a chart as a PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError:
        raise MissingExtraError("matplotlib", "qlib", "A PNG chart") from None
    drawn = Figure(figsize=(10, 5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    shown = [curve for curve in chart.curves if not curve.hidden]
    for place, curve in enumerate(shown):
        y, line = curve.values.to_numpy(), curve.line
        colour = _BLACK if line["color"] == INK else line["color"]
        if chart.kind == "bars":
            width = 0.8 / len(shown)
            x = [spot + (place - (len(shown) - 1) / 2) * width for spot in range(len(y))]
            axes.bar(x, y, width, color=colour, alpha=_OPACITY[line["dash"]], label=curve.name)
            axes.set_xticks(range(len(y)), curve.values.index)
        else:
            style = {"linestyle": _DASHES[line["dash"]], "linewidth": line["width"] * 0.8}
            axes.plot(curve.values.index, y, color=colour, label=curve.name, **style)
    axes.axhline(0, color=_BLACK, linewidth=0.6)
    axes.set_title(chart.title, color=_BLACK, loc="left")
    axes.set_xlabel(chart.axis)
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.form:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    drawn.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path = folder / f"{chart.name}.png"
    with replacing(path) as part:
        drawn.savefig(part, format="png")
    return path
