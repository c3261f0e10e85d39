"""``report.html``: one self-contained page that says what was found, how sure it is, and how to find it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation import report_charts as charts
from kronos.evaluation.baselines import MEANINGS
from kronos.evaluation.glossary import COLUMNS, LEGEND
from kronos.evaluation.summary import ALL
from kronos.files import replacing, write_json, write_text

#: More columns than this do not fit beside each other on a page.
WIDEST = 12


@dataclass(eq=False)
class Evaluation:
    """The outcome of an evaluation."""

    table: pd.DataFrame  # the long table, one row per forecaster, window and step
    summary: dict[str, Any]  # of ``summary.json``: figures by task, market and forecaster, comparisons, settings
    examples: list[charts.Example] = field(default_factory=list)  # forecasts that the report shows

    @property
    def verdicts(self) -> list[dict[str, str]]:
        """One sentence (``verdict``) per ``model``, ``task`` and ``market``."""
        return list(self.summary["verdicts"])

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``metrics.parquet``, ``summary.json`` and ``report.html``; each appears whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        metrics, summary, report = (folder / name for name in ("metrics.parquet", "summary.json", "report.html"))
        with replacing(metrics) as part:
            self.table.to_parquet(part, index=False, compression="zstd")
        write_json(summary, self.summary, indent=1)
        write_text(report, page(self))
        return [metrics, summary, report]


def page(evaluation: Evaluation) -> str:
    """The whole document; plotly.js is inside, nothing is fetched."""
    from plotly.offline import get_plotlyjs

    summary, table = evaluation.summary, evaluation.table
    models = [f["name"] for f in summary["forecasters"] if f["kind"] == "model"]
    markets = summary["markets"].values()
    first = min(str(market["first_cutoff"])[:10] for market in markets)
    last = max(str(market["last_cutoff"])[:10] for market in markets)
    lines = "<br>".join(map(escape, summary["headlines"]))
    parts = [
        f"<p class=answer>{lines}</p>" if lines else "",
        f"<p>{sum(market['windows'] for market in markets):,} forecasts by each of {len(summary['forecasters'])} "
        f"forecasters in {len(markets)} market{'s' if len(markets) > 1 else ''}, with cutoffs from {first} to {last}. "
        f"No forecaster saw a bar after its cutoff. {escape(summary['yardstick'])} is the yardstick. Everything shown "
        "here is in summary.json, every single score in metrics.parquet.</p>",
    ]
    parts += [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts += [
        "<h2>Verdict</h2>",
        EXPLAINED,
        _verdicts(summary["verdicts"]),
        _horizons(summary),
        "<h2>What was asked</h2>",
        _markets(summary["markets"]),
        _names(summary),
    ]
    for task, tables in summary["tasks"].items():
        question = escape(summary["questions"][task]["question"])
        parts.append(f"<h2>{escape(task.capitalize())}</h2><p>{question} <small>{LEGEND[task]}</small></p>")
        for place, market in enumerate(sorted(tables, key=lambda m: m != ALL)):
            windows = next(iter(tables[market].values())).get("windows", 0)
            title = f"{escape(market)} <small>{windows} windows</small>"
            inner = _task(task, tables[market], models)
            if task == "touch":
                inner += _reliability(tables[market], [*models, summary["yardstick"]])
            parts.append(f"<details{' open' if place < 2 else ''}><summary>{title}</summary>{inner}</details>")
        if task == "price" and len(table):
            shown = _price_charts(table[table["tasks"].str.contains("price")], summary, models)
            parts.append(grid_html(map(chart_html, shown)))
    if evaluation.examples:
        shown = (f"{chart_html(charts.example_chart(e))}<small>{escape(e.model)}</small>" for e in evaluation.examples)
        parts.append("<h2>Examples</h2><p>Chosen by CRPS, not by taste.</p>" + grid_html(shown))
    if summary["comparisons"]:
        parts.append("<h2>All comparisons</h2><details><summary>differences, tests, p-values</summary>")
        parts.append(_comparisons(summary["comparisons"]) + "</details>")
    parts.append("<h2>How to repeat it</h2>" + _record(summary))
    title = "Evaluation" + (f" of {', '.join(models)}" if models else " of the baselines")
    return PAGE.format(title=escape(title), plotly=get_plotlyjs(), body="\n".join(parts))


def _price_charts(table: pd.DataFrame, summary: dict[str, Any], models: list[str]) -> Iterator[Any]:
    names, yardstick = [f["name"] for f in summary["forecasters"]], summary["yardstick"]
    styles, price = charts.colours(names, models), summary["tasks"]["price"]
    shown = [*models, yardstick, *(n for n in ("garch", "ewma") if n in names)]
    yield charts.ratio_chart(price.get(ALL, next(iter(price.values()))), yardstick, models)
    yield charts.calibration_chart(table, styles)
    yield charts.pit_chart(table, list(dict.fromkeys(shown)), styles)
    for market, part in table.groupby("group", sort=False):
        yield charts.horizon_chart(part, yardstick, styles, str(market))


def chart_html(figure: Any) -> str:
    """A plotly figure for a page that holds plotly.js itself."""
    how = {"responsive": True, "displayModeBar": False}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=how))


def _record(summary: dict[str, Any]) -> str:
    """Everything that the figures depend on, and how long they took."""
    runtime = summary["runtime"]
    took = f"{runtime['seconds']:,.0f} s"
    if runtime["stored"]:
        took += f"; {runtime['stored']:,} of {runtime['scores']:,} scores were stored by an earlier run"

    def origin(one: dict[str, Any]) -> str:
        weights, end = str(one["fingerprint"]).split("|")[0], one["training_cutoff"] or "(no date is stated)"
        return f"model, trained until {end}, weights {weights}" if one["kind"] == "model" else str(one["kind"])

    sections = {
        "Command": {"command": summary.get("command", "from Python"), "took": took},
        "Settings": summary["settings"],
        "Forecasters": {one["name"]: origin(one) for one in summary["forecasters"]},
        "Bars": summary["data"],
        "Windows left out": {n: market["refused"] for n, market in summary["markets"].items() if market["refused"]},
        "Versions": summary["versions"],
    }
    out = []
    for heading, facts in sections.items():
        rows = [
            f"<tr><th>{escape(str(name))}</th><td class=text><code>{escape(_plain(value))}</code></td></tr>"
            for name, value in facts.items()
        ]
        out += [f"<h3>{heading}</h3><table class=facts>{''.join(rows)}</table>"] if facts else []
    return "".join(out)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "–" if value is None else str(value)


def number(value: Any, digits: int) -> str:
    """A figure, with its interval where it has one; a dash for what is not defined."""
    if isinstance(value, dict):
        middle, low, high = number(value.get("value"), digits), value.get("low"), value.get("high")
        if middle == "–" or low is None or not np.isfinite(low):
            return middle
        return f"{middle}<br><small>{low:.{digits}f} … {high:.{digits}f}</small>"
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.2g}" if abs(value) >= 1e4 else f"{value:.{digits}f}"


def _task(task: str, rows: dict[str, dict[str, Any]], models: Sequence[str]) -> str:
    """A row per forecaster, models first and bold; columns without any figure left out, many in two tables."""
    nested = ("discriminator", "train_on_synthetic", "facts")
    flat = {
        name: dict(figures, **{k: v for n in nested for k, v in figures.get(n, {}).items()})
        for name, figures in rows.items()
    }
    if task == "generation" and flat:
        flat = {"real": next(iter(rows.values()))["real_facts"], **flat}
    columns = [one for one in COLUMNS[task] if any(one.key in figures for figures in flat.values())]
    half = -(-len(columns) // 2) if len(columns) > WIDEST else len(columns)
    out = ""
    for part in filter(None, (columns[:half], columns[half:])):
        lines = []
        for name in sorted(flat, key=lambda n: (n != "real", n not in models)):
            cells = (number(flat[name].get(one.key), one.digits) for one in part)
            lines.append(row_html(name, cells, bold=name in models))
        out += table_html(["", *(one.title for one in part)], lines)
    return out


def _reliability(rows: dict[str, dict[str, Any]], names: Sequence[str]) -> str:
    """What was said against what came, by tenths of the chance."""
    lines = []
    for name, (key, what) in product(names, (("reliability", "a touch"), ("first_reliability", "which first"))):
        bins = {one["low"]: one for one in rows.get(name, {}).get(key, [])}
        found = (bins.get(low / 10) for low in range(10))
        cells = (f"{one['came']:.3f}<br><small>of {one['number']:,}</small>" if one else "–" for one in found)
        lines.append(row_html(f"{name}, {what}", cells, bold=name != names[-1]))
    heads = [f"{low}–{low + 10} %" for low in range(0, 100, 10)]
    return "<p>Share that came, by the chance that was given to it:</p>" + table_html(["", *heads], lines)


def _comparisons(items: Iterable[dict[str, Any]]) -> str:
    """Every comparison with its difference, test and adjusted p-value."""
    rows = []
    for item in items:
        relative = "–" if not np.isfinite(item["relative"]) else f"{item['relative']:+.2%}"
        numbers = [number(item["difference"], 4), relative, number(item["p"], 4), number(item["adjusted_p"], 4)]
        text = text_cells(*(item[key] for key in ("task", "market", "model", "baseline")))
        rows.append(f"<tr>{text}{cells_html(*numbers, item['n'])}{text_cells(item['test'], item['words'])}</tr>")
    names = ["task", "market", "model", "baseline", "difference", "relative", "p", "p (Holm)", "n", "test", "verdict"]
    return table_html(names, rows)


def _verdicts(found: list[dict[str, str]]) -> str:
    """The verdicts, models apart, all markets first."""
    if not found:
        return "<p>Only baselines were evaluated: there is nothing to compare.</p>"
    lines = sorted(found, key=lambda v: (v["model"], v["task"], v["market"] != ALL))
    names = ["model", "task", "market", "verdict"]
    return table_html(
        names,
        [f"<tr class={'model' if v['market'] == ALL else ''}>{text_cells(*(v[n] for n in names))}</tr>" for v in lines],
    )


def _markets(markets: Mapping[str, dict[str, Any]]) -> str:
    """Sizes and dates of the windows of each market."""
    rows = []
    for name, market in markets.items():
        sizes = [market[key] for key in ("context", "horizon", "symbols", "windows")]
        dates = [str(market[key])[:16].replace("T", " ") for key in ("first_cutoff", "last_cutoff")]
        refused = f"{sum(market['refused'].values()):,}"
        rows.append(row_html(name, [*sizes, *dates, refused]))
    names = ["market", "bars seen", "bars ahead", "symbols", "windows", "first cutoff", "last cutoff", "left out"]
    return table_html(names, rows)


def _horizons(summary: dict[str, Any]) -> str:
    """The close at single bars ahead, where several horizons were asked for."""
    rows = []
    for market, found in summary["by_horizon"].items():
        for name, by_step in found.items():
            for step, figures in by_step.items() if name != summary["yardstick"] else ():
                numbers = (number(figures[key], 3) for key in ("crps_ratio", "coverage_90"))
                rows.append(f"<tr>{text_cells(market, name)}{cells_html(step, *numbers)}</tr>")
    if not rows:
        return ""
    return "<h2>By horizon</h2>" + table_html(["market", "", "bars ahead", "CRPS / yardstick", "covers 90 %"], rows)


def _names(summary: dict[str, Any]) -> str:
    """A line for each baseline and each title of a column that the page shows."""
    lines = {one["name"]: MEANINGS[one["name"]] for one in summary["forecasters"] if one["name"] in MEANINGS}
    lines |= {one.title: one.meaning for task in summary["tasks"] for one in COLUMNS[task]}
    rows = (f"<tr><th>{escape(name)}</th>{text_cells(words)}</tr>" for name, words in lines.items())
    return f"<details><summary>What the names mean</summary><table class=facts>{''.join(rows)}</table></details>"


def text_cells(*cells: str) -> str:
    """Cells of words."""
    return "".join(f"<td class=text>{escape(cell)}</td>" for cell in cells)


def cells_html(*cells: Any) -> str:
    """Cells of figures, or of other HTML."""
    return "".join(f"<td>{cell}</td>" for cell in cells)


def row_html(name: str, cells: Iterable[Any], *, bold: bool = False) -> str:
    """A row: its name, then its figures."""
    return f"<tr{' class=model' if bold else ''}><th>{escape(name)}</th>{cells_html(*cells)}</tr>"


def table_html(names: Iterable[str], rows: Iterable[str]) -> str:
    """A table from the titles of its columns and its rows in HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def grid_html(parts: Iterable[str]) -> str:
    """Charts side by side, each with what stands below it."""
    return "<div class=grid>" + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


#: How sides are taken.
EXPLAINED = (
    "<p>A few questions were named beforehand: prices and volatility against the resampled walk, GARCH and HAR, "
    "volatility against EWMA too, whether 90 % intervals cover 90 %; and, where they are among the tasks, whether "
    "chances of barriers beat the walk's, whether returns are ranked at all, and what a portfolio earns beyond luck. A "
    "side is taken where the 95 % intervals of the difference and of the ratio leave zero and one out <em>and</em> the "
    "p-value, after Holm's correction within the questions of one model and market, is below .05. Otherwise these "
    "windows cannot tell. Within a market the losses are averaged over the symbols of a date and the dates tested by "
    "Diebold–Mariano (Newey–West errors, fixed-b critical values); over all markets the test is cluster-robust. What "
    "else was compared stands at the end, corrected apart.</p>"
)
#: The document around ``title``, ``plotly`` and ``body``.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --band: #f3f6fa; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e8ee; --soft: #9aa5b4; --line: #323b47; --paper: #12161c; --band: #1b2129; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1440px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }}
small {{ color: var(--soft); font-weight: normal; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }}
th:first-child, .text, th:has(+ .text), tr:has(+ tr > .text:first-child) th {{ text-align: left; }}
td.text {{ white-space: normal; }} td small {{ font-size: 10.5px; }}
h3 {{ font-size: .95rem; margin: 1rem 0 .3rem; }} .facts th {{ font-weight: normal; color: var(--soft); }}
code {{ font-size: 12px; overflow-wrap: anywhere; }}
tr.model {{ background: var(--band); font-weight: 600; }}
.scroll {{ overflow-x: auto; }} details {{ margin: .6rem 0; }} summary {{ cursor: pointer; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr)); gap: 1rem; }}
.grid > div {{ min-width: 0; }}
.warn {{ background: #fff3cd; color: #5c4400; padding: .5rem .8rem; border-radius: 4px; }}
.answer {{ font-size: 1.1rem; background: var(--band); padding: .8rem; border-radius: 4px; }}
pre {{ overflow-x: auto; font-size: 12px; background: var(--band); padding: .8rem; }}
</style>
<script>{plotly}</script>
<script>addEventListener("load", () => dispatchEvent(new Event("resize")));</script></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
