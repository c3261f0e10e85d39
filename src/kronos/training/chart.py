"""The losses of a run as a picture: training and validation by step, one panel a stage.

Circled is the validation whose weights the stage wrote last. Where they were chosen by their forecasts it need not have
the lowest loss.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronos.training.log import read_log
from kronos.training.stages import STAGES

if TYPE_CHECKING:
    import plotly.graph_objects as go

Curve = tuple[list[int], list[float]]
_CIRCLED = "chosen"
_INK, _BLUE, _RED = "#7d8896", "#2563eb", "#e4572e"


def loss_curves(out: Path) -> dict[str, dict[str, Curve]]:
    """``{stage: {"training" | "validation" | "chosen": (steps, losses)}}`` of the stages that have a log."""
    found: dict[str, dict[str, Curve]] = {}
    for stage in STAGES:
        if not (out / stage / "log.jsonl").is_file():
            continue
        records = list(read_log(out / stage))
        curves = {}
        for name, key in (("training", "loss"), ("validation", "val_loss")):
            kept = [record for record in records if key in record]
            curves[name] = ([int(r["step"]) for r in kept], [float(r[key]) for r in kept])
        chosen = [record for record in records if record.get("kept")][-1:]
        curves["chosen"] = ([int(r["step"]) for r in chosen], [float(r["val_loss"]) for r in chosen])
        found[stage] = curves
    return found


def save_loss_chart(out: Path) -> list[Path]:
    """Writes ``losses.html``, and ``losses.png`` where matplotlib is installed; returns what was written."""
    curves = loss_curves(out)
    if not curves:
        return []
    page = out / "losses.html"
    figure(curves).write_html(page, include_plotlyjs=True, config={"displaylogo": False})
    if find_spec("matplotlib") is None:
        return [page]
    picture = out / "losses.png"
    _png(curves, picture)
    return [page, picture]


def figure(curves: dict[str, dict[str, Curve]]) -> go.Figure:
    """The interactive chart."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    chart = make_subplots(rows=1, cols=len(curves), subplot_titles=[_title(stage) for stage in curves])
    for column, stage in enumerate(curves, 1):
        for name, colour in (("training", _INK), ("validation", _RED)):
            steps, losses = curves[stage][name]
            line = go.Scatter(
                x=steps, y=losses, name=name, mode="lines+markers", line={"color": colour}, showlegend=column == 1
            )
            chart.add_trace(line, row=1, col=column)
        steps, losses = curves[stage]["chosen"]
        mark = {"symbol": "circle-open", "size": 13, "color": _BLUE, "line": {"width": 2}}
        circle = go.Scatter(x=steps, y=losses, name=_CIRCLED, mode="markers", marker=mark, showlegend=column == 1)
        chart.add_trace(circle, row=1, col=column)
    chart.update_xaxes(title="step")
    chart.update_yaxes(title="loss", col=1)
    chart.update_layout(
        template="plotly_white", font={"color": "#334155"}, title="Losses; circled: the weights that validation chose"
    )
    return chart


def _png(curves: dict[str, dict[str, Curve]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing: Any = Figure(figsize=(5.5 * len(curves), 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(1, len(curves), squeeze=False)[0]
    for axes, stage in zip(panels, curves, strict=True):
        for name, colour in (("training", _INK), ("validation", _RED)):
            axes.plot(*curves[stage][name], color=colour, label=name, marker=".")
        axes.plot(*curves[stage]["chosen"], "o", markersize=11, fillstyle="none", color=_BLUE, label=_CIRCLED)
        axes.set(title=_title(stage), xlabel="step", ylabel="loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    drawing.savefig(path, dpi=130)


def _title(stage: str) -> str:
    return "Tokenizer (may be negative)" if stage == "tokenizer" else "Model (nats)"
