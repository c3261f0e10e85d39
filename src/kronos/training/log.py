"""A run's record: JSON lines in its folder, the trackers that the settings name, whoever watches, and a picture.

TensorBoard, MLflow, Weights & Biases and Comet are accelerate's; none is imported unless it is named. The picture
shows the losses by step, and circles the validation whose weights the stage wrote last.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from kronos.errors import CapacityError, ConfigError, MissingExtraError
from kronos.files import write_text
from kronos.training.config import STAGE_NAMES, RunConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

LOG_FILE = "log.jsonl"
Report = Callable[[dict[str, Any]], None]
Curve = tuple[list[int], list[float]]
_TITLES = {"tokenizer": "Tokenizer (may be negative)", "model": "Model (nats)"}
_LINES = {"training": "#7d8896", "validation": "#e4572e"}
_CIRCLE = "#2563eb"
_MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "comet": "comet_ml"}


class Log:
    """Appends records to ``log.jsonl`` and hands them on; a context manager. Silent where another process reports.

    Args:
        folder: the stage's, whose name is the stage.
        start: the step that the run goes on from; records after it are dropped, since those steps are made again.
        progress: called with each record.
        reports: whether this process is the one that writes.

    Raises:
        MissingExtraError: a tracker that the settings name is not installed.
        ConfigError: a tracker refuses to start.
    """

    def __init__(self, folder: Path, config: RunConfig, start: int, progress: Report | None, reports: bool) -> None:
        self.path, self.progress, self.reports = folder / LOG_FILE, progress, reports
        self.trackers: list[Any] = []
        if not reports:
            return
        self.trackers = [_start(name, config, folder.name, start) for name in chosen_trackers(config)]
        kept = [r for r in read_log(folder) if r["step"] <= start] if start and self.path.exists() else []
        write_text(self.path, "".join(json.dumps(r) + "\n" for r in kept))
        write_text(folder / "run.json", config.model_dump_json(indent=2) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self.trackers:
            tracker.finish()

    def __call__(self, record: dict[str, Any]) -> None:
        """Trackers file ``val_loss`` as ``validation/loss``, ``loss`` as ``training/loss``."""
        if not self.reports:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CapacityError(f"{self.path} cannot be written ({error.strerror}); make room and resume") from error
        values = {
            f"validation/{key.removeprefix('val_')}" if key.startswith("val_") else f"training/{key}": float(value)
            for key, value in record.items()
            if key != "step"
        }
        for tracker in self.trackers:
            tracker.log(values, step=int(record["step"]))
        if self.progress is not None:
            self.progress(record)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, in order; a line that a kill cut short is left out."""
    with (folder / LOG_FILE).open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def chosen_trackers(config: RunConfig) -> tuple[str, ...]:
    """The trackers that the settings name; where they say nothing, TensorBoard if it is installed."""
    unsaid = ("tensorboard",) if find_spec("tensorboard") else ()
    return unsaid if config.tracking is None else config.tracking


def _start(name: str, config: RunConfig, stage: str, start: int) -> Any:
    """A tracker, started; each stage is a run of its own, and what TensorBoard was told beyond ``start`` is hidden."""
    if find_spec(_MODULES[name]) is None:
        raise MissingExtraError(_MODULES[name], "train" if name == "tensorboard" else "tracking", f"Tracking by {name}")
    from accelerate import tracking

    folder, run = config.out / "tracking", f"{config.out.name}-{stage}"
    make: dict[str, Callable[[], Any]] = {
        "tensorboard": lambda: tracking.TensorBoardTracker(stage, folder, purge_step=start + 1 if start else None),
        "mlflow": lambda: tracking.MLflowTracker("kronos", run_name=run),
        "wandb": lambda: tracking.WandBTracker("kronos", name=run, dir=str(folder)),
        "comet": lambda: tracking.CometMLTracker(
            config.comet.project, **({"workspace": config.comet.workspace} if config.comet.workspace else {})
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tracker = make[name]()
        tracker.start()
        if name == "comet" and config.comet.name:
            tracker.writer.set_name(config.comet.name)
        if name == "comet" and config.comet.tag:
            tracker.writer.add_tag(config.comet.tag)
        if name != "tensorboard":  # which would make a run of its own of them
            flat = pd.json_normalize(config.model_dump(mode="json")).to_dict("records")[0]  # "optim.lr", …
            plain = {key: value if isinstance(value, int | float) else str(value) for key, value in flat.items()}
            tracker.store_init_configuration(plain)
    except Exception as error:  # each tracker has errors of its own: no key, no server, no project
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"tracking by {name} does not start: {reason}") from error
    return tracker


def loss_curves(out: Path) -> dict[str, dict[str, Curve]]:
    """``{stage: {"training" | "validation" | "chosen": (steps, losses)}}`` of the stages that have a log."""
    found: dict[str, dict[str, Curve]] = {}
    for stage in STAGE_NAMES:
        if (out / stage / LOG_FILE).is_file():
            records = list(read_log(out / stage))
            validated = [r for r in records if "val_loss" in r]
            parts = {
                "training": ("loss", [r for r in records if "loss" in r]),
                "validation": ("val_loss", validated),
                "chosen": ("val_loss", [r for r in validated if r.get("kept")][-1:]),
            }
            found[stage] = {n: ([r["step"] for r in some], [r[key] for r in some]) for n, (key, some) in parts.items()}
    return found


def save_loss_chart(out: Path) -> list[Path]:
    """Writes ``losses.html``, and ``losses.png`` where matplotlib is installed; returns what was written."""
    curves = loss_curves(out)
    if not curves:
        return []
    page, picture = out / "losses.html", out / "losses.png"
    figure(curves).write_html(page, include_plotlyjs=True, config={"displaylogo": False})
    if find_spec("matplotlib") is None:
        return [page]
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
    drawing.savefig(picture, dpi=130)
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
