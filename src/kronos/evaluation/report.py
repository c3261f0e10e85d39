"""``report.html``: one self-contained page that says what was found, how sure it is, and how to find it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation import report_charts as charts
from kronos.evaluation.report_tables import (
    LEGEND,
    comparison_table,
    facts_table,
    market_table,
    task_table,
    verdict_list,
)
from kronos.evaluation.summary import ALL
from kronos.files import replacing, write_json, write_text


@dataclass(eq=False)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        table: the long table, one row per forecaster, window and step.
        summary: the content of ``summary.json``: figures by task, market and forecaster, comparisons, settings.
        examples: forecasts that the report shows.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    examples: list[charts.Example] = field(default_factory=list)

    @property
    def verdicts(self) -> list[dict[str, str]]:
        """One sentence (``verdict``) per ``model``, ``task`` and ``market``."""
        found: list[dict[str, str]] = self.summary["verdicts"]
        return found

    def save(self, folder: str | Path) -> list[Path]:
        """Write the report; see :func:`write_report`."""
        return write_report(self, Path(folder))


def page(evaluation: Evaluation) -> str:
    """The whole document; plotly.js is inside, nothing is fetched."""
    from plotly.offline import get_plotlyjs

    summary, table = evaluation.summary, evaluation.table
    models = [f["name"] for f in summary["forecasters"] if f["kind"] == "model"]
    parts = [f"<p>{escape(_in_short(summary))}</p>"]
    parts += [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts += ["<h2>Verdict</h2>", _explain(summary), verdict_list(summary)]
    parts += ["<h2>What was asked</h2>", market_table(summary["markets"])]
    for task, markets in summary["tasks"].items():
        parts += _task(task, markets, summary, models)
        if task == "price" and len(table):
            parts.append(_price_charts(table[table["tasks"].str.contains("price")], summary, models))
    if evaluation.examples:
        parts.append("<h2>Examples</h2><p>Chosen by CRPS, not by taste.</p><div class=grid>")
        parts += [
            f"<div>{chart_html(charts.example_chart(e))}<small>{escape(e.model)}</small></div>"
            for e in evaluation.examples
        ]
        parts.append("</div>")
    if summary["comparisons"]:
        parts.append("<h2>All comparisons</h2><details><summary>differences, tests, p-values</summary>")
        parts.append(comparison_table(summary["comparisons"]) + "</details>")
    parts.append("<h2>How to repeat it</h2>" + _record(summary))
    title = "Evaluation" + (f" of {', '.join(models)}" if models else " of the baselines")
    return PAGE.format(title=escape(title), plotly=get_plotlyjs(), body="\n".join(parts))


def _in_short(summary: dict[str, Any]) -> str:
    markets = summary["markets"]
    windows = sum(market["windows"] for market in markets.values())
    first = min(str(market["first_cutoff"])[:10] for market in markets.values())
    last = max(str(market["last_cutoff"])[:10] for market in markets.values())
    return (
        f"{windows:,} forecasts by each of {len(summary['forecasters'])} forecasters in {len(markets)} "
        f"market{'s' if len(markets) > 1 else ''}, with cutoffs from {first} to {last}. No forecaster saw a bar "
        f"after its cutoff. {summary['yardstick']} is the yardstick. Everything shown here is in summary.json, every "
        "single score in metrics.parquet."
    )


def _task(task: str, markets: dict[str, Any], summary: dict[str, Any], models: Sequence[str]) -> list[str]:
    """Heading, question and a table per market; the first two open."""
    question = summary["questions"][task]["question"]
    parts = [f"<h2>{escape(task.capitalize())}</h2><p>{escape(question)} <small>{LEGEND[task]}</small></p>"]
    for place, market in enumerate(sorted(markets, key=lambda m: m != ALL)):
        windows = next(iter(markets[market].values())).get("windows", 0)
        title = f"{escape(market)} <small>{windows} windows</small>"
        inner = task_table(task, markets[market], models)
        parts.append(f"<details{' open' if place < 2 else ''}><summary>{title}</summary>{inner}</details>")
    return parts


def _explain(summary: dict[str, Any]) -> str:
    count = sum(np.isfinite(c["p"]) for c in summary["comparisons"])
    return (
        "<p>A side is taken only where the 95 % interval of the difference leaves zero out <em>and</em> the p-value, "
        f"after Holm's correction for all {count} comparisons of this report, is below .05. Within a market the losses "
        "are averaged over the symbols of a date and the dates tested by Diebold–Mariano (Newey–West errors, "
        "fixed-b critical values); over all markets the test is cluster-robust.</p>"
    )


def _price_charts(table: pd.DataFrame, summary: dict[str, Any], models: list[str]) -> str:
    names = [f["name"] for f in summary["forecasters"]]
    styles = charts.colours(names, models)
    shown = [*models, summary["yardstick"], *(n for n in ("garch", "ewma") if n in names)]
    price = summary["tasks"]["price"]
    figures = [
        charts.ratio_chart(price.get(ALL, next(iter(price.values()))), summary["yardstick"], models),
        charts.calibration_chart(table, styles),
        charts.pit_chart(table, list(dict.fromkeys(shown)), styles),
    ]
    figures += [
        charts.horizon_chart(part, summary["yardstick"], styles, str(market))
        for market, part in table.groupby("group", sort=False)
    ]
    return "<div class=grid>" + "".join(f"<div>{chart_html(figure)}</div>" for figure in figures) + "</div>"


def chart_html(figure: Any) -> str:
    """A plotly figure for a page that holds plotly.js itself."""
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"responsive": True, "displayModeBar": False}
    )
    return text


def _record(summary: dict[str, Any]) -> str:
    """Everything that the figures depend on, and how long they took."""
    runtime = summary["runtime"]
    took = f"{runtime['seconds']:,.0f} s"
    if runtime["stored"]:
        took += f"; {runtime['stored']:,} of {runtime['scores']:,} scores were stored by an earlier run"
    forecasters = {f["name"]: _origin(f) for f in summary["forecasters"]}
    refused = {name: market["refused"] for name, market in summary["markets"].items() if market["refused"]}
    sections = {
        "Command": {"command": summary.get("command", "from Python"), "took": took},
        "Settings": summary["settings"],
        "Forecasters": forecasters,
        "Bars": summary["data"],
        "Windows refused": refused,
        "Versions": summary["versions"],
    }
    return "".join(f"<h3>{name}</h3>{facts_table(facts)}" for name, facts in sections.items() if facts)


def _origin(forecaster: dict[str, Any]) -> str:
    """What a forecaster is, and of a model which one exactly."""
    if forecaster["kind"] != "model":
        return str(forecaster["kind"])
    weights = str(forecaster["fingerprint"]).split("|")[0]
    return f"model, trained until {forecaster['training_cutoff'] or '(no date is stated)'}, weights {weights}"


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``metrics.parquet``, ``summary.json`` and ``report.html``; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics, summary, report = (folder / name for name in ("metrics.parquet", "summary.json", "report.html"))
    with replacing(metrics) as part:
        evaluation.table.to_parquet(part, index=False, compression="zstd")
    write_json(summary, evaluation.summary, indent=1)
    write_text(report, page(evaluation))
    return [metrics, summary, report]


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
pre {{ overflow-x: auto; font-size: 12px; background: var(--band); padding: .8rem; }}
</style>
<script>{plotly}</script>
<script>addEventListener("load", () => dispatchEvent(new Event("resize")));</script></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
