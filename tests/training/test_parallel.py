"""Two processes are one: the same windows, the same gradients, shards that come together again, and restarts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import train_model, train_tokenizer

from kronos.bars.windows import WindowPlan, WindowSampler
from kronos.errors import ConfigError
from kronos.model import Kronos, KronosTokenizer
from kronos.model.layers import TransformerBlock
from kronos.training.config import RunConfig
from kronos.training.data import open_arrays
from kronos.training.log import read_log
from kronos.training.run import train
from kronos.training.stages import ModelStage
from kronos.training.state import STATE_FILE

HERE = Path(__file__).parent
ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def together(runs: list[tuple[str, bool, RunConfig]], folder: Path, ranks: int = 2) -> None:
    """Runs stages on several processes that talk over gloo."""
    plan = folder / "runs.json"
    plan.write_text(json.dumps([(stage, resume, config.model_dump(mode="json")) for stage, resume, config in runs]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, **ONE_CORE, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    shared["LOCAL_WORLD_SIZE"] = str(ranks)
    workers = [
        subprocess.Popen(
            [sys.executable, str(HERE / "two_ranks.py"), str(plan)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * ranks, errors


@pytest.mark.parametrize("flips", [0.0, 0.5])
def test_the_ranks_windows_are_those_of_one(make_config, flips: float) -> None:
    arrays = open_arrays(make_config())
    plan = WindowPlan(40, (8, 16), volume_dropout=0.3, aggregate=0.4, coin_flips=flips)
    whole = WindowSampler(arrays, plan, 6, seed=3)
    parts = [WindowSampler(arrays, plan, 2, seed=3, rank=rank, ranks=3) for rank in range(3)]
    for step in (0, 7):
        for name, value in vars(whole(step)).items():
            np.testing.assert_array_equal(value, np.concatenate([getattr(part(step), name) for part in parts]))


# --- two processes -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(arrays_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    """One step of each stage: by one process with eight windows, and by two with four, copied (ddp) and sharded (fsdp).

    The clip is out of the way, so that AdamW's first moment is a tenth of the gradient.
    """
    from tiny_runs import TOKENIZER, tiny_settings

    folder = tmp_path_factory.mktemp("ranks")

    def config(name: str, batch_size: int, **more: Any) -> RunConfig:
        values = tiny_settings(folder / name, arrays_folder)
        values["optim"] |= {"steps": 1, "batch_size": batch_size, "clip_norm": 1e9, "accumulation": 2}
        values["data"] |= {"volume_dropout": 0.3, "aggregate": 0.3}
        values["tokenizer"] = {**TOKENIZER, "code_entropy": 0.05}
        device = "cpu" if torch.accelerator.is_available() else "auto"  # which must find the other process too
        return RunConfig.from_dict({**values, "save_every": 1, "device": device, **more})

    one = config("one", 8)
    train_tokenizer(one)
    shared = {"tokenizer": str(one.out / "tokenizer")}
    train_model(config("one", 8, **shared))
    two = {name: config(name, 4, parallel=name) for name in ("ddp", "fsdp")}
    models = {name: config(name, 4, parallel=name, **shared) for name in two}
    asked = [(stage, False, which[name]) for name in two for stage, which in (("tokenizer", two), ("model", models))]
    together(asked, folder)
    return {"one": one, "ddp": models["ddp"], "fsdp": models["fsdp"]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["tokenizer", "model"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_the_gradients_of_one(runs: dict[str, RunConfig], parallel: str, stage: str) -> None:
    ours, theirs = (load_file(runs[name].out / stage / STATE_FILE) for name in (parallel, "one"))
    assert ours.keys() == theirs.keys()
    moments = [key for key in ours if key.endswith("/exp_avg")]
    assert moments
    largest = max(float((10 * (ours[key] - theirs[key])).abs().max()) for key in moments)
    assert largest <= 1e-6
    assert max(float(theirs[key].abs().max()) for key in moments) > 1e-3  # there is something to compare
    ours, theirs = (next(read_log(runs[name].out / stage)) for name in (parallel, "one"))
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_first_process_alone_writes(runs: dict[str, RunConfig], parallel: str) -> None:
    records = list(read_log(runs[parallel].out / "model"))
    assert [record["step"] for record in records] == [1, 1]  # one step, one validation, told once
    one = list(read_log(runs["one"].out / "model"))
    assert records[1]["val_loss"] == pytest.approx(one[1]["val_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_sharded_run_is_gone_on_with_by_one_process(runs: dict[str, RunConfig], tmp_path: Path) -> None:
    """State and checkpoint are whole files in the published layout; one process takes the batch of two."""
    sharded, one = runs["fsdp"], runs["one"]
    assert isinstance(Kronos.from_pretrained(sharded.out), Kronos)
    assert isinstance(KronosTokenizer.from_pretrained(sharded.out), KronosTokenizer)
    keys = [load_file(run.out / "model" / "model.safetensors").keys() for run in (sharded, one)]
    assert keys[0] == keys[1]
    optim = sharded.optim.model_copy(update={"steps": 2, "batch_size": 8})
    alone = sharded.model_copy(update={"optim": optim, "parallel": "ddp"})
    assert train_model(alone, resume=True).steps == 2
    whole = one.model_copy(update={"optim": optim, "tokenizer": str(one.out / "tokenizer")})
    train_model(whole, resume=True)
    ours, theirs = (load_file(run.out / "model" / STATE_FILE) for run in (alone, whole))
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-5) for key in theirs)


@pytest.mark.slow
def test_a_killed_worker_is_started_again(make_config, tmp_path: Path) -> None:
    """torchrun starts both again, without being asked to resume; they go on from the last state to the end."""
    settings = {"optim": {"steps": 40}, "save_every": 2, "validate_every": 1000, "out": tmp_path / "run"}
    config = make_config(**settings)
    path = tmp_path / "run.yaml"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "2", "--monitor-interval", "0.1", "-m", "kronos.cli", "train", "tokenizer"]
    group = subprocess.Popen(
        [*command, "--config", str(path)],
        # without it, workers that start again may look for the addresses of those that died
        env={**os.environ, **ONE_CORE, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    log, deadline, killed = config.out / "tokenizer" / "log.jsonl", time.monotonic() + 200, 0
    while not killed and group.poll() is None and time.monotonic() < deadline:
        if log.exists() and any(record["step"] >= 10 for record in read_log(log.parent)):
            killed = max(children(group.pid))  # a worker, the other one or the first
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.01)
    errors = group.communicate(timeout=200)[1]
    assert killed
    assert group.returncode == 0, errors[-2000:]
    steps = [record["step"] for record in read_log(log.parent) if "loss" in record]
    assert steps == list(range(2, 41, 2))  # nothing lost, nothing twice
    assert errors.count("windows a step") == 2  # told by the first process, once for each start


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


# --- one process ---------------------------------------------------------------------------------------------------


def test_recomputed_activations_give_the_same_gradients(make_config) -> None:
    train_tokenizer(make_config())
    config = make_config(model={"n_layers": 2, "ffn_dropout_p": 0.3}, data={"volume_dropout": 0.0})
    stages = [ModelStage(config) for _ in range(2)]
    for block in stages[1].module.modules():
        if isinstance(block, TransformerBlock):
            block.recompute = True
    from kronos.training.data import samplers

    windows = samplers(config, open_arrays(config), 4)[0](0)
    for stage in stages:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            stage.loss(stage.batch(windows), 0)[0].backward()
    kept, recomputed = (dict(stage.module.named_parameters()) for stage in stages)
    assert kept.keys() == recomputed.keys()
    assert all(torch.equal(kept[name].grad, recomputed[name].grad) for name in kept)


def test_recomputed_activations_leave_the_checkpoint_alone(make_config, tmp_path: Path) -> None:
    results = [
        train_tokenizer(make_config(out=tmp_path / str(asked), checkpoint_activations=asked)) for asked in (False, True)
    ]
    one, other = (load_file(result.folder / "model.safetensors") for result in results)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "gpu"}, "write auto, cpu"),
        ({"device": "meta"}, "no such device"),
        ({"dtype": "float16"}, "needs a GPU"),
        ({"parallel": "fsdp", "compile": True}, "do not go together"),
    ],
)
def test_what_the_engine_cannot_do_is_told(make_config, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train("tokenizer", make_config(**settings))


def test_runs_of_different_precision_in_one_program(make_config, tmp_path: Path) -> None:
    for run, dtype in enumerate(("bfloat16", "float32", "bfloat16")):
        train_tokenizer(make_config(out=tmp_path / str(run), dtype=dtype, optim={"steps": 1}))
