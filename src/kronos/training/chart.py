"""The losses of a run as a picture: training and validation by step, one panel a stage.

Circled is the validation whose weights the stage wrote last. Where they were chosen by their forecasts it need not have
the lowest loss.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronos.training.config import STAGE_NAMES
from kronos.training.log import LOG_FILE, read_log

if TYPE_CHECKING:
    import plotly.graph_objects as go

Curve = tuple[list[int], list[float]]
_TITLES = {"tokenizer": "Tokenizer (may be negative)", "model": "Model (nats)"}
_LINES = {"training": "#7d8896", "validation": "#e4572e"}
_CIRCLE = "#2563eb"


def loss_curves(out: Path) -> dict[str, dict[str, Curve]]:
    """``{stage: {"training" | "validation" | "chosen": (steps, losses)}}`` of the stages that have a log."""
    found: dict[str, dict[str, Curve]] = {}
    for stage in STAGE_NAMES:
        if (out / stage / LOG_FILE).is_file():
            records = list(read_log(out / stage))
            found[stage] = {
                "training": _curve([r for r in records if "loss" in r], "loss"),
                "validation": _curve([r for r in records if "val_loss" in r], "val_loss"),
                "chosen": _curve([r for r in records if r.get("kept")][-1:], "val_loss"),
            }
    return found


def _curve(records: list[dict[str, Any]], key: str) -> Curve:
    return [int(r["step"]) for r in records], [float(r[key]) for r in records]


def save_loss_chart(out: Path) -> list[Path]:
    """Writes ``losses.html``, and ``losses.png`` where matplotlib is installed; returns what was written."""
    curves = loss_curves(out)
    if not curves:
        return []
    page, picture = out / "losses.html", out / "losses.png"
    figure(curves).write_html(page, include_plotlyjs=True, config={"displaylogo": False})
    if find_spec("matplotlib") is None:
        return [page]
    _png(curves, picture)
    return [page, picture]


def figure(curves: dict[str, dict[str, Curve]]) -> go.Figure:
    """The interactive chart."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    chart = make_subplots(rows=1, cols=len(curves), subplot_titles=[_TITLES[stage] for stage in curves])
    ring = {"symbol": "circle-open", "size": 13, "color": _CIRCLE, "line": {"width": 2}}
    styles: dict[str, dict[str, Any]] = {n: {"mode": "lines+markers", "line": {"color": c}} for n, c in _LINES.items()}
    for column, stage in enumerate(curves, 1):
        for name, style in {**styles, "chosen": {"mode": "markers", "marker": ring}}.items():
            steps, losses = curves[stage][name]
            chart.add_trace(go.Scatter(x=steps, y=losses, name=name, showlegend=column == 1, **style), 1, column)
    chart.update_xaxes(title="step")
    chart.update_yaxes(title="loss", col=1)
    title = "Losses; circled: the weights that validation chose"
    chart.update_layout(template="plotly_white", font={"color": "#334155"}, title=title)
    return chart


def _png(curves: dict[str, dict[str, Curve]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing: Any = Figure(figsize=(5.5 * len(curves), 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(1, len(curves), squeeze=False)[0]
    for axes, stage in zip(panels, curves, strict=True):
        for name, colour in _LINES.items():
            axes.plot(*curves[stage][name], color=colour, label=name, marker=".")
        axes.plot(*curves[stage]["chosen"], "o", markersize=11, fillstyle="none", color=_CIRCLE, label="chosen")
        axes.set(title=_TITLES[stage], xlabel="step", ylabel="loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    drawing.savefig(path, dpi=130)
