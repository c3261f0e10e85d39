"""Trackers: none is imported unasked, and what TensorBoard and MLflow hold are the losses of the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import train_tokenizer

from kronos.errors import ConfigError, MissingExtraError
from kronos.training.log import chosen_trackers, read_log

SILENT = """
import sys
from kronos.training.config import RunConfig
from kronos.training.run import train
train("tokenizer", RunConfig.from_yaml(sys.argv[1]))
print(sorted({name.split(".")[0] for name in sys.modules} & {"tensorboard", "mlflow", "wandb", "comet_ml", "peft"}))
"""

MLFLOW = """
import json, sys
from mlflow import MlflowClient
from kronos.training.config import RunConfig
from kronos.training.run import train
for stage in ("tokenizer", "model"):
    train(stage, RunConfig.from_yaml(sys.argv[1]))
client, found = MlflowClient(), {}
for run in client.search_runs([client.get_experiment_by_name("kronos").experiment_id]):
    history = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    told = {tag: {value.step: value.value for value in values} for tag, values in history.items()}
    found[run.info.run_name] = [run.info.status, run.data.params, told]
print(json.dumps(found))
"""


def test_a_run_without_trackers_imports_none(make_config, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(make_config(optim={"steps": 1}).model_dump_json())
    done = subprocess.run([sys.executable, "-c", SILENT, str(path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
    assert not (tmp_path / "run" / "tracking").exists()


def test_tensorboard_holds_the_losses(make_config) -> None:
    pytest.importorskip("tensorboard")
    config = make_config(tracking="tensorboard", validate_every=2)
    assert config.tracking == ("tensorboard",)
    folder = train_tokenizer(config).folder
    records = list(read_log(folder))
    for tag, key in (("training/loss", "loss"), ("training/lr", "lr"), ("validation/loss", "val_loss")):
        assert told(config.out / "tracking" / "tokenizer", tag) == pytest.approx(
            {record["step"]: record[key] for record in records if key in record}, rel=1e-6
        )


@pytest.mark.slow
def test_mlflow_holds_the_losses(make_config, tmp_path: Path) -> None:
    """In MLflow's own database of the working folder, where the environment names no other place.

    In a process of its own: MLflow, once imported, stays.
    """
    config = make_config(tracking=["mlflow"], validate_every=2)
    path = tmp_path / "run.yaml"
    path.write_text(config.model_dump_json())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", MLFLOW, str(path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlflow.db").is_file()
    runs = json.loads(done.stdout.splitlines()[-1])
    assert sorted(runs) == [f"{config.out.name}-model", f"{config.out.name}-tokenizer"]
    for stage in ("tokenizer", "model"):
        status, params, known = runs[f"{config.out.name}-{stage}"]
        assert (status, params["optim.lr"], params["tracking"]) == ("FINISHED", "0.003", "['mlflow']")
        records = list(read_log(config.out / stage))
        for tag, key in (("training/loss", "loss"), ("training/lr", "lr"), ("validation/loss", "val_loss")):
            expected = {record["step"]: record[key] for record in records if key in record}
            assert {int(step): value for step, value in known[tag].items()} == pytest.approx(expected)


def test_tensorboard_forgets_a_lost_past(make_config) -> None:
    """Steps that were told but not saved are told again after a resume, once in the picture."""
    pytest.importorskip("tensorboard")
    config = make_config(tracking=["tensorboard"], save_every=2, validate_every=100)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(config, progress=stop)
    train_tokenizer(config, resume=True)
    assert sorted(told(config.out / "tracking" / "tokenizer", "training/loss")) == [1, 2, 3, 4, 5, 6]


def told(folder: Path, tag: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    found = events.Scalars(tag)
    assert len({event.step for event in found}) == len(found)
    return {event.step: event.value for event in found}


def test_the_default_is_tensorboard_where_it_is_installed(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config().model_copy(update={"tracking": None})
    monkeypatch.setattr("kronos.training.log.find_spec", lambda name: None)
    assert chosen_trackers(config) == ()
    monkeypatch.setattr("kronos.training.log.find_spec", lambda name: name)
    assert chosen_trackers(config) == ("tensorboard",)
    assert chosen_trackers(make_config()) == ()


def test_a_tracker_that_is_not_there_is_named(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="tracking"):
        make_config(tracking=["paper"])
    monkeypatch.setattr("kronos.training.log.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"comet_ml.*pip install 'comet-ml"):
        train_tokenizer(make_config(tracking=["comet"]))
