"""Where a run's figures go besides its own log: TensorBoard, MLflow, Weights & Biases, Comet.

None of them is imported before it is asked for. Their connections are accelerate's.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kronos.errors import ConfigError, MissingExtraError
from kronos.training.config import RunConfig

FOLDER = "tracking"
PROJECT = "kronos"
_MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "comet": "comet_ml"}


def chosen_trackers(config: RunConfig) -> tuple[str, ...]:
    """The trackers that the settings name; where they name none or any, TensorBoard if it is installed."""
    if config.tracking is None:
        return ("tensorboard",) if find_spec("tensorboard") else ()
    return config.tracking


class Trackers:
    """Hands records on to the trackers of a run.

    Args:
        stage: "tokenizer" or "model"; each stage is a run of its own.
        start: the step that a resumed run goes on from; what TensorBoard was told beyond it is hidden.

    Raises:
        MissingExtraError: a tracker that is asked for is not installed.
        ConfigError: a tracker refuses to start.
    """

    def __init__(self, config: RunConfig, stage: str, start: int) -> None:
        self._open: list[Any] = []
        for name in chosen_trackers(config):
            module = _MODULES[name]
            if find_spec(module) is None:
                raise MissingExtraError(module, "train" if name == "tensorboard" else "tracking", f"Tracking by {name}")
            try:
                self._open.append(_start(name, config, stage, start))
            except Exception as error:  # each tracker has errors of its own: no key, no server, no project
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(f"tracking by {name} does not start: {reason}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Numbers of one step; ``val_loss`` is filed as ``validation/loss``, ``loss`` as ``training/loss``."""
        values = {
            f"validation/{key.removeprefix('val_')}" if key.startswith("val_") else f"training/{key}": float(value)
            for key, value in record.items()
            if key != "step"
        }
        for tracker in self._open:
            tracker.log(values, step=int(record["step"]))

    def close(self) -> None:
        for tracker in self._open:
            tracker.finish()


def _start(name: str, config: RunConfig, stage: str, start: int) -> Any:
    from accelerate import tracking

    folder, run = Path(config.out) / FOLDER, f"{config.out.name}-{stage}"
    if name == "tensorboard":
        tracker: Any = tracking.TensorBoardTracker(stage, folder, purge_step=start + 1 if start else None)
    elif name == "mlflow":
        tracker = tracking.MLflowTracker(PROJECT, run_name=run)
    elif name == "wandb":
        folder.mkdir(parents=True, exist_ok=True)
        tracker = tracking.WandBTracker(PROJECT, name=run, dir=str(folder))
    else:
        tracker = tracking.CometMLTracker(PROJECT)
    tracker.start()
    if name != "tensorboard":  # which would make a run of its own of them
        tracker.store_init_configuration(_flat(config.model_dump(mode="json")))
    return tracker


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value if isinstance(value, int | float | bool) else str(value)
    return flat
