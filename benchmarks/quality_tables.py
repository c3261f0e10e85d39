"""The tables of the quality benchmark: by market and bar size, and by bars ahead and market, with intervals and counts.

They come from the tables of ``benchmarks.quality.scored``, one row a window, and from the figures of the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kronos.evaluation.figures import Means, touch_row, volatility_row
from kronos.evaluation.statistics import cluster_bootstrap, ratio_of_means

ALL = "all"


def estimate(figure: Mapping[str, float]) -> str:
    """A figure with its interval; a dash where it has none."""
    if not np.isfinite(figure["value"]):
        return "–"
    ends = f" [{figure['low']:.3f}, {figure['high']:.3f}]" if np.isfinite(figure["low"]) else ""
    return f"{figure['value']:.3f}{ends}"


def volatility_and_touch(rows: pd.DataFrame, yardstick: pd.DataFrame) -> dict[str, Any]:
    """QLIKE, log correlations, slope and intercept of truth on forecast, log bias; Brier scores and reliability."""
    found = volatility_row(rows, pooled=True)
    keys = ("qlike", "log_correlation", "log_correlation_raw", "slope", "intercept", "bias")
    return {key: found[key] for key in keys} | {"touch": touch_row(rows, yardstick, pooled=True)}


def by_market(rows: pd.DataFrame, yardstick: pd.DataFrame) -> list[dict[str, Any]]:
    """Per file (market and bar size): windows, clusters, CRPS ratio, coverage, volatility."""
    out = []
    for group, part in rows.groupby("group"):
        name = str(group)  # of a packaged sample it has no bar size
        market, size = name.rsplit("_", 1) if "_" in name else (name, "")
        means, theirs = Means(part, pooled=True), yardstick.loc[part.index]
        volatility = volatility_row(part, pooled=True)
        out.append(
            {
                "market": market,
                "bar": size,
                "windows": len(part),
                "clusters": len(np.unique(means.labels)),
                "crps_ratio": means.function(np.column_stack([part["crps"], theirs["crps"]]), ratio_of_means),
                **{f"coverage_{level}": means.function(part[f"covered_{level}"]) for level in (50, 90)},
                **{key: volatility[key] for key in ("qlike", "log_correlation", "slope")},
                "first_open_gap_median": round(float(part["first_gap"].median()), 4),
            }
        )
    return out


def by_horizon(
    tables: Mapping[str, pd.DataFrame], name: str, clusters: np.ndarray, steps: Sequence[int]
) -> list[dict[str, Any]]:
    """A forecaster's CRPS of the close so many bars ahead, by market, over that of each other one, with its coverage.

    ``over``: {other: ratio with its interval}. Every step comes from the same forecasts of the longest horizon.
    """
    out, mine = [], tables[name]
    for step, (market, here) in ((step, part) for step in steps for part in _markets(mine)):
        ours, labels = _at(mine, "crps_steps", step)[here], clusters[here]
        over = {
            other: cluster_bootstrap(
                labels, np.column_stack([ours, _at(table, "crps_steps", step)[here]]), ratio_of_means
            ).as_dict()
            for other, table in tables.items()
            if other != name
        }
        covered = cluster_bootstrap(labels, _at(mine, "covered_steps", step)[here]).as_dict()
        counts = {"windows": int(here.sum()), "clusters": len(np.unique(labels))}
        out.append({"step": step, "market": market, **counts, "over": over, "coverage_90": covered})
    return out


def _markets(table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Markets whatever their bar size, then all of them: names and which rows."""
    names = table["group"].astype(str).str.rsplit("_", n=1).str[0].to_numpy()
    yield from ((str(name), names == name) for name in np.unique(names))
    yield ALL, np.ones(len(table), bool)


def _at(table: pd.DataFrame, column: str, step: int) -> np.ndarray:
    """(N,) the score of one step."""
    return np.array([values[step - 1] for values in table[column]], dtype=float)


def show_market(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of text for :func:`by_market`."""
    heads = ("windows", "clusters", "CRPS ratio", "covers 50 %", "covers 90 %", "QLIKE", "log corr", "slope")
    yield "| market | bar | " + " | ".join(heads) + " |"
    yield "|" + "---|" * (2 + len(heads))
    for row in rows:
        figures = (
            row[key] for key in ("crps_ratio", "coverage_50", "coverage_90", "qlike", "log_correlation", "slope")
        )
        cells = [row["market"], row["bar"], f"{row['windows']:,}", f"{row['clusters']:,}", *map(estimate, figures)]
        yield "| " + " | ".join(cells) + " |"


def show_horizon(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of text for :func:`by_horizon`."""
    others = list(rows[0]["over"])
    yield "| bars ahead | market | windows | clusters | " + " | ".join(f"over {name}" for name in others) + " | 90 % |"
    yield "|" + "---|" * (5 + len(others))
    for row in rows:
        figures = [*(row["over"][name] for name in others), row["coverage_90"]]
        cells = [
            str(row["step"]),
            row["market"],
            f"{row['windows']:,}",
            f"{row['clusters']:,}",
            *map(estimate, figures),
        ]
        yield "| " + " | ".join(cells) + " |"
