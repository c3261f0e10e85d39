"""The still chart: the same scene drawn by matplotlib (the extra ``plot``) on white."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kronos.errors import MissingExtraError
from kronos.inference.charts import AHEAD, Scene, scene, short_number

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

INK, SOFT, GRID = "#1b2430", "#5d6977", "#e8ecf0"


def draw(forecast: Forecast, target: Path) -> None:
    """Draw the forecast into a PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        # The object interface, without pyplot: no global state, no display needed.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "A PNG chart") from None
    shown = scene(forecast)
    past, place = shown.past, np.arange(len(shown.past))
    layout = ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.15, hspace=0.02)
    chart = Figure(figsize=(12, 6.8), dpi=150, facecolor="white", layout=layout)
    FigureCanvasAgg(chart)
    rows = [4, 1] if shown.volume is not None else [1]
    axes = chart.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    _draw_prices(axes[0], shown)
    if shown.volume is not None:
        wide = {"width": 0.66, "alpha": 0.55, "linewidth": 0}
        axes[1].bar(place, past["volume"], color=shown.colours, **wide)
        axes[1].bar(shown.ahead, shown.volume, color=AHEAD, **wide)
        axes[1].yaxis.get_major_locator().set_params(nbins=3)
        axes[1].yaxis.set_major_formatter(lambda value, _: short_number(value))
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(color=GRID, linewidth=0.8)
        axis.yaxis.tick_right()
        axis.tick_params(colors=SOFT, labelsize=9, length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        axis.set_xlim(-0.8, shown.size - 0.2)
        if len(past):
            axis.axvline(len(past) - 0.5, color=SOFT, linewidth=0.9, linestyle=(0, (2, 3)))
    ticks = np.unique(np.linspace(0, shown.size - 1, min(9, shown.size) + 2).round().astype(int)[1:-1])
    axes[-1].set_xticks(ticks, [shown.labels[tick].replace("<br>", "\n") for tick in ticks])
    _write_words(chart, axes[0], shown)
    chart.savefig(target, format="png")


def _draw_prices(axis: Any, shown: Scene) -> None:
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


def _write_words(chart: Any, axis: Any, shown: Scene) -> None:
    # Names of series may hold a dollar sign, which matplotlib would read as mathematics.
    facts = "     ".join(f"{name}  {value}" for name, value in shown.facts)
    title, facts, source = (text.replace("$", r"\$") for text in (shown.title, facts, shown.source))
    axis.yaxis.set_major_formatter(lambda value, _: shown.price(value).rstrip("0").rstrip("."))
    handles, names = (found[::-1] for found in axis.get_legend_handles_labels())
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1.06), "ncols": 4, "borderaxespad": 0}
    axis.legend(handles, names, frameon=False, fontsize=9, labelcolor=SOFT, **place)
    axis.set_title(title, loc="left", fontsize=15, fontweight="bold", color=INK, pad=30)
    axis.text(0, 1.03, facts, transform=axis.transAxes, fontsize=10, color=SOFT)
    chart.supxlabel(source, x=0.013, ha="left", fontsize=8.5, color=SOFT)
