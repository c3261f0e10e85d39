"""``report.html``, PNG files and ``summary.json``: what a backtest found, how sure it is, and what the words mean.

Charts are made with plotly, for the page; matplotlib draws the same ones as PNG files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from kronos.backtesting.run import Backtest
from kronos.backtesting.signals import NEUTRAL
from kronos.backtesting.summary import BASELINE_SIGNALS, drawdown, monthly
from kronos.errors import MissingExtraError
from kronos.evaluation.report import (
    PAGE,
    cells_html,
    chart_html,
    grid_html,
    number,
    row_html,
    table_html,
    text_cells,
)
from kronos.evaluation.report_charts import INK, PALETTE, dress
from kronos.files import json_text, replacing, write_json, write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Column title, where the figure is, its digits (None: a share, shown as per cent)
Columns = list[tuple[str, str, int | None]]
_STRATEGIES: Final[Columns] = [
    ("return a year [%]", "annual_return", None),
    ("before cost [%]", "annual_return_gross", None),
    ("excess a year [%]", "excess_annual", None),
    ("information ratio", "information_ratio", 2),
    ("Sharpe", "sharpe", 2),
    ("max drawdown [%]", "max_drawdown", None),
    ("turnover a day [%]", "turnover", None),
    ("cost a year [%]", "cost_annual", None),
    ("names held", "names_held", 1),
]
_STUDIES: Final[Columns] = [
    ("IC", "ic.mean", 4),
    ("t", "ic.t", 2),
    ("rank IC", "rank_ic.mean", 4),
    ("t", "rank_ic.t", 2),
    ("p (Holm)", "rank_ic_adjusted_p", 3),
    ("dates", "dates", 0),
    ("long–short a year [%]", "spread.annual", None),
    ("t", "spread.t", 2),
    ("ladder", "monotone", 2),
    ("top group new [%]", "top_group_turnover", None),
]
_COMPARISONS: Final[Columns] = [
    ("difference a year [%]", "difference_annual", None),
    ("t", "t", 2),
    ("p", "p", 3),
    ("p (Holm)", "adjusted_p", 3),
]
_OPACITY: Final = {"solid": 1.0, "dash": 0.55, "dot": 0.4}  # of bars, where a line would be solid, dashed or dotted
_DASHES: Final = {"solid": "-", "dash": "--", "dot": ":"}  # as matplotlib writes them
_BLACK, _GRID = "#1b2430", "#e8ecf0"  # of the PNG files, which are white


def write_report(backtest: Backtest, folder: Path) -> None:
    """Writes ``report.html``, ``summary.json``, ``daily.parquet`` and the PNG files; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = charts_of(backtest)
    for name, chart in charts.items():
        if name != "decay":
            save_png(chart, folder / f"{name}.png")
    daily = pd.concat({name: one.daily for name, one in backtest.simulations.items()}, names=["signal", "datetime"])
    with replacing(folder / "daily.parquet") as part:
        daily.to_parquet(part)
    write_json(folder / "summary.json", backtest.summary, indent=1)
    write_text(folder / "report.html", page(backtest, [chart_html(chart) for chart in charts.values()]))


def page(backtest: Backtest, charts: list[str]) -> str:
    """The whole document; plotly.js is inside, nothing is fetched. ``charts``: those of ``charts_of``, as HTML."""
    from plotly.offline import get_plotlyjs

    summary = backtest.summary
    span, dates, strategies = summary["sessions"], summary["signal_dates"], summary["strategies"]
    bench = _percent(next(iter(strategies.values()))["annual_return_benchmark"])
    compared = []
    for row in summary["comparisons"]:
        sides, figures = text_cells(row["signal"], row["other"]), cells_html(*_figures(_COMPARISONS, row))
        compared.append(f"<tr>{sides}{figures}{text_cells(row['words'])}</tr>")
    months = {name: monthly(one.net) for name, one in backtest.simulations.items()}
    table = pd.DataFrame(months | {backtest.benchmark: monthly(backtest.benchmark_returns)})
    month_rows = [row_html(str(month), map(_percent, row)) for month, *row in table.itertuples()]
    parts = [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts += [
        f"<p>{span['count']} sessions, {span['first']} … {span['last']}; signals on {dates['count']} dates. "
        f"Benchmark: {escape(summary['benchmark'])}. Brackets: 95 % bootstrap intervals.</p>",
        "<h2>Verdict</h2>",
        _words((entry["signal"], entry["words"]) for entry in summary["verdict"]),
        "<details><summary>All comparisons: a side is taken only where the interval leaves zero out and the p-value "
        f"after Holm's correction is below .05</summary>"
        f"{table_html(['signal', 'against', *(title for title, *_ in _COMPARISONS), 'verdict'], compared)}</details>",
        "<h2>Strategies</h2>",
        _figure_table(_STRATEGIES, strategies, [row_html("benchmark", [bench, *[""] * (len(_STRATEGIES) - 1)])]),
        f"<p><small>{escape(_capacity_note(summary))}</small></p>",
        charts[0],
        grid_html(charts[1:4]),
        "<h2>Months</h2>",
        "<details open><summary>net return by month [%]</summary>"
        f"{table_html(['', *table.columns], month_rows)}</details>",
        "<h2>Signals, without a strategy</h2>",
        _figure_table(_STUDIES, summary["studies"]),
        grid_html(charts[4:]),
        "<h2>What the words mean</h2>",
        _words(summary["definitions"].items()),
        "<h2>Settings</h2><details><summary>all of them</summary>"
        f"<pre>{escape(json_text(summary['settings'], indent=1))}</pre></details>",
    ]
    return PAGE.format(title="Backtest", plotly=get_plotlyjs(), body="\n".join(parts))


def _capacity_note(summary: Mapping[str, Any]) -> str:
    """How large the account may be, in words."""

    def money(value: float) -> str:
        return f"{value / 1e6:,.3g} million" if value >= 1e6 else f"{value / 1e3:,.3g} thousand"

    settings, sizes = summary["settings"]["backtest"], {n: s["capacity"] for n, s in summary["strategies"].items()}
    if all(one["median"] is None for one in sizes.values()):
        return "Capacity: the traded value of the names is not known."
    told = "; ".join(
        f"{name} {money(one['median'])} ({money(one['least_traded_tenth'])} by the least traded tenth)"
        for name, one in sizes.items()
        if one["median"] is not None and name not in BASELINE_SIGNALS
    )
    return (
        f"Capacity, the account at which an order is {settings['participation']:.0%} of the median day's traded value "
        f"of the names held: {told}. This backtest: {money(settings['account'])}."
    )


def _figures(columns: Columns, figures: Mapping[str, Any]) -> list[str]:
    values = [(reduce(lambda at, key: at[key], path.split("."), figures), digits) for _, path, digits in columns]
    return [_percent(value) if digits is None else number(value, digits) for value, digits in values]


def _percent(value: Any) -> str:
    """A share as per cent, with its interval where it has one."""
    if isinstance(value, Mapping):
        return number({key: None if entry is None else 100 * entry for key, entry in value.items()}, 1)
    return number(None if value is None else 100 * float(value), 1)


def _words(entries: Iterable[tuple[str, str]]) -> str:
    rows = (f"<tr><th>{escape(name)}</th>{text_cells(text)}</tr>" for name, text in entries)
    return f"<table>{''.join(rows)}</table>"


def _figure_table(columns: Columns, entries: Mapping[str, Mapping[str, Any]], more: Iterable[str] = ()) -> str:
    """A row an entry, signals bold."""
    rows = [row_html(name, _figures(columns, one), bold=name not in BASELINE_SIGNALS) for name, one in entries.items()]
    return table_html(["", *(title for title, *_ in columns)], [*rows, *more])


def charts_of(backtest: Backtest) -> dict[str, go.Figure]:
    """By name: return, excess, drawdown, turnover; rank IC summed and by sessions ahead; return by group of the signal.

    The names are those of the PNG files, which all have but for the points of ``decay``.
    """
    import plotly.graph_objects as go

    simulations, studies = backtest.simulations, backtest.studies
    lines = _lines_of(list(simulations))

    def line(name: str, values: pd.Series, style: Mapping[str, Any], mode: str = "lines", **options: Any) -> go.Scatter:
        return go.Scatter(x=values.index, y=values, mode=mode, line=style, name=name, **options)

    def curves(series: Callable[[Any], pd.Series], of: Mapping[str, Any]) -> list[go.Scatter]:
        return [line(name, series(one), lines[name]) for name, one in of.items()]

    def growth(daily: pd.Series) -> pd.Series:
        return (1.0 + daily).cumprod() - 1.0

    returns = []
    for name, one in simulations.items():
        returns.append(line(name, growth(one.net), lines[name]))
        if lines[name]["dash"] == "solid":
            thin = {**lines[name], "width": 1, "dash": "dash"}
            returns.append(line(f"{name}, before cost", growth(one.daily["gross"]), thin, visible="legendonly"))
    plain = {"color": INK, "width": 2, "dash": "solid"}
    returns.append(line(backtest.benchmark, growth(backtest.benchmark_returns), plain))
    decay, groups = [], []
    for name, study in studies.items():
        error = {"array": study.decay["error"], "thickness": 1, "width": 2}
        ahead = study.decay["rank_ic"].rename(index=str)
        decay.append(line(name, ahead, lines[name], "lines+markers", error_y=error))
        faint, numbers = _OPACITY[lines[name]["dash"]], [str(k + 1) for k in range(len(study.groups))]
        groups.append(go.Bar(x=numbers, y=study.groups, marker_color=lines[name]["color"], opacity=faint, name=name))
    excess = curves(lambda one: one.excess.cumsum(), simulations)
    turnover = curves(lambda one: one.daily["turnover"].resample("MS").mean(), simulations)
    summed = curves(lambda one: one.ic["rank_ic"].cumsum(), studies)
    by_group = f"Mean return over {next(iter(studies.values())).horizon} sessions by group"
    return {
        "return": _chart(returns, "Return since the start, after cost", "+.0%", height=460),
        "excess": _chart(excess, "Excess over the benchmark after cost, summed", "+.0%"),
        "drawdown": _chart(curves(lambda one: drawdown(one.net), simulations), "Drawdown", ".0%"),
        "turnover": _chart(turnover, "Turnover a day, by month", ".0%", yaxis_rangemode="tozero"),
        "ic": _chart(summed, "Rank IC, summed over dates"),
        "decay": _chart(decay, "Rank IC by sessions ahead, ± one standard error", axis="sessions ahead", legend_y=-0.3),
        "groups": _chart(groups, by_group, "+.2%", axis="group by signal, lowest to highest"),
    }


def _chart(
    traces: list[Any], title: str, form: str = "", *, axis: str = "", height: int = 380, **layout: Any
) -> go.Figure:
    """``form``: of the numbers on the vertical axis; ``axis``: title of the horizontal one, where it has categories."""
    import plotly.graph_objects as go

    if axis:
        layout |= {"xaxis_title": axis, "xaxis_type": "category"}
    if form:
        layout["yaxis_tickformat"] = form
    return dress(go.Figure(traces), height, title=title, **layout)


def _lines_of(names: list[str]) -> dict[str, dict[str, Any]]:
    """Line of each strategy: signals solid, their neutral forms dashed in the same colour, baselines dotted."""
    families = list(dict.fromkeys(name.removesuffix(NEUTRAL) for name in names))
    lines = {}
    for name in names:
        family = name.removesuffix(NEUTRAL)
        dash = "dot" if name in BASELINE_SIGNALS else "solid" if family == name else "dash"
        colour = PALETTE[families.index(family) % len(PALETTE)]
        lines[name] = {"color": colour, "width": 2.2 if dash == "solid" else 1.4, "dash": dash}
    return lines


def save_png(chart: go.Figure, path: Path) -> None:
    """A chart of lines or bars as matplotlib draws it, in a file; what waits for a click in the legend is left out."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError:
        raise MissingExtraError("matplotlib", "qlib", "A PNG chart") from None
    drawn = Figure(figsize=(10, 5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    shown = [trace for trace in chart.data if trace.visible != "legendonly"]
    for place, trace in enumerate(shown):
        if trace.type == "bar":
            width = 0.8 / len(shown)
            x = [spot + (place - (len(shown) - 1) / 2) * width for spot in range(len(trace.y))]
            axes.bar(x, trace.y, width, color=trace.marker.color, alpha=trace.opacity, label=trace.name)
            axes.set_xticks(range(len(trace.y)), trace.x)
        else:
            colour = _BLACK if trace.line.color == INK else trace.line.color
            style = {"linestyle": _DASHES[trace.line.dash], "linewidth": trace.line.width * 0.8}
            axes.plot(trace.x, trace.y, color=colour, label=trace.name, **style)
    axes.axhline(0, color=_BLACK, linewidth=0.6)
    axes.set_title(chart.layout.title.text, color=_BLACK, loc="left")
    axes.set_xlabel(chart.layout.xaxis.title.text or "")
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.layout.yaxis.tickformat:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    drawn.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    with replacing(path) as part:
        drawn.savefig(part, format="png")
