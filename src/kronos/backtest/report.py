"""``report.html``, PNG files and ``summary.json``: what a backtest found, how sure it is, and what the words mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd

from kronos.backtest import charts
from kronos.backtest.performance import monthly
from kronos.backtest.run import BASELINES, Backtest
from kronos.backtest.stills import save_stills
from kronos.bars.store import whole_file
from kronos.evaluation.report import PAGE, chart_html, clean
from kronos.evaluation.report_tables import number

_PERCENT: Final = {"annual_return", "annual_return_gross", "excess_annual", "max_drawdown", "turnover", "cost_annual"}
_STRATEGY_COLUMNS: Final = {
    "return a year [%]": "annual_return",
    "before cost [%]": "annual_return_gross",
    "excess a year [%]": "excess_annual",
    "information ratio": "information_ratio",
    "Sharpe": "sharpe",
    "max drawdown [%]": "max_drawdown",
    "turnover a day [%]": "turnover",
    "cost a year [%]": "cost_annual",
    "names held": "names_held",
}
_SMALL: Final = {"names_held": 1}


def write_report(backtest: Backtest, folder: Path) -> list[Path]:
    """Writes ``summary.json``, ``report.html``, ``daily.parquet`` and the PNG files; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = charts.styles(list(backtest.simulations), BASELINES)
    stills = save_stills(backtest.simulations, backtest.studies, backtest.benchmark, lines, folder)
    daily = pd.concat({name: one.daily for name, one in backtest.simulations.items()}, names=["signal", "datetime"])
    with whole_file(folder / "daily.parquet") as draft:
        daily.to_parquet(draft)
    text = json.dumps(clean(backtest.summary), indent=1, ensure_ascii=False, allow_nan=False)
    with whole_file(folder / "summary.json") as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    with whole_file(folder / "report.html") as draft:
        draft.write_text(page(backtest), encoding="utf-8")
    return [folder / "report.html", folder / "summary.json", folder / "daily.parquet", *stills]


def page(backtest: Backtest) -> str:
    """The whole document; plotly.js is inside, nothing is fetched."""
    from plotly.offline import get_plotlyjs

    summary, simulations, studies = backtest.summary, backtest.simulations, backtest.studies
    lines = charts.styles(list(simulations), BASELINES)
    span, dates = summary["sessions"], summary["signal_dates"]
    parts = [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts.append(
        f"<p>{span['count']} sessions, {span['first']} … {span['last']}; signals on {dates['count']} dates. "
        f"Benchmark: {escape(summary['benchmark'])}. Brackets: 95 % bootstrap intervals.</p>"
    )
    parts += ["<h2>Verdict</h2>", verdict_table(summary), comparison_table(summary["comparisons"])]
    parts += ["<h2>Strategies</h2>", strategy_table(summary["strategies"])]
    parts.append(f"<p><small>{escape(capacity_note(summary))}</small></p>")
    parts.append(chart_html(charts.wealth_chart(simulations, backtest.benchmark, lines)))
    parts.append(
        _grid(
            charts.excess_chart(simulations, lines),
            charts.drawdown_chart(simulations, lines),
            charts.turnover_chart(simulations, lines),
        )
    )
    parts += ["<h2>Months</h2>", month_table(backtest)]
    parts += ["<h2>Signals, without a strategy</h2>", study_table(summary["studies"])]
    parts.append(
        _grid(charts.ic_chart(studies, lines), charts.decay_chart(studies, lines), charts.groups_chart(studies, lines))
    )
    parts += ["<h2>What the words mean</h2>", definition_table(summary["definitions"])]
    record = json.dumps(clean(summary["settings"]), indent=1, ensure_ascii=False)
    parts.append(f"<h2>Settings</h2><details><summary>all of them</summary><pre>{escape(record)}</pre></details>")
    return PAGE.format(title="Backtest", plotly=get_plotlyjs(), body="\n".join(parts))


def verdict_table(summary: dict[str, Any]) -> str:
    """One line a signal."""
    rows = "".join(
        f"<tr><th>{escape(entry['signal'])}</th><td class=text>{escape(entry['words'])}</td></tr>"
        for entry in summary["verdict"]
    )
    return f"<table>{rows}</table>"


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every difference of daily net returns with its test."""
    cells = [
        f"<td class=text>{escape(row['signal'])}</td><td class=text>{escape(row['other'])}</td>"
        f"<td>{percent(row['difference_annual'])}</td><td>{number(row['t'], 2)}</td><td>{number(row['p'], 3)}</td>"
        f"<td>{number(row['adjusted_p'], 3)}</td><td class=text>{escape(row['words'])}</td>"
        for row in rows
    ]
    head = _head("signal", "against", "difference a year [%]", "t", "p", "p (Holm)", "verdict", first="")
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    return (
        "<details><summary>All comparisons: a side is taken only where the interval leaves zero out and the p-value "
        f"after Holm's correction is below .05</summary><div class=scroll><table>{head}{body}</table></div></details>"
    )


def strategy_table(strategies: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a strategy, signals first and bold."""
    body = []
    for name, figures in strategies.items():
        cells = "".join(f"<td>{_figure(key, figures[key])}</td>" for key in _STRATEGY_COLUMNS.values())
        body.append(f"<tr{'' if name in BASELINES else ' class=model'}><th>{escape(name)}</th>{cells}</tr>")
    bench = next(iter(strategies.values()))["annual_return_benchmark"]
    empty = "<td></td>" * (len(_STRATEGY_COLUMNS) - 1)
    body.append(f"<tr><th>benchmark</th><td>{percent(bench)}</td>{empty}</tr>")
    return f"<div class=scroll><table>{_head(*_STRATEGY_COLUMNS)}{''.join(body)}</table></div>"


def study_table(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """IC, rank IC and long-short spread of each signal."""
    body = []
    for name, one in studies.items():
        cells = [number(one["ic"]["mean"], 4), number(one["ic"]["t"], 2)]
        cells += [number(one["rank_ic"]["mean"], 4), number(one["rank_ic"]["t"], 2)]
        cells += [number(one["rank_ic_adjusted_p"], 3), str(one["dates"])]
        cells += [percent(one["spread"]["annual"]), number(one["spread"]["t"], 2), number(one["monotone"], 2)]
        cells.append(percent(one["top_group_turnover"]))
        style = "" if name in BASELINES else " class=model"
        body.append(f"<tr{style}><th>{escape(name)}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = _head(
        "IC", "t", "rank IC", "t", "p (Holm)", "dates", "long–short a year [%]", "t", "ladder", "top group new [%]"
    )
    return f"<div class=scroll><table>{head}{''.join(body)}</table></div>"


def month_table(backtest: Backtest) -> str:
    """Net return of every month, and the benchmark's."""
    bench = monthly(next(iter(backtest.simulations.values())).daily["bench"])
    columns = {name: monthly(one.net) for name, one in backtest.simulations.items()} | {backtest.benchmark: bench}
    table = pd.DataFrame(columns)
    rows = "".join(
        f"<tr><th>{month}</th>" + "".join(f"<td>{percent(value)}</td>" for value in row) + "</tr>"
        for month, row in zip(table.index.astype(str), table.to_numpy(), strict=True)
    )
    return f"<details open><summary>net return by month [%]</summary><div class=scroll><table>{_head(*table.columns)}{rows}</table></div></details>"  # noqa: E501


def capacity_note(summary: dict[str, Any]) -> str:
    """How large the account may be, in words."""
    account, share = summary["settings"]["backtest"]["account"], summary["settings"]["backtest"]["participation"]
    figures = [
        (name, one["capacity"]) for name, one in summary["strategies"].items() if one["capacity"]["median"] is not None
    ]
    if not figures:
        return "Capacity: the traded value of the names is not known."
    sizes = "; ".join(
        f"{name} {amount(entry['median'])} ({amount(entry['least_traded_tenth'])} by the least traded tenth)"
        for name, entry in figures
        if name not in BASELINES
    )
    return (
        f"Capacity, the account at which an order is {share:.0%} of the median day's traded value of the names held: "
        f"{sizes}. This backtest: {amount(account)}."
    )


def amount(value: float) -> str:
    """A sum of money in millions or thousands."""
    return f"{value / 1e6:,.3g} million" if value >= 1e6 else f"{value / 1e3:,.3g} thousand"


def definition_table(definitions: Mapping[str, str]) -> str:
    """Name and meaning of every figure."""
    rows = "".join(f"<tr><th>{escape(n)}</th><td class=text>{escape(t)}</td></tr>" for n, t in definitions.items())
    return f"<table>{rows}</table>"


def percent(value: Any) -> str:
    """A share as per cent, with its interval where it has one."""
    if isinstance(value, Mapping):
        scaled = {key: None if entry is None else 100 * entry for key, entry in value.items()}
        return number(scaled, 1)
    return number(None if value is None else 100 * float(value), 1)


def _figure(key: str, value: Any) -> str:
    return percent(value) if key in _PERCENT else number(value, _SMALL.get(key, 2))


def _head(*names: str, first: str | None = None) -> str:
    shown = names if first == "" else ("", *names)
    return "<tr>" + "".join(f"<th>{escape(str(name))}</th>" for name in shown) + "</tr>"


def _grid(*figures: Any) -> str:
    return "<div class=grid>" + "".join(f"<div>{chart_html(figure)}</div>" for figure in figures) + "</div>"
