"""The charts of the report: calibration, PIT, CRPS by step, examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
THIN = {"color": INK, "width": 1}
BANDS = ((0.9, "rgba(37, 99, 235, 0.14)"), (0.8, "rgba(37, 99, 235, 0.16)"), (0.5, "rgba(37, 99, 235, 0.26)"))


@dataclass(eq=False)
class Example:
    """A forecast worth looking at."""

    model: str
    kind: str  # best, median or worst by CRPS
    crps: float
    window: Window
    paths: FloatArray


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
    return chart.update_xaxes(gridcolor=GRID, zerolinecolor=GRID).update_yaxes(gridcolor=GRID, zerolinecolor=GRID)


def colours(names: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line style per forecaster: models solid and first in the palette, baselines dotted."""
    solid, dotted = {"width": 2.5, "dash": "solid"}, {"width": 1.3, "dash": "dot"}
    order = [*models, *(name for name in names if name not in models)]
    return {
        name: {"color": PALETTE[place % len(PALETTE)], **(solid if name in models else dotted)}
        for place, name in enumerate(order)
    }


def _chart(x: str, y: str | None, title: Any, height: int = 430, one: str = "") -> go.Figure:
    """An empty chart in the house style; ``one``: the axis on which a line is drawn at 1."""
    import plotly.graph_objects as go

    chart = go.Figure()
    if one:
        (chart.add_hline if one == "y" else chart.add_vline)(**{one: 1.0}, line=THIN)
    chart.update_xaxes(title=x)
    chart.update_yaxes({"title": y} if y else {})
    return dress(chart, height, title=title)


def _pits(table: pd.DataFrame, names: Iterable[str]) -> Iterator[tuple[str, FloatArray]]:
    """The PIT of every (window, step) of the forecasters that have one."""
    for name in names:
        pit = table.loc[table["forecaster"] == name, "pit"].dropna().to_numpy()
        if pit.size:
            yield name, pit


def calibration_chart(table: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> go.Figure:
    """Share of truths below each quantile against the quantile: on the diagonal is honest.

    A flat S means too wide, a steep one too narrow.
    """
    levels = np.linspace(0.0, 1.0, 41)
    chart = _chart("quantile that was forecast", "share of truths below it", "Calibration of the close")
    chart.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=THIN, name="honest")
    for name, pit in _pits(table, styles):
        below = [float((pit <= level).mean()) for level in levels]
        chart.add_scatter(x=levels, y=below, mode="lines", name=name, line=styles[name])
    return chart


def pit_chart(table: pd.DataFrame, names: Sequence[str], styles: dict[str, dict[str, Any]]) -> go.Figure:
    """Histogram of the PIT in twenty bins: flat is honest, U too narrow, hump too wide, slope biased."""
    chart = _chart("rank of the truth among the paths", "density", "PIT", one="y")
    edges = np.linspace(0, 1, 21)
    for name, pit in _pits(table, names):
        height = pit_histogram(pit, len(edges) - 1)
        steps = np.append(height, height[-1])
        chart.add_scatter(x=edges, y=steps, mode="lines", line={**styles[name], "shape": "hv"}, name=name)
    return chart.update_yaxes(rangemode="tozero")


def horizon_chart(table: pd.DataFrame, yardstick: str, styles: dict[str, dict[str, Any]], market: str) -> go.Figure:
    """Mean CRPS over the yardstick's at each step of one market; below one is better.

    Single-path forecasts would flatten everything else; they stay in the tables.
    """
    means = table.groupby(["forecaster", "step"])["crps"].mean()
    spread = table.groupby("forecaster")["num_samples"].max() > 1
    chart = _chart("bars ahead", f"CRPS / {yardstick}", f"CRPS by horizon, {market}", one="y")
    for name in [name for name in styles if name != yardstick and spread.get(name, False)]:
        ratio = means[name] / means[yardstick]
        chart.add_scatter(x=ratio.index, y=ratio, mode="lines", name=name, line=styles[name])
    return chart


def ratio_chart(rows: dict[str, dict[str, Any]], yardstick: str, models: Sequence[str]) -> go.Figure:
    """CRPS over the yardstick's with its 95 % interval, a line per forecaster; left of one is better."""
    names = [*(n for n in rows if n not in models and n != yardstick), *models][::-1]
    value, low, high = (np.array([rows[name]["crps_ratio"][end] for name in names]) for end in ("value", "low", "high"))
    chart = _chart(f"CRPS / {yardstick}, with 95 % intervals", None, "How good, all windows", one="x")
    chart.add_scatter(
        x=value,
        y=names,
        mode="markers",
        marker={"size": 9, "color": [PALETTE[0] if name in models else INK for name in names]},
        error_x={"array": high - value, "arrayminus": value - low, "symmetric": False, "color": INK},
        showlegend=False,
    )
    return chart.update_yaxes(automargin=True, autorange="reversed")


def example_chart(example: Example) -> go.Figure:
    """The last bars of the context, the fan of the forecast and what came."""
    context, truth = example.window.context, example.window.truth
    shown = min(len(context.timestamps), 3 * len(truth))
    past, ahead = np.arange(1 - shown, 1), np.arange(len(truth) + 1)  # bars, since nights would draw as long lines
    where = f"{example.window.group} {context.symbol}".strip()
    title = f"{example.kind}: {where}, {np.datetime_as_string(context.cutoff, unit='m')}, CRPS {example.crps:.2f} σ"
    chart = _chart("bars after the cutoff", None, {"text": title, "font": {"size": 12}}, height=360)
    past_line = {"color": INK, "width": 1.3}
    chart.add_scatter(x=past, y=context.values[-shown:, CLOSE], mode="lines", line=past_line, name="past")

    def joined(values: Any) -> Any:
        return np.concatenate([[context.last_close], values])

    closes = example.paths[..., CLOSE].T
    for level, fill in BANDS:
        low, high = sample_quantile(closes, [(1 - level) / 2, (1 + level) / 2]).T
        edge: dict[str, Any] = {"x": ahead, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        chart.add_scatter(y=joined(high), showlegend=False, **edge)
        chart.add_scatter(y=joined(low), fill="tonexty", fillcolor=fill, name=f"{level:.0%}", **edge)
    middle, came = joined(np.median(closes, axis=1)), joined(truth[:, CLOSE])
    chart.add_scatter(x=ahead, y=middle, mode="lines", line={"color": PALETTE[0]}, name="median")
    return chart.add_scatter(x=ahead, y=came, mode="lines", line={"color": TRUTH, "width": 2}, name="what came")
