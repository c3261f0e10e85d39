"""How fast a GPU samples and trains; two stages of :mod:`benchmarks.gpu`."""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.decode import Bench, Case, fresh_pair, spread
from benchmarks.training import H100, SIZES, operations_per_bar, recipe_config

from kronos.files import write_json
from kronos.inference.captured import CapturedModel
from kronos.inference.engine import DecodeEngine
from kronos.model import Kronos, KronosTokenizer
from kronos.model.layers import TransformerBlock
from kronos.training.data import open_arrays, samplers
from kronos.training.run import build_optimizer
from kronos.training.stages import ModelStage

# Bytes a second; operations a second in float32 and in bfloat16, dense, by the makers' data sheets.
DEVICES = {
    "H100": (3.35e12, 67e12, H100),
    "H200": (4.8e12, 67e12, H100),
    "A100": (2.04e12, 19.5e12, 312e12),
}
WAYS = ("graphs", "oracle", "plain", "bfloat16", "tf32", "compile")
ORACLE_ROWS = 256  # paths that the oracle is timed on at most; more are reckoned from these
WINDOWS = {"nano": 128, "mini": 16, "small": 128, "base": 64, "large": 32}  # of one training step


def device(tiny: bool) -> str:
    if not tiny and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --tiny runs all stages on the CPU")
    return "cpu" if tiny else "cuda"


def peaks() -> tuple[str, tuple[float, float, float] | None]:
    """The device's name, and what it can do where that is known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return name, next((rates for known, rates in DEVICES.items() if known in name), None)


# -- decode ---------------------------------------------------------------------------------------------------------


def decode(args: argparse.Namespace) -> None:
    """Cell by cell, small ones first, until the time is over."""
    end = time.monotonic() + args.limit - 5
    sizes = [("mini", b, s) for b, s in ((1, 1), (2, 3))] if args.tiny else cells()
    rows: list[dict[str, Any]] = [{"preset": preset, "batch": batch, "paths": paths} for preset, batch, paths in sizes]
    context, horizon = (20, 6) if args.tiny else (400, 120)
    where = {"device": peaks()[0], "date": date.today().isoformat()}
    report = where | {"context": context, "horizon": horizon, "rows": rows}
    # torch.compile last of all: it compiles for up to a minute a cell.
    for way in [way for way in WAYS if not (args.tiny and way in ("tf32", "bfloat16", "compile"))]:
        for row in rows:
            if time.monotonic() > end:
                row[way] = {"left out": "no time left"}
                continue
            series, paths = row["batch"], row["paths"]
            case = Case(row["preset"], context, horizon, paths, series, max(1, min(series, ORACLE_ROWS // paths)))
            try:
                row[way] = measure_way(case, way, device(args.tiny))
            except Exception as error:  # another way may work
                row[way] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            print(row["preset"], row["batch"], paths, way, row[way], flush=True)
            write_json(args.output / "decode.json", report)


@cache
def pair(preset: str, where: str) -> tuple[Kronos, KronosTokenizer]:
    """A network and its tokenizer on the device, made once."""
    model, tokenizer = fresh_pair(preset)
    return model.to(where), tokenizer.to(where)


def cells() -> list[tuple[str, int, int]]:
    """Preset, series and paths, those first that say most."""
    shapes = ((1, 1), (1, 30), (32, 30), (256, 30), (32, 1), (256, 1))
    return [(preset, *shape) for shape in shapes for preset in ("mini", "small", "base")]


def measure_way(case: Case, way: str, where: str) -> dict[str, Any]:
    """Milliseconds a forecast, and what that is of the device."""
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


def shares(bench: Bench, seconds: float, dtype: str) -> dict[str, float]:
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
        peak = known[2] if dtype == "bfloat16" else known[1]
        found |= {"share_of_bandwidth": moved / seconds / known[0], "share_of_flops": operations / seconds / peak}
    return found


# -- training rates -------------------------------------------------------------------------------------------------


def rates(args: argparse.Namespace) -> None:
    """Without torch.compile first, then with it, whose compiling takes most of the time."""
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
                    row["share_of_flops"] = row["tflops"] * 1e12 / known[2]
            except Exception as error:
                row["failed"] = f"{type(error).__name__}: {error}"[:500]
            print(row, flush=True)
            write_json(args.output / "rates.json", report)


def training_rate(size: str, compiled: bool, where: str, windows: int, tiny: bool) -> dict[str, float]:
    """Bars a second of whole steps in bfloat16, the windows being ready."""
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
