"""The interactive chart: a plotly figure, and the web page that holds it.

The page carries plotly.js inside, so it opens offline, and follows the reader's light or dark setting.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kronos.inference.charts import AHEAD, DOWN, UP, Floats, Scene, scene, short_number

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

INK, GRID = "#7d8896", "rgba(128, 138, 150, 0.18)"  # readable on white and on near-black


def page(forecast: Forecast) -> str:
    """A whole HTML document with the figure, the headline numbers and their source."""
    shown = scene(forecast)
    chart = figure(shown).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="chart",
        default_height="100%",
        config={"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
    )
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in shown.facts)
    return _PAGE.format(title=escape(shown.title), facts=facts, source=escape(shown.source), chart=chart)


def figure(shown: Scene) -> go.Figure:
    """Candles of the history, the median path with its fan, and the volume below."""
    rows = 1 if shown.volume is None else 2
    heights = [0.8, 0.2][:rows]
    chart = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.03, row_heights=heights)
    chart.add_traces(_prices(shown), rows=1, cols=1)
    if shown.volume is not None:
        chart.add_traces(_volume(shown, shown.volume), rows=2, cols=1)
    _arrange(chart, shown)
    return chart


def _prices(shown: Scene) -> list[Any]:
    """Candles, bands and median."""
    past, traces = shown.past, []
    if not past.empty:
        prices = {name: past[name] for name in ("open", "high", "low", "close")}
        rising, falling = ({"line": {"color": colour, "width": 1}, "fillcolor": colour} for colour in (UP, DOWN))
        look = {"increasing": rising, "decreasing": falling, "showlegend": False, "name": ""}
        traces.append(go.Candlestick(x=shown.labels[: len(past)], **prices, **look))
    along = [shown.labels[position] for position in shown.line]
    red, green, blue = (int(AHEAD[i : i + 2], 16) for i in (1, 3, 5))
    for band in shown.bands:
        fill = f"rgba({red}, {green}, {blue}, {band.opacity})"
        look = {"fill": "toself", "fillcolor": fill, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"}
        edge = np.concatenate([band.upper, band.lower[::-1]])
        traces.append(go.Scatter(x=along + along[::-1], y=edge, name=band.name, **look))
    look = {"mode": "lines", "line": {"color": AHEAD, "width": 2}, "hovertemplate": "%{text}<extra></extra>"}
    return [*traces, go.Scatter(x=along, y=shown.median, name="Median close", text=_hover(shown), **look)]


def _hover(shown: Scene) -> list[str]:
    """What the pointer reads over each point of the median; nothing over the last close, whose candle speaks."""
    known = len(shown.line) - len(shown.ahead)
    texts = [""] * known
    for step, point in enumerate(range(known, len(shown.line))):
        lines = [f"<b>Median {shown.price(shown.median[point])}</b>"]
        bands = reversed(shown.bands)
        lines += [f"{band.name}: {shown.price(band.lower[point])} – {shown.price(band.upper[point])}" for band in bands]
        if shown.prob_up is not None:
            lines.append(f"P(up): {shown.prob_up[step]:.0%}")
        texts.append("<br>".join(lines))
    return texts


def _volume(shown: Scene, ahead: Floats) -> list[go.Bar]:
    first, look = len(shown.past), {"opacity": 0.55, "showlegend": False, "textposition": "none"}
    return [
        go.Bar(
            x=x,
            y=y,
            marker={"color": colour, "line": {"width": 0}},
            name=name,
            text=[short_number(value) for value in y],
            hovertemplate=name + " %{text}<extra></extra>",
            **look,
        )
        for x, y, colour, name in (
            (shown.labels[:first], shown.past["volume"], shown.colours, "Volume"),
            (shown.labels[first:], ahead, AHEAD, "Median volume"),
        )
    ]


def _arrange(chart: go.Figure, shown: Scene) -> None:
    chart.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "traceorder": "reversed"},
        hovermode="x unified",
        hoverlabel={"bgcolor": "rgba(24, 28, 35, 0.94)", "font": {"color": "#e8ecf1"}, "bordercolor": GRID},
        bargap=0.25,
        dragmode="pan",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": AHEAD},
    )
    spike = {"mode": "across", "snap": "cursor", "thickness": 1, "dash": "dot", "color": INK}
    chart.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=shown.labels,
        range=[-0.5, shown.size - 0.5],
        nticks=9,
        tickangle=0,
        gridcolor=GRID,
        rangeslider_visible=False,
        showspikes=True,
        **{f"spike{name}": value for name, value in spike.items()},
    )
    chart.update_yaxes(side="right", gridcolor=GRID, zeroline=False, automargin=True)
    chart.update_yaxes(tickformat=f",.{min(shown.decimals, 5)}~f", row=1, col=1)
    if shown.volume is not None:
        chart.update_yaxes(nticks=4, exponentformat="B", fixedrange=True, row=2, col=1)
    if not shown.past.empty:
        chart.add_vline(x=len(shown.past) - 0.5, line={"color": INK, "width": 1, "dash": "dot"})


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #ffffff; --ink: #1b2430; --soft: #5d6977; --line: #e4e8ed; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #0f1318; --ink: #e6eaf0; --soft: #93a0b0; --line: #262d37; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1280px; min-height: 100vh; padding: 24px 28px 18px; display: flex;
  flex-direction: column; gap: 14px; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }}
h1 {{ margin: 0; font-size: 22px; font-weight: 650; letter-spacing: -0.01em; }}
dl {{ margin: 0; display: flex; flex-wrap: wrap; gap: 10px 36px; padding-bottom: 14px;
  border-bottom: 1px solid var(--line); }}
dt {{ color: var(--soft); font-size: 12px; }}
dd {{ margin: 0; font-size: 16px; font-variant-numeric: tabular-nums; }}
main {{ flex: 1; min-height: 480px; position: relative; }}
main > div {{ position: absolute; inset: 0; }}
main .xtick text, main .ytick text, main .legendtext {{ fill: var(--soft) !important; }}
main .modebar {{ opacity: 0; transition: opacity 0.2s; }}
main:hover .modebar {{ opacity: 1; }}
@media (max-width: 640px) {{ main .modebar {{ display: none; }} body {{ padding: 16px 14px; }} }}
footer {{ color: var(--soft); font-size: 12px; }}
</style>
</head>
<body>
<h1>{title}</h1>
<dl>{facts}</dl>
<main>{chart}</main>
<footer>{source}</footer>
<script>
// plotly spaces the ticks of a category axis without looking at how wide their labels are.
const chart = document.getElementById("chart");
new ResizeObserver(() => {{
  const axes = Object.keys(chart.layout).filter((name) => name.startsWith("xaxis"));
  const count = Math.max(2, Math.floor(chart.clientWidth / 135));
  Plotly.relayout(chart, Object.fromEntries(axes.map((name) => [name + ".nticks", count])));
  Plotly.Plots.resize(chart);
}}).observe(chart);
</script>
</body>
</html>
"""
