"""The still chart: the same scene drawn by matplotlib (the extra ``plot``) on white."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kronos.errors import MissingExtraError
from kronos.inference.charts.scene import AHEAD, Floats, Scene, scene, short_number

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
    layout = ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.15, hspace=0.02)
    chart = Figure(figsize=(12, 6.8), dpi=150, facecolor="white", layout=layout)
    FigureCanvasAgg(chart)
    rows = [4, 1] if shown.volume is not None else [1]
    axes = chart.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    _draw_candles(axes[0], shown)
    _draw_fan(axes[0], shown)
    if shown.volume is not None:
        _draw_volume(axes[1], shown, shown.volume)
    for axis in axes:
        _dress(axis, shown)
    _write_ticks(axes[-1], shown)
    _write_words(chart, axes[0], shown)
    chart.savefig(target, format="png")


def _draw_candles(axis: Any, shown: Scene) -> None:
    past = shown.past
    position = np.arange(len(past))
    bottom = np.minimum(past["open"], past["close"])
    # A bar that closes where it opened still shows as a dash.
    least = 0.0008 * float(np.ptp(past[["low", "high"]].to_numpy())) if len(past) else 0.0
    height = np.maximum((past["close"] - past["open"]).abs(), least)
    axis.vlines(position, past["low"], past["high"], colors=shown.colours, linewidth=0.9)
    axis.bar(position, height, bottom=bottom, width=0.66, color=shown.colours, linewidth=0)


def _draw_fan(axis: Any, shown: Scene) -> None:
    for band in shown.bands:
        fill = {"color": AHEAD, "alpha": band.opacity, "linewidth": 0}
        axis.fill_between(shown.line, band.lower, band.upper, label=band.name, **fill)
    axis.plot(shown.line, shown.median, color=AHEAD, linewidth=1.8, label="Median close")


def _draw_volume(axis: Any, shown: Scene, ahead: Floats) -> None:
    past = shown.past
    axis.bar(np.arange(len(past)), past["volume"], width=0.66, color=shown.colours, alpha=0.55, linewidth=0)
    axis.bar(shown.ahead, ahead, width=0.66, color=AHEAD, alpha=0.55, linewidth=0)
    axis.yaxis.get_major_locator().set_params(nbins=3)
    axis.yaxis.set_major_formatter(lambda value, _: short_number(value))


def _dress(axis: Any, shown: Scene) -> None:
    axis.set_axisbelow(True)
    axis.grid(color=GRID, linewidth=0.8)
    axis.yaxis.tick_right()
    axis.tick_params(colors=SOFT, labelsize=9, length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_xlim(-0.8, shown.size - 0.2)
    if not shown.past.empty:
        axis.axvline(len(shown.past) - 0.5, color=SOFT, linewidth=0.9, linestyle=(0, (2, 3)))


def _write_ticks(axis: Any, shown: Scene) -> None:
    count = min(9, shown.size)
    places = np.unique(np.linspace(0, shown.size - 1, count + 2).round().astype(int)[1:-1])
    axis.set_xticks(places, [shown.labels[place].replace("<br>", "\n") for place in places])


def _write_words(chart: Any, axis: Any, shown: Scene) -> None:
    axis.yaxis.set_major_formatter(lambda value, _: shown.price(value).rstrip("0").rstrip("."))
    handles, names = axis.get_legend_handles_labels()
    axis.legend(
        handles[::-1],
        names[::-1],
        loc="lower right",
        bbox_to_anchor=(1, 1.06),
        ncols=4,
        frameon=False,
        fontsize=9,
        labelcolor=SOFT,
        borderaxespad=0,
    )
    facts = "     ".join(f"{name}  {value}" for name, value in shown.facts)
    # Names of series may hold a dollar sign, which matplotlib would read as mathematics.
    axis.set_title(plain(shown.title), loc="left", fontsize=15, fontweight="bold", color=INK, pad=30)
    axis.text(0, 1.03, plain(facts), transform=axis.transAxes, fontsize=10, color=SOFT)
    chart.supxlabel(plain(shown.source), x=0.013, ha="left", fontsize=8.5, color=SOFT)


def plain(text: str) -> str:
    return text.replace("$", r"\$")
