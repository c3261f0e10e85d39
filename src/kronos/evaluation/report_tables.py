"""The tables of the report, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

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
    "investment": [
        ("excess a year", "excess", 3),
        ("t (Newey–West)", "excess_t", 2),
        ("information ratio", "information_ratio", 2),
        ("return a year", "annual_return", 3),
        ("largest drawdown", "max_drawdown", 3),
        ("turnover a day", "turnover", 3),
        ("sessions", "sessions", 0),
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

#: More columns than this do not fit beside each other on a page.
WIDEST = 12
LEGEND = {
    "price": "σ is the context's one-bar volatility of log closes. CRPS and energy score: fair estimators. Intervals: "
    "type-6 sample quantiles. Small print: 95 % interval, bootstrap of clusters (market × block of time).",
    "return": "IC across the symbols of a date needs five symbols and eight dates; otherwise only the pooled figures "
    "are shown. The pooled ones mix time and cross-section: read them with care.",
    "volatility": "Realised over the horizon from closes. The log correlation is of realised over usual volatility, so "
    "that knowing which symbol is wild earns nothing; “raw” includes that.",
    "investment": "TopkDropout on the mean predicted close of ten sessions ahead, a new signal every five, held for "
    "five at least, .15 % a trade, traded on the session after; excess over all names in equal shares, after cost.",
    "generation": "One sampled path per window against what came. Score: 1 − accuracy of an LSTM told to tell them "
    "apart, ½ is the best. TSTR / TRTR: error after training on synthetic over error after training on real; 1 is as "
    "good as real. Compare the facts with the row “real”. An accuracy well below ½ says that the network learnt its "
    "training dates by heart, not that the bars are better than real.",
}


def number(value: Any, digits: int) -> str:
    """A figure, with its interval where it has one; a dash for what is not defined."""
    if isinstance(value, dict):
        middle = number(value.get("value"), digits)
        low, high = value.get("low"), value.get("high")
        if middle == "–" or low is None or not np.isfinite(low):
            return middle
        return f"{middle}<br><small>{low:.{digits}f} … {high:.{digits}f}</small>"
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
    """A row per forecaster, models first and bold; columns without any figure left out, many in two tables."""
    flat = {name: _flat(figures) for name, figures in rows.items()}
    if task == "generation" and flat:
        flat = {"real": next(iter(rows.values()))["real_facts"], **flat}
    columns = [c for c in COLUMNS[task] if any(c[1] in figures for figures in flat.values())]
    names = sorted(flat, key=lambda n: (n != "real", n not in models, list(flat).index(n)))
    half = -(-len(columns) // 2) if len(columns) > WIDEST else len(columns)
    return "".join(
        _table(
            ["", *(title for title, _, _ in part)],
            [_row(name, flat[name], part, name in models) for name in names],
        )
        for part in (columns[:half], columns[half:])
        if part
    )


def _row(name: str, figures: dict[str, Any], columns: Sequence[tuple[str, str, int]], model: bool) -> str:
    cells = _numbers(*(number(figures.get(key), digits) for _, key, digits in columns))
    return f"<tr{' class=model' if model else ''}><th>{escape(name)}</th>{cells}</tr>"


def comparison_table(items: Iterable[dict[str, Any]]) -> str:
    """Every comparison with its difference, test and adjusted p-value."""
    rows = []
    for item in items:
        relative = "–" if not np.isfinite(item["relative"]) else f"{item['relative']:+.2%}"
        numbers = [number(item["difference"], 4), relative, number(item["p"], 4), number(item["adjusted_p"], 4)]
        text = _text(*(item[key] for key in ("task", "market", "model", "baseline")))
        rows.append(f"<tr>{text}{_numbers(*numbers, item['n'])}{_text(item['test'], item['words'])}</tr>")
    names = ["task", "market", "model", "baseline", "difference", "relative", "p", "p (Holm)", "n", "test", "verdict"]
    return _table(names, rows)


def verdict_list(summary: dict[str, Any]) -> str:
    """The verdicts, models apart, all markets first."""
    if not summary["verdicts"]:
        return "<p>Only baselines were evaluated: there is nothing to compare.</p>"
    lines = sorted(summary["verdicts"], key=lambda v: (v["model"], v["task"], v["market"] != ALL))
    names = ["model", "task", "market", "verdict"]
    rows = (f"<tr class={'model' if v['market'] == ALL else ''}>{_text(*(v[n] for n in names))}</tr>" for v in lines)
    return _table(names, list(rows))


def market_table(markets: Mapping[str, dict[str, Any]]) -> str:
    """Sizes and dates of the windows of each market."""
    rows = []
    for name, market in markets.items():
        sizes = [market[key] for key in ("context", "horizon", "symbols", "windows")]
        dates = [str(market[key])[:16].replace("T", " ") for key in ("first_cutoff", "last_cutoff")]
        refused = f"{sum(market['refused'].values()):,}"
        rows.append(f"<tr><th>{escape(name)}</th>{_numbers(*sizes, *dates, refused)}</tr>")
    names = ["market", "bars seen", "bars ahead", "symbols", "windows", "first cutoff", "last cutoff", "refused"]
    return _table(names, rows)


def _text(*cells: str) -> str:
    return "".join(f"<td class=text>{escape(cell)}</td>" for cell in cells)


def _numbers(*cells: Any) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def facts_table(facts: Mapping[str, Any]) -> str:
    """Names and what they are: two columns."""
    rows = [
        f"<tr><th>{escape(str(name))}</th><td class=text><code>{escape(_plain(value))}</code></td></tr>"
        for name, value in facts.items()
    ]
    return f"<table class=facts>{''.join(rows)}</table>"


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)


def _table(names: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"
