"""Pictures of a forecast: what is shown, said once, and the two ways to draw it, by plotly and by matplotlib.

Bars stand at whole positions 0, 1, 2 … whatever the time between them, so nights, lunch breaks and weekends leave
no holes, for daily and intraday bars alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.inference.certainty import NO_DIRECTION, Shown
from kronos.protocol import CLOSE, VOLUME

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from kronos.inference.forecast import Forecast

UP, DOWN, AHEAD = "#26a69a", "#ef5350", "#3b82f6"
INK, GRID = "#7d8896", "rgba(128, 138, 150, 0.18)"  # readable on white and on near-black
PAPER_INK, PAPER_SOFT, PAPER_GRID = "#1b2430", "#5d6977", "#e8ecf0"  # on white
BANDS = {0.90: 0.13, 0.80: 0.17, 0.50: 0.28}  # share of the closes: opacity; widest first, as they are laid over
FEWEST_PAST, MOST_PAST = 60, 240

Floats = npt.NDArray[np.float64]


class Band(NamedTuple):
    """The central share of the paths' closes; ``lower`` and ``upper`` begin at the last close, if it is known."""

    name: str
    share: float
    opacity: float
    lower: Floats
    upper: Floats


class Scene:
    """Everything on the picture of a forecast. Positions count the shown past bars first, then the bars ahead."""

    def __init__(self, forecast: Forecast) -> None:
        past = pd.DataFrame({"timestamp": pd.DatetimeIndex([]), **{name: [] for name in forecast.columns}})
        if forecast.history is not None:
            shown = min(max(3 * forecast.horizon, FEWEST_PAST), MOST_PAST)
            past = forecast.history.iloc[-shown:].reset_index(drop=True)
        count, end = len(past), len(past) + forecast.horizon
        start = past["close"].to_numpy()[-1:]  # empty where no history is known
        told = Shown(forecast)
        shares = BANDS if told.enough else {}
        edges = [(1 - share) / 2 for share in shares]
        table = told.quantiles([*edges, 0.5, *(1 - edge for edge in edges)])
        closes = [np.concatenate([start, close]) for close in table[:, :, CLOSE]]
        volumes, middle = table[len(shares), :, VOLUME], len(shares)
        self.title, self.facts, self.source = series_title(forecast), facts(forecast), _source(forecast)
        self.past = past
        self.colours = np.where(past["close"] >= past["open"], UP, DOWN)  # of the past bars
        self.labels = _labels(past, forecast.timestamps)
        self.size = len(self.labels)
        self.ahead = np.arange(count, end)  # positions of the bars ahead
        self.line = np.arange(count - len(start), end)  # the same, begun at the last past bar: of bands and median
        self.median = closes[middle]
        self.bands = [
            Band(f"{share:.0%}", share, opacity, lower, upper)
            for (share, opacity), lower, upper in zip(shares.items(), closes, closes[middle + 1 :])
        ]
        chances = [share_text(*row) for row in told.prob_up().to_numpy()]
        self.prob_up = chances if told.enough and count and not told.direction else None  # along ``ahead``, as texts
        self.table, self.notes, self.direction = next_bars(forecast), told.notes, told.direction or NO_DIRECTION
        self.volume = volumes if volumes.any() or past["volume"].any() else None  # median along ``ahead``, if any
        self.decimals = _decimals(forecast)

    def price(self, value: float) -> str:
        """A price as the series is quoted."""
        return f"{value:,.{self.decimals}f}"


def series_title(forecast: Forecast) -> str:
    """What is forecast, in a few words."""
    bars = "1 bar" if forecast.horizon == 1 else f"{forecast.horizon} bars"
    return f"{forecast.symbol} · next {bars}" if forecast.symbol else f"The next {bars}"


def facts(forecast: Forecast) -> list[tuple[str, str]]:
    """The few numbers a reader asks for first, as (name, value) pairs, about the end of the horizon.

    A number with a sampling error stands as ``58% ± 5``; of too few distinct paths, last close and median are all.
    """
    shown = Shown(forecast)
    low, middle, high = shown.quantiles([0.05, 0.5, 0.95])[:, -1, CLOSE]
    decimals = _decimals(forecast)
    off = shown.median_error()["close"].iloc[-1]
    median = f"{middle:,.{decimals}f}" + (f" ± {off:,.{decimals}f}" if shown.enough and not shown.direction else "")
    found = [(f"Median in {forecast.horizon} bars", median)]
    if shown.known:
        last = forecast.last_close
        found = [("Last close", f"{last:,.{decimals}f}"), (found[0][0], f"{median} ({middle / last - 1:+.2%})")]
    if shown.enough:
        found.append(("90% interval", f"{low:,.{decimals}f}–{high:,.{decimals}f}"))
    if shown.enough and shown.known:
        chance = ("P(up)", share_text(*shown.prob_up().iloc[-1]))
        found += [("Direction", "none given") if shown.direction else chance]
        found += [("VaR 95%", f"{shown.value_at_risk():.2%}")]
    return found


def share_text(share: float, error: float) -> str:
    """A share with its sampling error in percentage points: ``58% ± 5``; a dash where it is unknown."""
    return "–" if np.isnan(share) else f"{share:.0%} ± {100 * error:.{0 if error >= 0.01 else 1}f}"


def next_bars(forecast: Forecast, levels: Sequence[float] | None = None) -> tuple[list[str], list[list[str]]]:
    """The closes ahead as texts, a row a bar: (names of the columns, rows).

    Median, 50 % and 90 % interval, or the quantiles of ``levels``, and the chance of a rise where the paths have a
    direction; of too few distinct paths the median alone.
    """
    shown, decimals = Shown(forecast), _decimals(forecast)
    asked = levels or ((0.5, 0.25, 0.75, 0.05, 0.95) if shown.enough else (0.5,))
    close = shown.quantiles(asked)[:, :, CLOSE]
    texts = [["–" if np.isnan(value) else f"{value:,.{decimals}f}" for value in row] for row in close]
    names = [f"Close {level:.4g}" for level in asked]
    if levels is None:
        middle, *edges = texts
        names = ["Median", "50% interval", "90% interval"][: 1 + len(edges) // 2]
        texts = [middle, *([f"{a}–{b}" for a, b in zip(*edges[i : i + 2])] for i in range(0, len(edges), 2))]
    if shown.enough and shown.known and not shown.direction:
        names.append("P(up)")
        texts.append([share_text(*row) for row in shown.prob_up().to_numpy()])
    times = forecast.timestamps
    wall = times.tz_localize(None)  # zones that skip a midnight have none to compare with
    pattern = "%Y-%m-%d" if (wall == wall.normalize()).all() else "%Y-%m-%d %H:%M"
    return ["Time", *names], [list(row) for row in zip(times.strftime(pattern), *texts, strict=True)]


def _decimals(forecast: Forecast) -> int:
    past = forecast.history
    return price_decimals(forecast.median()["close"] if past is None or past.empty else past["close"])


def price_decimals(prices: Any) -> int:
    """Decimals that show these prices as they are quoted: 2 for 2506.85, 5 for 1.12345; at least 2, at most 8."""
    values = np.asarray(prices, dtype=np.float64)
    exact = (d for d in range(2, 8) if np.all(np.abs(values - values.round(d)) <= 1e-6 * values))
    return next(exact, 8)


def short_number(value: float) -> str:
    """1,500,000 as 1.5M: the reader of a volume wants its size."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _labels(past: pd.DataFrame, future: pd.DatetimeIndex) -> list[str]:
    """One distinct name a bar: the day for daily bars, else the time above the day."""
    times = pd.DatetimeIndex([*past["timestamp"], *future])
    labels = times.strftime("%Y-%m-%d" if times.tz_localize(None).normalize().is_unique else "%H:%M<br>%Y-%m-%d")
    if not labels.is_unique:  # bars within one minute, or the hour that a clock change repeats
        labels = times.strftime("%H:%M:%S.%f%z<br>%Y-%m-%d")
    return list(labels)


def _source(forecast: Forecast) -> str:
    """One line on where the numbers come from."""
    words = [f"{forecast.num_samples} sample {'path' if forecast.num_samples == 1 else 'paths'}"]
    if not Shown(forecast).enough:
        distinct = forecast.distinct_paths
        words[0] += f"{'' if distinct == forecast.num_samples else f', {distinct} distinct'}: no distribution"
    for key, word in (("model", "model"), ("seed", "seed"), ("calendar", "calendar"), ("cutoff", "last bar")):
        if (value := forecast.metadata.get(key)) is not None:
            words.append(f"{word} {str(value).removesuffix('T00:00:00').replace('T', ' ')}")
    return " · ".join(words)


# -- by plotly: interactive -------------------------------------------------------------------------------------------


def page(forecast: Forecast) -> str:
    """A whole HTML document: the headline numbers, their cautions, the figure, the bars ahead as a table.

    It carries plotly.js inside, so it opens offline, and follows the reader's light or dark setting.
    """
    shown = Scene(forecast)
    chart = figure(shown).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="chart",
        default_height="100%",
        config={"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
    )
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in shown.facts)
    names, rows = shown.table
    parts = {
        "facts": facts,
        "notes": "".join(f"<li>{escape(note)}.</li>" for note in shown.notes),
        "head": _row("th", names),
        "rows": "".join(_row("td", row) for row in rows),
        "direction": escape(shown.direction),
        "source": escape(shown.source),
    }
    template = Template(Path(__file__).with_name("chart.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(shown.title), chart=chart, **parts)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def figure(shown: Scene) -> go.Figure:
    """Candles of the history, the median path with its fan, and the volume below."""
    from plotly.subplots import make_subplots

    heights = [0.8, 0.2] if shown.volume is not None else [0.8]
    chart = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, vertical_spacing=0.03, row_heights=heights)
    _add_prices(chart, shown)
    if shown.volume is not None:
        first, look = len(shown.past), {"opacity": 0.55, "showlegend": False, "textposition": "none"}
        for x, y, colour, name in (
            (shown.labels[:first], shown.past["volume"], shown.colours, "Volume"),
            (shown.labels[first:], shown.volume, AHEAD, "Median volume"),
        ):
            marker, hover = {"color": colour, "line": {"width": 0}}, name + " %{text}<extra></extra>"
            text = [short_number(value) for value in y]
            chart.add_bar(x=x, y=y, marker=marker, name=name, text=text, hovertemplate=hover, **look, row=2, col=1)
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
    return chart


def _add_prices(chart: go.Figure, shown: Scene) -> None:
    """Candles, bands and median."""
    past, top = shown.past, {"row": 1, "col": 1}
    if not past.empty:
        prices = {name: past[name] for name in ("open", "high", "low", "close")}
        rising, falling = ({"line": {"color": colour, "width": 1}, "fillcolor": colour} for colour in (UP, DOWN))
        look = {"increasing": rising, "decreasing": falling, "showlegend": False, "name": ""}
        chart.add_candlestick(x=shown.labels[: len(past)], **prices, **look, **top)
    along = [shown.labels[position] for position in shown.line]
    red, green, blue = (int(AHEAD[i : i + 2], 16) for i in (1, 3, 5))
    for band in shown.bands:
        fill = f"rgba({red}, {green}, {blue}, {band.opacity})"
        look = {"fill": "toself", "fillcolor": fill, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"}
        edge = np.concatenate([band.upper, band.lower[::-1]])
        chart.add_scatter(x=along + along[::-1], y=edge, name=band.name, **look, **top)
    first = len(shown.line) - len(shown.ahead)
    texts = [""] * first  # over the last close, whose candle speaks
    for step, point in enumerate(range(first, len(shown.line))):
        lines = [f"<b>Median {shown.price(shown.median[point])}</b>"]
        edges = [(band.name, band.lower[point], band.upper[point]) for band in reversed(shown.bands)]
        lines += [f"{name}: {shown.price(lower)} – {shown.price(upper)}" for name, lower, upper in edges]
        if shown.prob_up is not None:
            lines.append(f"P(up): {shown.prob_up[step]}")
        texts.append("<br>".join(lines))
    look = {"mode": "lines", "line": {"color": AHEAD, "width": 2}, "hovertemplate": "%{text}<extra></extra>"}
    chart.add_scatter(x=along, y=shown.median, name="Median close", text=texts, **look, **top)


# -- by matplotlib (the extra ``plot``): still ------------------------------------------------------------------------


def draw(forecast: Forecast, target: Path) -> None:
    """Draw the forecast into a PNG file, on white."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display needed
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = Scene(forecast)
    layout = ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.15, hspace=0.02)
    chart = Figure(figsize=(12, 6.8), dpi=150, facecolor="white", layout=layout)
    rows = [4, 1] if shown.volume is not None else [1]
    axes = chart.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    _draw_prices(axes[0], shown)
    if shown.volume is not None:
        wide = {"width": 0.66, "alpha": 0.55, "linewidth": 0}
        axes[1].bar(range(len(shown.past)), shown.past["volume"], color=shown.colours, **wide)
        axes[1].bar(shown.ahead, shown.volume, color=AHEAD, **wide)
        axes[1].yaxis.get_major_locator().set_params(nbins=3)
        axes[1].yaxis.set_major_formatter(lambda value, _: short_number(value))
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(color=PAPER_GRID, linewidth=0.8)
        axis.yaxis.tick_right()
        axis.tick_params(colors=PAPER_SOFT, labelsize=9, length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        axis.set_xlim(-0.8, shown.size - 0.2)
        if len(shown.past):
            axis.axvline(len(shown.past) - 0.5, color=PAPER_SOFT, linewidth=0.9, linestyle=(0, (2, 3)))
    ticks = np.unique(np.linspace(0, shown.size - 1, min(9, shown.size) + 2).round().astype(int)[1:-1])
    axes[-1].set_xticks(ticks, [shown.labels[tick].replace("<br>", "\n") for tick in ticks])
    chart.supxlabel(_plain(shown.source), x=0.013, ha="left", fontsize=8.5, color=PAPER_SOFT)
    chart.savefig(target, format="png")


def _draw_prices(axis: Any, shown: Scene) -> None:
    """Candles, bands and median, with title, headline numbers and legend above."""
    past, place = shown.past, np.arange(len(shown.past))
    # A bar that closed where it opened still shows as a dash.
    least = 0.0008 * float(np.ptp(past[["low", "high"]].to_numpy())) if len(past) else 0.0
    height, bottom = np.maximum((past["close"] - past["open"]).abs(), least), np.minimum(past["open"], past["close"])
    axis.vlines(place, past["low"], past["high"], colors=shown.colours, linewidth=0.9)
    axis.bar(place, height, bottom=bottom, width=0.66, color=shown.colours, linewidth=0)
    for band in shown.bands:
        fill = {"color": AHEAD, "alpha": band.opacity, "linewidth": 0}
        axis.fill_between(shown.line, band.lower, band.upper, label=band.name, **fill)
    axis.plot(shown.line, shown.median, color=AHEAD, linewidth=1.8, label="Median close")
    axis.yaxis.set_major_formatter(lambda value, _: shown.price(value).rstrip("0").rstrip("."))
    handles, names = (found[::-1] for found in axis.get_legend_handles_labels())
    look = {"loc": "lower right", "bbox_to_anchor": (1, 1.06), "ncols": 4, "borderaxespad": 0}
    axis.legend(handles, names, frameon=False, fontsize=9, labelcolor=PAPER_SOFT, **look)
    axis.set_title(_plain(shown.title), loc="left", fontsize=15, fontweight="bold", color=PAPER_INK, pad=30)
    facts = _plain("     ".join(f"{name}  {value}" for name, value in shown.facts))
    axis.text(0, 1.03, facts, transform=axis.transAxes, fontsize=10, color=PAPER_SOFT)


def _plain(text: str) -> str:
    """Names of series may hold a dollar sign, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
