"""``report.html``: one self-contained page that says what was found, how sure it is, and how to find it again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation import report_charts as charts
from kronos.evaluation.run import Evaluation
from kronos.evaluation.summary import ALL

#: Column title → (key in the figures, digits); a key that holds an interval shows it.
COLUMNS: dict[str, list[tuple[str, str, int]]] = {
    "price": [
        ("CRPS / yardstick", "crps_ratio", 3),
        ("CRPS [σ]", "crps", 3),
        ("MAE [σ]", "mae", 3),
        ("MASE", "mase", 2),
        ("energy [σ]", "energy", 3),
        ("covers 50 %", "coverage_50", 3),
        ("80 %", "coverage_80", 3),
        ("90 %", "coverage_90", 3),
        ("width 90 % [σ]", "width_90", 2),
        ("PIT KS", "pit_ks", 3),
        ("price IC", "price_ic", 3),
        ("price RankIC", "price_rank_ic", 3),
        ("first gap [σ]", "first_open_gap", 3),
        ("invalid", "invalid_bars", 4),
        ("nats / bar", "nats_per_bar", 3),
        ("fallbacks", "fallbacks", 3),
    ],
    "return": [
        ("IC per date", "ic", 3),
        ("t (Newey–West)", "ic_t", 2),
        ("RankIC per date", "rank_ic", 3),
        ("t", "rank_ic_t", 2),
        ("dates", "dates", 0),
        ("pooled IC", "pooled_ic", 3),
        ("pooled RankIC", "pooled_rank_ic", 3),
        ("hit rate", "hit_rate", 3),
        ("slope on past", "slope_on_past", 3),
        ("true slope", "true_slope_on_past", 3),
    ],
    "volatility": [
        ("QLIKE", "qlike", 3),
        ("R²", "r2", 3),
        ("MAE", "mae", 5),
        ("log correlation", "log_correlation", 3),
        ("raw", "log_correlation_raw", 3),
        ("log bias", "bias", 3),
    ],
    "generation": [
        ("discriminative score", "score", 3),
        ("accuracy", "accuracy", 3),
        ("± (binomial)", "accuracy_error", 3),
        ("TSTR / TRTR", "ratio", 3),
        ("kurtosis", "kurtosis", 2),
        ("tail index", "tail_index", 2),
        ("acf of returns", "acf_returns", 3),
        ("acf of squares", "acf_squares", 3),
        ("leverage", "leverage", 3),
        ("volume–volatility", "volume_volatility", 3),
    ],
}

LEGEND = {
    "price": "σ is the context's one-bar volatility of log closes. CRPS and energy score: fair estimators. Intervals: "
    "type-6 sample quantiles. Brackets: 95 % interval, bootstrap of clusters (market × block of time).",
    "return": "IC across the symbols of a date needs five symbols and eight dates; otherwise only the pooled figures "
    "are shown. The pooled ones mix time and cross-section: read them with care.",
    "volatility": "Realised over the horizon from closes. The log correlation is of realised over usual volatility, so "
    "that knowing which symbol is wild earns nothing; “raw” includes that.",
    "generation": "One sampled path per window against what came. Score: 1 − accuracy of an LSTM told to tell them "
    "apart, ½ is the best. TSTR / TRTR: error after training on synthetic over error after training on real; 1 is as "
    "good as real. Compare the facts with the row “real”.",
}


def number(value: Any, digits: int) -> str:
    """A figure, with its interval where it has one; a dash for what is not defined."""
    if isinstance(value, dict):
        middle = number(value.get("value"), digits)
        low, high = value.get("low"), value.get("high")
        if middle == "–" or low is None or not np.isfinite(low):
            return middle
        return f"{middle} <small>[{low:.{digits}f}, {high:.{digits}f}]</small>"
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) >= 1e4:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Nested groups of the generation task brought to one level."""
    out = dict(figures)
    for key in ("discriminator", "train_on_synthetic", "facts"):
        out |= figures.get(key, {})
    return out


def task_table(task: str, rows: dict[str, dict[str, Any]], models: Sequence[str]) -> str:
    """One HTML table: a row per forecaster, models first and bold; columns without any figure left out."""
    flat = {name: _flat(figures) for name, figures in rows.items()}
    if task == "generation" and flat:
        flat = {"real": next(iter(rows.values()))["real_facts"], **flat}
    columns = [c for c in COLUMNS[task] if any(c[1] in figures for figures in flat.values())]
    head = "".join(f"<th>{escape(title)}</th>" for title, _, _ in columns)
    body = []
    for name in sorted(flat, key=lambda n: (n not in models, list(flat).index(n))):
        cells = "".join(f"<td>{number(flat[name].get(key), digits)}</td>" for _, key, digits in columns)
        body.append(f"<tr{' class=model' if name in models else ''}><th>{escape(name)}</th>{cells}</tr>")
    return f"<div class=scroll><table><tr><th></th>{head}</tr>{''.join(body)}</table></div>"


def comparison_table(items: Iterable[dict[str, Any]]) -> str:
    """Every comparison with its difference, test and adjusted p-value."""
    rows = []
    for item in items:
        cells = [item["task"], item["market"], item["model"], item["baseline"]]
        text = "".join(f"<td class=text>{escape(cell)}</td>" for cell in cells)
        relative = "–" if not np.isfinite(item["relative"]) else f"{item['relative']:+.2%}"
        text += f"<td>{number(item['difference'], 4)}</td><td>{relative}</td>"
        text += f"<td>{number(item['p'], 4)}</td><td>{number(item['adjusted_p'], 4)}</td><td>{item['n']}</td>"
        rows.append(
            f"<tr>{text}<td class=text>{escape(item['test'])}</td><td class=text>{escape(item['words'])}</td></tr>"
        )
    names = ["task", "market", "model", "baseline", "difference", "relative", "p", "p (Holm)", "n", "test", "verdict"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def verdict_list(summary: dict[str, Any]) -> str:
    """The verdicts, models apart, all markets first."""
    if not summary["verdicts"]:
        return "<p>Only baselines were evaluated: there is nothing to compare.</p>"
    lines = sorted(summary["verdicts"], key=lambda v: (v["model"], v["task"], v["market"] != ALL))
    rows = "".join(
        f"<tr class={'model' if v['market'] == ALL else ''}><td class=text>{escape(v['model'])}</td>"
        f"<td class=text>{escape(v['task'])}</td><td class=text>{escape(v['market'])}</td>"
        f"<td class=text>{escape(v['verdict'])}</td></tr>"
        for v in lines
    )
    return f"<table><tr><th>model</th><th>task</th><th>market</th><th>verdict</th></tr>{rows}</table>"


def page(evaluation: Evaluation) -> str:
    """The whole document; plotly.js is inside, nothing is fetched."""
    from plotly.offline import get_plotlyjs

    summary, table = evaluation.summary, evaluation.table
    names = [f["name"] for f in summary["forecasters"]]
    models = [f["name"] for f in summary["forecasters"] if f["kind"] == "model"]
    parts = [f"<p class=warn>⚠ {escape(note)}</p>" for note in summary["notes"]]
    parts += ["<h2>Verdict</h2>", _explain(summary), verdict_list(summary)]
    for task, markets in summary["tasks"].items():
        question = summary["questions"][task]["question"]
        parts.append(f"<h2>{escape(task.capitalize())}</h2><p>{escape(question)} <small>{LEGEND[task]}</small></p>")
        ordered = sorted(markets, key=lambda m: m != ALL)
        for place, market in enumerate(ordered):
            windows = next(iter(markets[market].values())).get("windows", 0)
            title = f"{escape(market)} <small>{windows} windows</small>"
            inner = task_table(task, markets[market], models)
            parts.append(f"<details{' open' if place < 2 else ''}><summary>{title}</summary>{inner}</details>")
        if task == "price" and len(table):
            parts.append(_price_charts(table[table["tasks"].str.contains("price")], summary, names, models))
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


def _explain(summary: dict[str, Any]) -> str:
    count = sum(np.isfinite(c["p"]) for c in summary["comparisons"])
    return (
        "<p>A side is taken only where the 95 % interval of the difference leaves zero out <em>and</em> the p-value, "
        f"after Holm's correction for all {count} comparisons of this report, is below .05. Within a market the losses "
        "are averaged over the symbols of a date and the dates tested by Diebold–Mariano (Newey–West errors, "
        "fixed-b critical values); over all markets the test is cluster-robust.</p>"
    )


def _price_charts(table: pd.DataFrame, summary: dict[str, Any], names: list[str], models: list[str]) -> str:
    styles = charts.colours(names, models)
    shown = [*models, summary["yardstick"], *(n for n in ("garch", "ewma") if n in names)]
    figures = [charts.calibration_chart(table, styles), charts.pit_chart(table, list(dict.fromkeys(shown)), styles)]
    figures.append(charts.horizon_chart(table, summary["yardstick"], styles))
    return "<div class=grid>" + "".join(f"<div>{chart_html(figure)}</div>" for figure in figures) + "</div>"


def chart_html(figure: Any) -> str:
    """A plotly figure for a page that holds plotly.js itself."""
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"responsive": True, "displayModeBar": False}
    )
    return text


def _record(summary: dict[str, Any]) -> str:
    keys = ("command", "settings", "markets", "forecasters", "data", "versions", "seconds")
    record = json.dumps(
        {key: summary[key] for key in keys if key in summary}, indent=1, default=str, ensure_ascii=False
    )
    return f"<details open><summary>settings, versions, hashes, runtime</summary><pre>{escape(record)}</pre></details>"


def clean(value: Any) -> Any:
    """A JSON-safe copy: numpy to Python, NaN and infinities to None."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return str(value)


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``metrics.parquet``, ``summary.json`` and ``report.html``; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / name for name in ("metrics.parquet", "summary.json", "report.html")]
    drafts = [path.with_name(path.name + ".draft") for path in written]
    evaluation.table.to_parquet(drafts[0], index=False, compression="zstd")
    text = json.dumps(clean(evaluation.summary), indent=1, ensure_ascii=False, allow_nan=False)
    drafts[1].write_text(text + "\n", encoding="utf-8")
    drafts[2].write_text(page(evaluation), encoding="utf-8")
    for draft, final in zip(drafts, written, strict=True):
        os.replace(draft, final)
    return written


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
  max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }}
small {{ color: var(--soft); font-weight: normal; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th:first-child, .text {{ text-align: left; }} td.text {{ white-space: normal; }}
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
