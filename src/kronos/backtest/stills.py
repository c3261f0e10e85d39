"""The same charts as PNG files, by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kronos.backtest.charts import OPACITY, growth
from kronos.backtest.performance import drawdown
from kronos.backtest.simulate import Simulation
from kronos.backtest.study import Study
from kronos.bars.store import whole_file
from kronos.errors import MissingExtraError

INK, GRID = "#1b2430", "#e8ecf0"
_DASHES = {"dot": ":", "solid": "-", "dash": "--"}
Lines = Mapping[str, Mapping[str, Any]]


def save_stills(
    simulations: Mapping[str, Simulation], studies: Mapping[str, Study], benchmark: str, lines: Lines, folder: Path
) -> list[Path]:
    """Writes ``return.png``, ``excess.png``, ``drawdown.png``, ``turnover.png``, ``ic.png``, ``groups.png``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    bench = next(iter(simulations.values())).daily["bench"]
    returns = {name: growth(one.net) for name, one in simulations.items()}
    excess = {name: (one.net - one.daily["bench"]).cumsum() for name, one in simulations.items()}
    falls = {name: drawdown(one.net) for name, one in simulations.items()}
    turnover = {name: one.daily["turnover"].resample("MS").mean() for name, one in simulations.items()}
    ranks = {name: one.ic["rank_ic"].cumsum() for name, one in studies.items()}
    return [
        _curves(
            folder / "return.png", "Return since the start, after cost", returns, lines, {benchmark: growth(bench)}
        ),
        _curves(folder / "excess.png", "Excess over the benchmark after cost, summed", excess, lines),
        _curves(folder / "drawdown.png", "Drawdown", falls, lines),
        _curves(folder / "turnover.png", "Turnover a day, by month", turnover, lines),
        _curves(folder / "ic.png", "Rank IC, summed over dates", ranks, lines, percent=False),
        _groups(folder / "groups.png", studies, lines),
    ]


def _curves(
    path: Path,
    title: str,
    curves: Mapping[str, pd.Series],
    lines: Lines,
    plain: Mapping[str, pd.Series] | None = None,
    *,
    percent: bool = True,
) -> Path:
    def draw(axes: Any) -> None:
        for name, series in curves.items():
            style = lines[name]
            axes.plot(
                series.index,
                series.to_numpy(),
                color=style["color"],
                linestyle=_DASHES[style["dash"]],
                linewidth=style["width"] * 0.8,
                label=name,
            )
        for name, series in (plain or {}).items():
            axes.plot(series.index, series.to_numpy(), color=INK, linewidth=1.6, label=name)

    return _save(path, title, draw, percent)


def _groups(path: Path, studies: Mapping[str, Study], lines: Lines) -> Path:
    def draw(axes: Any) -> None:
        width = 0.8 / len(studies)
        for place, (name, one) in enumerate(studies.items()):
            spots = [number + 1 + (place - (len(studies) - 1) / 2) * width for number in range(len(one.groups))]
            style = lines[name]
            alpha = OPACITY[style["dash"]]
            axes.bar(spots, one.groups.to_numpy(), width, color=style["color"], alpha=alpha, label=name)
        axes.set_xticks(range(1, len(next(iter(studies.values())).groups) + 1))
        axes.set_xlabel("group by signal, lowest to highest")

    horizon = next(iter(studies.values())).horizon
    return _save(path, f"Mean return over {horizon} sessions by group", draw, True)


def _save(path: Path, title: str, draw: Callable[[Any], None], percent: bool) -> Path:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError:
        raise MissingExtraError("matplotlib", "qlib", "A PNG chart") from None
    figure = Figure(figsize=(10, 5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_title(title, color=INK, loc="left")
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png")
    return path
