"""``report.html``, PNG files and ``summary.json``: what a backtest found, how sure it is, and what the words mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd

from kronos.backtesting.charts import charts_of, figure, save_png
from kronos.backtesting.performance import monthly
from kronos.backtesting.run import Backtest
from kronos.backtesting.summary import BASELINES
from kronos.evaluation.report import PAGE, chart_html, number
from kronos.files import json_text, replacing, write_json, write_text

# Column title → (key of the figure, its digits; None: a share, shown as per cent)
_STRATEGY: Final[dict[str, tuple[str, int | None]]] = {
    "return a year [%]": ("annual_return", None),
    "before cost [%]": ("annual_return_gross", None),
    "excess a year [%]": ("excess_annual", None),
    "information ratio": ("information_ratio", 2),
    "Sharpe": ("sharpe", 2),
    "max drawdown [%]": ("max_drawdown", None),
    "turnover a day [%]": ("turnover", None),
    "cost a year [%]": ("cost_annual", None),
    "names held": ("names_held", 1),
}


def write_report(backtest: Backtest, folder: Path) -> list[Path]:
    """Writes ``report.html``, ``summary.json``, ``daily.parquet`` and the PNG files; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = charts_of(backtest)
    stills = [save_png(chart, folder) for chart in charts if chart.name]
    daily = pd.concat({name: one.daily for name, one in backtest.simulations.items()}, names=["signal", "datetime"])
    with replacing(folder / "daily.parquet") as part:
        daily.to_parquet(part)
    write_json(folder / "summary.json", backtest.summary, indent=1)
    write_text(folder / "report.html", page(backtest, [chart_html(figure(chart)) for chart in charts]))
    return [folder / "report.html", folder / "summary.json", folder / "daily.parquet", *stills]


def page(backtest: Backtest, charts: list[str]) -> str:
    """The whole document; plotly.js is inside, nothing is fetched.

    Args:
        charts: as HTML, in the order of ``charts_of``.
    """
    from plotly.offline import get_plotlyjs

    summary = backtest.summary
    span, dates = summary["sessions"], summary["signal_dates"]
    record = escape(json_text(summary["settings"], indent=1))
    parts = [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts += [
        f"<p>{span['count']} sessions, {span['first']} … {span['last']}; signals on {dates['count']} dates. "
        f"Benchmark: {escape(summary['benchmark'])}. Brackets: 95 % bootstrap intervals.</p>",
        "<h2>Verdict</h2>",
        _words((entry["signal"], entry["words"]) for entry in summary["verdict"]),
        "<details><summary>All comparisons: a side is taken only where the interval leaves zero out and the p-value "
        f"after Holm's correction is below .05</summary>{comparison_table(summary)}</details>",
        "<h2>Strategies</h2>",
        strategy_table(summary),
        f"<p><small>{escape(capacity_note(summary))}</small></p>",
        charts[0],
        _grid(charts[1:4]),
        "<h2>Months</h2>",
        f"<details open><summary>net return by month [%]</summary>{month_table(backtest)}</details>",
        "<h2>Signals, without a strategy</h2>",
        study_table(summary),
        _grid(charts[4:]),
        "<h2>What the words mean</h2>",
        _words(summary["definitions"].items()),
        f"<h2>Settings</h2><details><summary>all of them</summary><pre>{record}</pre></details>",
    ]
    return PAGE.format(title="Backtest", plotly=get_plotlyjs(), body="\n".join(parts))


def comparison_table(summary: Mapping[str, Any]) -> str:
    """Every difference of daily net returns with its test."""
    rows = []
    for row in summary["comparisons"]:
        figures = [percent(row["difference_annual"]), number(row["t"], 2)]
        figures += [number(row["p"], 3), number(row["adjusted_p"], 3)]
        names = f"<td class=text>{escape(row['signal'])}</td><td class=text>{escape(row['other'])}</td>"
        rows.append(f"<tr>{names}{_cells(figures)}<td class=text>{escape(row['words'])}</td></tr>")
    return _table(["signal", "against", "difference a year [%]", "t", "p", "p (Holm)", "verdict"], rows)


def strategy_table(summary: Mapping[str, Any]) -> str:
    """A row a strategy, signals first and bold, and the benchmark."""
    strategies = summary["strategies"]
    rows = []
    for name, figures in strategies.items():
        shown = _STRATEGY.values()
        cells = [percent(figures[key]) if digits is None else number(figures[key], digits) for key, digits in shown]
        rows.append(_row(name, cells, bold=name not in BASELINES))
    bench = percent(next(iter(strategies.values()))["annual_return_benchmark"])
    rows.append(_row("benchmark", [bench, *[""] * (len(_STRATEGY) - 1)]))
    return _table(["", *_STRATEGY], rows)


def study_table(summary: Mapping[str, Any]) -> str:
    """IC, rank IC and long-short spread of each signal."""
    head = ["", "IC", "t", "rank IC", "t", "p (Holm)", "dates"]
    head += ["long–short a year [%]", "t", "ladder", "top group new [%]"]
    rows = []
    for name, one in summary["studies"].items():
        cells = [number(one["ic"]["mean"], 4), number(one["ic"]["t"], 2)]
        cells += [number(one["rank_ic"]["mean"], 4), number(one["rank_ic"]["t"], 2)]
        cells += [number(one["rank_ic_adjusted_p"], 3), str(one["dates"])]
        cells += [percent(one["spread"]["annual"]), number(one["spread"]["t"], 2), number(one["monotone"], 2)]
        rows.append(_row(name, [*cells, percent(one["top_group_turnover"])], bold=name not in BASELINES))
    return _table(head, rows)


def month_table(backtest: Backtest) -> str:
    """Net return of every month, and the benchmark's."""
    months = {name: monthly(one.net) for name, one in backtest.simulations.items()}
    table = pd.DataFrame(months | {backtest.benchmark: monthly(backtest.benchmark_returns)})
    rows = [_row(str(month), [percent(value) for value in row]) for month, *row in table.itertuples()]
    return _table(["", *table.columns], rows)


def capacity_note(summary: Mapping[str, Any]) -> str:
    """How large the account may be, in words."""
    settings = summary["settings"]["backtest"]
    figures = {name: one["capacity"] for name, one in summary["strategies"].items()}
    if all(one["median"] is None for one in figures.values()):
        return "Capacity: the traded value of the names is not known."
    sizes = "; ".join(
        f"{name} {_money(one['median'])} ({_money(one['least_traded_tenth'])} by the least traded tenth)"
        for name, one in figures.items()
        if name not in BASELINES and one["median"] is not None
    )
    return (
        f"Capacity, the account at which an order is {settings['participation']:.0%} of the median day's traded value "
        f"of the names held: {sizes}. This backtest: {_money(settings['account'])}."
    )


def percent(value: Any) -> str:
    """A share as per cent, with its interval where it has one."""
    if isinstance(value, Mapping):
        return number({key: None if entry is None else 100 * entry for key, entry in value.items()}, 1)
    return number(None if value is None else 100 * float(value), 1)


def _money(value: float) -> str:
    return f"{value / 1e6:,.3g} million" if value >= 1e6 else f"{value / 1e3:,.3g} thousand"


def _words(entries: Iterable[tuple[str, str]]) -> str:
    rows = (f"<tr><th>{escape(name)}</th><td class=text>{escape(text)}</td></tr>" for name, text in entries)
    return f"<table>{''.join(rows)}</table>"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<div class=scroll><table><tr>{titles}</tr>{''.join(rows)}</table></div>"


def _row(name: str, cells: Iterable[str], *, bold: bool = False) -> str:
    return f"<tr{' class=model' if bold else ''}><th>{escape(name)}</th>{_cells(cells)}</tr>"


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _grid(charts: Iterable[str]) -> str:
    return "<div class=grid>" + "".join(f"<div>{chart}</div>" for chart in charts) + "</div>"
