"""The charts of the report: calibration, PIT, CRPS by step, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kronos.evaluation.metrics import pit_histogram, sample_quantile
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE, FloatArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK, GRID, TRUTH = "#7d8896", "rgba(128, 138, 150, 0.18)", "#e4572e"
PALETTE = ("#2563eb", "#0d9488", "#9333ea", "#d97706", "#475569", "#db2777", "#65a30d", "#0891b2", "#b45309")
BANDS = ((0.9, "rgba(37, 99, 235, 0.14)"), (0.8, "rgba(37, 99, 235, 0.16)"), (0.5, "rgba(37, 99, 235, 0.26)"))


@dataclass(eq=False)
class Example:
    """A forecast worth looking at."""

    model: str
    kind: str  # best, median or worst by CRPS
    crps: float
    window: Window
    paths: FloatArray


def _axes(chart: go.Figure, x: str, y: str, title: str) -> go.Figure:
    chart.update_xaxes(title=x)
    chart.update_yaxes(title=y)
    return dress(chart, 430, title=title)


def dress(chart: go.Figure, height: int, **layout: Any) -> go.Figure:
    """The house style: no background, a legend below."""
    chart.update_layout(
        height=height,
        margin={"l": 55, "r": 15, "t": 35, "b": 45},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12},
        legend={"orientation": "h", "y": -0.2},
        **layout,
    )
    chart.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    chart.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    return chart


def colours(names: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line style per forecaster: models solid and first in the palette, baselines dotted."""
    order = [*models, *(name for name in names if name not in models)]
    return {
        name: {
            "color": PALETTE[place % len(PALETTE)],
            "width": 2.5 if name in models else 1.3,
            "dash": "solid" if name in models else "dot",
        }
        for place, name in enumerate(order)
    }


def calibration_chart(table: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> go.Figure:
    """Share of truths below each quantile against the quantile: on the diagonal is honest.

    Read from the PIT of every (window, step); a flat S means too wide, a steep one too narrow.
    """
    import plotly.graph_objects as go

    levels = np.linspace(0.0, 1.0, 41)
    chart = go.Figure()
    chart.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": INK, "width": 1}, name="honest")
    for name, style in styles.items():
        pit = table.loc[table["forecaster"] == name, "pit"].dropna().to_numpy()
        if pit.size:
            below = [float((pit <= level).mean()) for level in levels]
            chart.add_scatter(x=levels, y=below, mode="lines", name=name, line=style)
    return _axes(chart, "quantile that was forecast", "share of truths below it", "Calibration of the close")


def pit_chart(table: pd.DataFrame, names: Sequence[str], styles: dict[str, dict[str, Any]]) -> go.Figure:
    """Histogram of the PIT in twenty bins: flat is honest, U too narrow, hump too wide, slope biased."""
    import plotly.graph_objects as go

    chart = go.Figure()
    edges = np.linspace(0, 1, 21)
    for name in names:
        pit = table.loc[table["forecaster"] == name, "pit"].dropna().to_numpy()
        if pit.size:
            height = pit_histogram(pit, len(edges) - 1)
            steps = np.append(height, height[-1])
            chart.add_scatter(x=edges, y=steps, mode="lines", line={**styles[name], "shape": "hv"}, name=name)
    chart.add_hline(y=1.0, line={"color": INK, "width": 1})
    chart.update_yaxes(rangemode="tozero")
    return _axes(chart, "rank of the truth among the paths", "density", "PIT")


def horizon_chart(table: pd.DataFrame, yardstick: str, styles: dict[str, dict[str, Any]], market: str) -> go.Figure:
    """Mean CRPS over the yardstick's at each step of one market; below one is better.

    Single-path forecasts would flatten everything else; they stay in the tables.
    """
    import plotly.graph_objects as go

    means = table.groupby(["forecaster", "step"])["crps"].mean()
    spread = table.groupby("forecaster")["num_samples"].max() > 1
    chart = go.Figure()
    chart.add_hline(y=1.0, line={"color": INK, "width": 1})
    for name, style in styles.items():
        if name != yardstick and spread.get(name, False):
            ratio = means[name] / means[yardstick]
            chart.add_scatter(x=ratio.index, y=ratio, mode="lines", name=name, line=style)
    return _axes(chart, "bars ahead", f"CRPS / {yardstick}", f"CRPS by horizon, {market}")


def ratio_chart(rows: dict[str, dict[str, Any]], yardstick: str, models: Sequence[str]) -> go.Figure:
    """CRPS over the yardstick's with its 95 % interval, a line per forecaster; left of one is better."""
    import plotly.graph_objects as go

    names = [*(n for n in rows if n not in models and n != yardstick), *models][::-1]
    found = [rows[name]["crps_ratio"] for name in names]
    value = np.array([one["value"] for one in found])
    chart = go.Figure()
    chart.add_vline(x=1.0, line={"color": INK, "width": 1})
    chart.add_scatter(
        x=value,
        y=names,
        mode="markers",
        marker={"size": 9, "color": [PALETTE[0] if name in models else INK for name in names]},
        error_x={
            "array": np.array([one["high"] for one in found]) - value,
            "arrayminus": value - np.array([one["low"] for one in found]),
            "symmetric": False,
            "color": INK,
        },
        showlegend=False,
    )
    chart.update_xaxes(title=f"CRPS / {yardstick}, with 95 % intervals")
    chart.update_yaxes(automargin=True, autorange="reversed")
    return dress(chart, 430, title="How good, all windows")


def example_chart(example: Example) -> go.Figure:
    """The last bars of the context, the fan of the forecast and what came."""
    import plotly.graph_objects as go

    context, truth = example.window.context, example.window.truth
    shown = min(len(context.timestamps), 3 * len(truth))
    past, ahead = np.arange(1 - shown, 1), np.arange(len(truth) + 1)  # bars, since nights would draw as long lines
    chart, past_line = go.Figure(), {"color": INK, "width": 1.3}
    chart.add_scatter(x=past, y=context.values[-shown:, CLOSE], mode="lines", line=past_line, name="past")

    def joined(values: Any) -> Any:
        return np.concatenate([[context.last_close], values])

    closes = example.paths[..., CLOSE].T
    for level, fill in BANDS:
        ends = sample_quantile(closes, [(1 - level) / 2, (1 + level) / 2])
        edge: dict[str, Any] = {"x": ahead, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        chart.add_scatter(y=joined(ends[:, 1]), showlegend=False, **edge)
        chart.add_scatter(y=joined(ends[:, 0]), fill="tonexty", fillcolor=fill, name=f"{level:.0%}", **edge)
    chart.add_scatter(
        x=ahead, y=joined(np.median(closes, axis=1)), mode="lines", line={"color": PALETTE[0]}, name="median"
    )
    chart.add_scatter(
        x=ahead, y=joined(truth[:, CLOSE]), mode="lines", line={"color": TRUTH, "width": 2}, name="what came"
    )
    where = f"{example.window.group} {context.symbol}".strip()
    title = f"{example.kind}: {where}, {np.datetime_as_string(context.cutoff, unit='m')}, CRPS {example.crps:.2f} σ"
    chart.update_xaxes(title="bars after the cutoff")
    return dress(chart, 360, title={"text": title, "font": {"size": 12}})
