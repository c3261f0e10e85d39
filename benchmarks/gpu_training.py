"""The next kronos-nano, trained on a GPU; a stage of :mod:`benchmarks.gpu`, and the bars that it needs."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarks.gpu_speed import device
from benchmarks.training import recipe_config

from kronos.bars.arrays import write_arrays
from kronos.files import write_json
from kronos.training.config import RunConfig
from kronos.training.run import build_optimizer, train
from kronos.training.stages import ModelStage
from kronos.training.state import STATE_FILE, load_state, save_state

PART_BYTES = 60 << 20


class OutOfTime(Exception):
    """The time of this call is over; what was saved last is gone on from."""


def train_next(args: argparse.Namespace) -> None:
    """The network of the next kronos-nano, on the packaged tokenizer."""
    end = time.monotonic() + args.limit - 25  # loading, saving and copying come on top
    work, kept = args.state / "train", args.output / "train"
    config = next_config(args, work)
    recast(config, args.state / "resume" / "model", work / "model", "float32")
    records: list[dict[str, Any]] = []

    def heard(record: dict[str, Any]) -> None:
        records.append(record)
        print(record, flush=True)
        write_json(args.output / "train.json", {"steps": config.optim.steps, "records": records})
        if time.monotonic() > end:
            raise OutOfTime

    try:
        train("model", config, resume=True, progress=heard)
    except OutOfTime:
        print("out of time", flush=True)
    recast(config, work / "model", kept / "model", "bfloat16")
    shutil.copy(work / "plan.json", kept / "plan.json")


def next_config(args: argparse.Namespace, work: Path) -> RunConfig:
    """The run's settings; how many steps it has is decided by the first call, from the rate that was measured."""
    plan = work / "plan.json"
    batch, window = (2, 65) if args.tiny else (64, 513)
    carried = args.state / "resume" / "plan.json"
    if carried.exists() and not plan.exists():
        work.mkdir(parents=True, exist_ok=True)
        shutil.copy(carried, plan)
    if not plan.exists():
        steps = 3 if args.tiny else max(200, int(args.limit * measured_rate(args.output) / (batch * window)))
        work.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps({"steps": steps}), encoding="utf-8")
    steps = json.loads(plan.read_text(encoding="utf-8"))["steps"]
    base = recipe_config("nano", args.state / "toy" if args.tiny else None, device(args.tiny))
    data: dict[str, Any] = {"window": window, "boundary": (16, 48) if args.tiny else (32, 480), "coin_flips": 0.5}
    if not args.tiny:
        data |= {"arrays": arrays_of(args.state), "bars": (), "hold_out": "symbols"}
    optim = base.optim.model_copy(update={"batch_size": batch, "warmup": 0.03, "initial_lr": 0.0, "final_lr": 0.01})
    changes: dict[str, Any] = {
        "out": work,
        "data": base.data.model_copy(update=data),
        "optim": optim.model_copy(update={"steps": steps, "lr": 1.5e-3, "weight_decay": 0.1}),
        "stages": type(base.stages)(),
        "tokenizer": "kronos-nano",
        "compile": False,
        "tracking": (),
        "forecasts": type(base.forecasts)(),
        "save_every": 2 if args.tiny else 200,
        "validate_every": 3 if args.tiny else 1000,
        "validation_batches": 1 if args.tiny else 16,
        "workers": 1 if args.tiny else 8,
    }
    return base.model_copy(update=changes)


def measured_rate(output: Path) -> float:
    """Bars a second that training is planned with: seven tenths of what stage ``rates`` found, or a guess."""
    file = output / "rates.json"
    found = json.loads(file.read_text(encoding="utf-8"))["rates"] if file.exists() else []
    plain = [row.get("bars_per_second", 0) for row in found if row["size"] == "nano" and not row["compile"]]
    return 0.7 * max([*plain, 0]) or 500_000.0


def recast(config: RunConfig, source: Path, target: Path, dtype: str) -> None:
    """A saved run with AdamW's averages in another precision: in bfloat16 it is two thirds as large."""
    if not (source / STATE_FILE).exists() or ((target / STATE_FILE).exists() and dtype == "float32"):
        return
    module = ModelStage(config).module
    optimizer = build_optimizer(module, config.optim_of("model"), torch.device("cpu"))
    found = load_state(source, module, optimizer)
    assert found is not None
    for slots in optimizer.state.values():
        for name, value in slots.items():
            slots[name] = value.to(getattr(torch, dtype)) if value.ndim else value
    target.mkdir(parents=True, exist_ok=True)
    save_state(target, found[0], module, optimizer, found[1])


# -- bars -----------------------------------------------------------------------------------------------------------


def pack(folders: list[Path], output: Path) -> list[Path]:
    """All bars of Parquet files with a ``symbol`` column into parts of at most ``PART_BYTES``, whole series each."""
    output.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    held: list[Any] = []
    size = 0.0

    def flush() -> None:
        nonlocal size
        path = output / f"part-{len(parts):02d}.parquet"
        pd.concat(held).to_parquet(path, compression="zstd", compression_level=12, index=False)
        if path.stat().st_size > PART_BYTES:
            raise SystemExit(f"{path} has {path.stat().st_size >> 20} MiB, more than {PART_BYTES >> 20}")
        parts.append(path)
        held.clear()
        size = 0.0

    for file in sorted(file for folder in folders for file in folder.glob("*.parquet")):
        table = pd.read_parquet(file)
        each = file.stat().st_size / max(1, len(table))  # bytes a bar, as it is packed already
        prices = table.columns.difference(["symbol", "timestamp"])
        table[prices] = table[prices].astype("float32")
        table.insert(0, "group", file.stem)
        for _, series in table.groupby("symbol", sort=True, observed=True):
            if held and size + each * len(series) > 0.65 * PART_BYTES:
                flush()
            held.append(series)
            size += each * len(series)
    if held:
        flush()
    return parts


def load(parts: list[Path], state: Path) -> None:
    """Puts parts that have arrived where training looks for them."""
    (state / "bars").mkdir(parents=True, exist_ok=True)
    for part in parts:
        shutil.copy(part, state / "bars" / part.name)


def arrays_of(state: Path) -> Path:
    """The arrays of all parts that were loaded, made anew when there are other parts than last time."""
    files = sorted((state / "bars").glob("*.parquet"))
    if not files:
        raise SystemExit(f"no bars in {state / 'bars'}; load some: python -m benchmarks.gpu load PART …")
    record, known = state / "arrays" / "parts.json", [[file.name, file.stat().st_size] for file in files]
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) == known:
        return state / "arrays"

    def tables() -> Iterator[tuple[str, str, Any]]:
        for file in files:
            for (group, symbol), table in pd.read_parquet(file).groupby(["group", "symbol"], sort=True, observed=True):
                yield str(group), str(symbol), table

    write_arrays(tables(), state / "arrays")
    record.write_text(json.dumps(known), encoding="utf-8")
    return state / "arrays"
