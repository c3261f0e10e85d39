"""Everything that only a GPU can tell, for one that is at hand for a few minutes: tests, speed, training.

    python -m benchmarks.gpu pack --data BARS … --output .packed      # before: bars into parts of at most 60 MiB
    python -m benchmarks.gpu load .packed/part-00.parquet …           # there: parts that have arrived, in any order
    python -m benchmarks.gpu [--minutes 12] [--output FOLDER] [--stages decode train]
    python -m benchmarks.gpu --tiny                                   # all of it on a CPU, at toy sizes

Each stage runs in a process of its own with a limit of time, and leaves NAME.log and NAME.json in the output folder
(``$OUT`` where it is set), written again whenever a figure is new; one that fails leaves its traceback in the log, and
the next one runs. ``summary.json`` says how each ended.

- tests: those marked ``gpu``.
- decode: milliseconds a forecast (context 400, horizon 120), peak memory, shares of the device's bandwidth and of its
  arithmetic, by engine (CUDA graphs, with TF32 for contexts, in bfloat16), engine without graphs, torch.compile, and
  the loop that recomputes everything as the published code does.
- rates: bars a second in training of five sizes, with and without torch.compile.
- train: the next kronos-nano on the bars that were loaded, for the time that is left. It goes on where the last call
  stopped; for that on another machine put the output's ``train`` folder, below 60 MB, there as ``.gpu/resume``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STAGES = ("tests", "decode", "rates", "train")
LIMITS = {"tests": 100, "decode": 270, "rates": 150}  # seconds; training takes what is left
LEAST_TRAINING = 45  # seconds, below which it is not begun
PART_BYTES = 60 << 20
# Bytes a second; operations a second in float32, TensorFloat-32 and bfloat16, dense, by the makers' data sheets.
DEVICES = {
    "H100": (3.35e12, 67e12, 495e12, 989e12),
    "H200": (4.8e12, 67e12, 495e12, 989e12),
    "A100": (2.04e12, 19.5e12, 156e12, 312e12),
}
WAYS = ("graphs", "oracle", "plain", "bfloat16", "tf32", "compile")
ORACLE_ROWS = 256  # paths that the oracle is timed on at most; more are reckoned from these


# -- the stages, one after the other --------------------------------------------------------------------------------


def run_all(args: argparse.Namespace) -> dict[str, Any]:
    """Every stage in its own process; how each ended."""
    end = time.monotonic() + 60 * args.minutes
    summary: dict[str, Any] = {"minutes": args.minutes, "tiny": args.tiny, "stages": {}}
    for name in args.stages:
        left = end - time.monotonic() - 10
        limit = left if name == "train" else min(left, LIMITS[name])
        if limit < (LEAST_TRAINING if name == "train" and not args.tiny else 5):
            summary["stages"][name] = {"state": "no time left"}
        else:
            summary["stages"][name] = run_stage(name, args, limit)
        write(args.output, "summary", summary)
        print(f"{name}: {summary['stages'][name]}", flush=True)
    return summary


def run_stage(name: str, args: argparse.Namespace, limit: float) -> dict[str, Any]:
    """One stage as a process; its output goes to NAME.log."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--stage", name, "--limit", f"{limit:.0f}"]
    command += ["--output", str(args.output), "--state", str(args.state), *(["--tiny"] if args.tiny else [])]
    began = time.monotonic()
    log = args.output / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            state = "done" if process.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            state = "out of time"
    found: dict[str, Any] = {"state": state, "seconds": round(time.monotonic() - began, 1)}
    if state == "failed":
        found["error"] = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
    return found


def write(folder: Path, name: str, report: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def device(tiny: bool) -> str:
    import torch

    if not tiny and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --tiny runs all stages on the CPU")
    return "cpu" if tiny else "cuda"


def peaks() -> tuple[str, tuple[float, float, float, float] | None]:
    """The device's name, and what it can do where that is known."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return name, next((rates for known, rates in DEVICES.items() if known in name), None)


# -- tests ----------------------------------------------------------------------------------------------------------


def tests(args: argparse.Namespace) -> None:
    device(args.tiny)
    files = ["tests/inference/test_captured.py"]
    choice = ["-k", "test_buckets"] if args.tiny else ["-m", "gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", *choice, *files]
    rc = subprocess.run(command, cwd=ROOT).returncode
    write(args.output, "tests", {"passed": rc == 0, "device": peaks()[0]})
    if rc:
        raise SystemExit(rc)


# -- decode ---------------------------------------------------------------------------------------------------------


def decode(args: argparse.Namespace) -> None:
    """Cell by cell, small ones first, until the time is over."""
    from benchmarks.decode import Case

    end = time.monotonic() + args.limit - 5
    sizes = [("mini", b, s) for b, s in ((1, 1), (2, 3))] if args.tiny else cells()
    rows: list[dict[str, Any]] = [{"preset": preset, "batch": batch, "paths": paths} for preset, batch, paths in sizes]
    report = {"device": peaks()[0], "context": 400, "horizon": 120, "rows": rows}
    # torch.compile last of all: it compiles for up to a minute a cell.
    for way in [way for way in WAYS if not (args.tiny and way in ("tf32", "bfloat16", "compile"))]:
        for row in rows:
            if time.monotonic() > end:
                row[way] = {"left out": "no time left"}
                continue
            shape, paths = ((20, 6) if args.tiny else (400, 120)), row["paths"]
            case = Case(row["preset"], *shape, paths, row["batch"], max(1, min(row["batch"], ORACLE_ROWS // paths)))
            try:
                row[way] = measure_way(case, way, device(args.tiny))
            except Exception as error:  # another way may work
                row[way] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            print(row["preset"], row["batch"], paths, way, row[way], flush=True)
            write(args.output, "decode", report)


@cache
def pair(preset: str, where: str) -> tuple[Any, Any]:
    """A network and its tokenizer on the device, made once."""
    from benchmarks.decode import fresh_pair

    model, tokenizer = fresh_pair(preset)
    return model.to(where), tokenizer.to(where)


def cells() -> list[tuple[str, int, int]]:
    """Preset, series and paths, those first that say most."""
    shapes = ((1, 1), (1, 30), (32, 30), (256, 30), (32, 1), (256, 1))
    return [(preset, *shape) for shape in shapes for preset in ("mini", "small", "base")]


def measure_way(case: Any, way: str, where: str) -> dict[str, Any]:
    """Milliseconds a forecast, and what that is of the device."""
    import torch
    from benchmarks.decode import Bench, spread

    from kronos.inference.captured import CapturedModel
    from kronos.inference.engine import DecodeEngine

    dtype = "bfloat16" if way == "bfloat16" else "float32"
    bench = Bench(case, pair=pair(case.preset, where))
    prefill = "tf32" if way == "tf32" else None
    if where == "cuda":
        compiled = False if way in ("plain", "oracle") else None
        bench.engine = DecodeEngine(bench.model, bench.tokenizer, dtype=dtype, compiled=compiled, prefill=prefill)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if way in ("graphs", "compile") and (where == "cpu" or way == "compile"):
        bench.engine.captured = True
        how = "compile" if way == "compile" else "plain"
        bench.engine._captured = CapturedModel(bench.engine.weights()[0], how=how)
    began = time.perf_counter()
    if way == "oracle":
        steps = spread(case.horizon, 2)
        bench.run_oracle(steps[:1])
        first = time.perf_counter() - began
        rest = bench.run_oracle([])
        seconds = rest + max(0.0, bench.run_oracle(steps) - rest) * case.horizon / len(steps)
        seconds *= case.series / case.oracle_series
    else:
        bench.run_engine()
        first = time.perf_counter() - began
        repeats = max(1, min(5, int(3 / max(1e-3, first))))
        seconds = min(bench.run_engine() for _ in range(repeats))
    found = {"ms_a_forecast": 1000 * seconds / case.series, "seconds": seconds, "first_seconds": first}
    if way == "oracle":
        return found | {"oracle_series": case.oracle_series, "oracle_steps": 2}
    if where == "cuda":
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found | shares(bench, seconds, dtype)


def shares(bench: Any, seconds: float, dtype: str) -> dict[str, float]:
    """What of the device's bandwidth and arithmetic the engine's needs are, were they met in that time.

    Needed: the weights and every visible key and value once a bar, and the multiply-adds of products and attention.
    """
    _, known = peaks()
    case, net = bench.case, bench.engine.weights()[0]
    size, config = net.dtype.itemsize, bench.model.config
    bars = case.context + case.samples * case.horizon / 2
    caches = 2 * (config.n_layers + 1) * config.d_model * size * bars * case.series
    moved = case.horizon * (net.weights_per_step * size + caches)
    operations = 2 * bench.multiply_adds()
    found = {"gbytes_a_second": moved / seconds / 1e9, "tflops": operations / seconds / 1e12}
    if known:
        peak = known[3] if dtype == "bfloat16" else known[1]
        found |= {"share_of_bandwidth": moved / seconds / known[0], "share_of_flops": operations / seconds / peak}
    return found


# -- training rates -------------------------------------------------------------------------------------------------

WINDOWS = {"nano": 128, "mini": 16, "small": 128, "base": 64, "large": 32}  # of one step


def rates(args: argparse.Namespace) -> None:
    """Without torch.compile first, then with it, whose compiling takes most of the time."""
    from benchmarks.training import SIZES

    end = time.monotonic() + args.limit - 5
    name, known = peaks()
    report: dict[str, Any] = {"device": name, "rates": []}
    for compiled in (False,) if args.tiny else (False, True):
        for size in SIZES[:1] if args.tiny else SIZES:
            row: dict[str, Any] = {"size": size, "compile": compiled}
            report["rates"].append(row)
            if time.monotonic() > end:
                row["left out"] = "no time left"
                continue
            try:
                row |= training_rate(size, compiled, device(args.tiny), 2 if args.tiny else WINDOWS[size], args.tiny)
                if known:
                    row["share_of_flops"] = row["tflops"] * 1e12 / known[3]
            except Exception as error:
                row["failed"] = f"{type(error).__name__}: {error}"[:500]
            print(row, flush=True)
            write(args.output, "rates", report)


def training_rate(size: str, compiled: bool, where: str, windows: int, tiny: bool) -> dict[str, float]:
    """Bars a second of whole steps in bfloat16, the windows being ready."""
    import tempfile

    import torch
    from benchmarks.training import operations_per_bar, recipe_config

    from kronos.model.layers import TransformerBlock
    from kronos.training.data import open_arrays, samplers
    from kronos.training.run import build_optimizer
    from kronos.training.stages import ModelStage

    where_to = torch.device(where)
    with tempfile.TemporaryDirectory() as folder:
        config = recipe_config(size, Path(folder), where)
        stage = ModelStage(config)
        stage.place(where_to, compiled)
        for block in stage.model.transformer:
            assert isinstance(block, TransformerBlock)
            block.recompute = config.checkpoint_activations
        sampler = samplers(config, open_arrays(config), windows)[0]
        batches = [stage.batch(sampler(k)).to(where_to) for k in range(2)]
    optimizer = build_optimizer(stage.module, config.optim_of("model"), where_to)

    def steps(count: int) -> float:
        began = time.perf_counter()
        for step in range(count):
            with torch.autocast(where, torch.bfloat16):
                loss = stage.loss(batches[step % 2], step)[0]
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        return time.perf_counter() - began

    first = steps(1 if tiny else 3)
    once = steps(1) if tiny else steps(4) / 4
    count = 1 if tiny else max(3, min(60, int(4 / once)))
    bars = batches[0].features.shape[0] * batches[0].features.shape[1]
    rate = bars * count / steps(count)
    window = batches[0].features.shape[1]
    each = operations_per_bar(stage.model.config, window, config.checkpoint_activations)
    found = {"windows": float(windows), "window": float(window), "bars_per_second": rate, "tflops": rate * each / 1e12}
    found["first_seconds"] = first
    if where == "cuda":
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found


# -- training -------------------------------------------------------------------------------------------------------


class OutOfTime(Exception):
    """The time of this call is over; what was saved last is gone on from."""


def train_next(args: argparse.Namespace) -> None:
    """The network of the next kronos-nano, on the packaged tokenizer."""
    from kronos.training.run import train

    end = time.monotonic() + args.limit - 25  # loading, saving and copying come on top
    work, kept = args.state / "train", args.output / "train"
    config = next_config(args, work)
    recast(config, args.state / "resume" / "model", work / "model", "float32")
    records: list[dict[str, Any]] = []

    def heard(record: dict[str, Any]) -> None:
        records.append(record)
        print(record, flush=True)
        write(args.output, "train", {"steps": config.optim.steps, "records": records})
        if time.monotonic() > end:
            raise OutOfTime

    try:
        train("model", config, resume=True, progress=heard)
    except OutOfTime:
        print("out of time", flush=True)
    recast(config, work / "model", kept / "model", "bfloat16")
    shutil.copy(work / "plan.json", kept / "plan.json")


def next_config(args: argparse.Namespace, work: Path) -> Any:
    """The run's settings; how many steps it has is decided by the first call, from the rate that was measured."""
    from benchmarks.training import recipe_config

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


def recast(config: Any, source: Path, target: Path, dtype: str) -> None:
    """A saved run with AdamW's averages in another precision: in bfloat16 it is two thirds as large."""
    import torch

    from kronos.training.run import build_optimizer
    from kronos.training.stages import ModelStage
    from kronos.training.state import STATE_FILE, load_state, save_state

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
    import pandas as pd

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
    import pandas as pd

    from kronos.bars.arrays import write_arrays

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


# -- the command ----------------------------------------------------------------------------------------------------

RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "tests": tests,
    "decode": decode,
    "rates": rates,
    "train": train_next,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("run", "pack", "load"), default="run")
    parser.add_argument("parts", nargs="*", type=Path, help="of load")
    parser.add_argument("--data", nargs="+", type=Path, action="extend", default=[], help="of pack: folders of bars")
    parser.add_argument("--output", type=Path, default=None, help="default: $OUT, or .gpu/out; of pack .packed")
    parser.add_argument(
        "--state", type=Path, default=ROOT / ".gpu", help="bars and runs that a later call goes on with"
    )
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=600.0, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.action == "pack":
        for part in pack(args.data, args.output or ROOT / ".packed"):
            print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")
        return
    if args.action == "load":
        load(args.parts, args.state)
        return
    args.output = (args.output or Path(os.environ.get("OUT") or ROOT / ".gpu" / "out")).resolve()
    args.state = args.state.resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.stage:
        RUN[args.stage](args)
        return
    states = [stage["state"] for stage in run_all(args)["stages"].values()]
    raise SystemExit(0 if "failed" not in states else 1)


if __name__ == "__main__":
    main()
