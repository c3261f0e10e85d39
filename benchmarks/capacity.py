"""How many machines and bytes: figures measured here, turned into answers by a model that is checked here.

    python -m benchmarks.capacity                       # the tables of docs/scaling.md, a few minutes
    python -m benchmarks.capacity --presets nano,mini --symbols 5000 --paths 30 --deadline 60 --json

Measured: processor seconds of one thread for a bar of context and for a sampled bar, for each size; what a series
costs besides (reading, calendar, quantiles, writing); bytes of bars and of forecasts. The model of one series is

    seconds = overhead + context x (a bar of context) + paths x horizon x (a sampled bar)

and is compared with a measurement at another context, horizon and number of paths, and with one and two Ray workers
(``--workers-check``). Everything about GPUs and about more than this machine is extrapolated, with the assumptions
written beside it. How long training takes, benchmarks/training.py says.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.decode import Case, make_requests
from benchmarks.workers import SETTINGS as PIECES
from benchmarks.workers import make_store, measure, run
from torch import nn

from kronos.bars import sample_bars
from kronos.bars.store import write_parquet
from kronos.inference.engine import DecodeEngine
from kronos.inference.pair import load_pair
from kronos.inference.settings import DecodeSettings
from kronos.model import MODEL_PRESETS, TOKENIZER_PRESETS, Kronos, KronosTokenizer
from kronos.model.finding import HubOptions
from kronos.scale.engines import LocalEngine
from kronos.scale.plan import UniverseSettings
from kronos.spec import ForecastSpec

PRE_TRAINING_BARS = 12e9
ARRAY_BYTES = 6 * 4 + 5 + 8  # a bar in kronos.bars.arrays
CHECKED = "nano"  # with workers


@dataclass(frozen=True)
class Question:
    """What a desk needs at every bar close."""

    symbols: int = 10_000
    context: int = 512
    horizon: int = 10
    paths: int = 100
    deadline: float = 20.0


@dataclass(frozen=True)
class Machine:
    """What is assumed of machines that are not at hand.

    Attributes:
        cores: physical cores of a server, each as fast as one here.
        scaling: share of a core's speed that is left when all others work.
        gpu_flops: dense bf16 peak of a GPU (H100 SXM).
        sampling_use: share of the peak in sampling.
    """

    cores: int = 64
    scaling: float = 0.8
    gpu_flops: float = 989e12
    sampling_use: float = 0.05


@dataclass(frozen=True)
class Costs:
    """Processor seconds of one thread here, and multiply-adds.

    Attributes:
        context_bar, sampled_bar: of one bar read, and of one bar of one path.
        context_macs, sampled_macs: the same in multiply-adds of linear maps and attention.
        predicted, measured: seconds of the series that the model is checked with.
    """

    context_bar: float
    sampled_bar: float
    context_macs: float
    sampled_macs: float
    predicted: float
    measured: float

    def seconds(self, context: int, horizon: int, paths: int) -> float:
        """Of one series, without overhead."""
        return context * self.context_bar + paths * horizon * self.sampled_bar

    def macs(self, context: int, horizon: int, paths: int) -> float:
        """Multiply-adds of one series."""
        return context * self.context_macs + paths * horizon * self.sampled_macs


# --- measuring ---------------------------------------------------------------------------------------------------


def pair(name: str) -> tuple[Kronos, KronosTokenizer]:
    """The packaged checkpoint, or a preset with random weights: speed does not depend on them."""
    if name == "nano":
        return load_pair("kronos-nano", None, HubOptions())[:2]
    tokenizer = TOKENIZER_PRESETS["2k" if name == "mini" else "base"]
    return Kronos.init(MODEL_PRESETS[name]).eval(), KronosTokenizer.init(tokenizer, seed=1).eval()


def costs(name: str, repeats: int = 3) -> Costs:
    """Unit costs of one size, from two contexts and two numbers of paths, and the check."""
    model, tokenizer = pair(name)
    engine, most = DecodeEngine(model, tokenizer), max(512, model.config.max_context)

    def seconds(context: int, horizon: int, paths: int, series: int) -> float:
        requests = make_requests(Case("mini", context, horizon, paths, series))
        taken = []
        for _ in range(repeats):
            began = time.process_time()
            engine.run(requests, DecodeSettings(1.0, 0, 0.9, most, most // 8))
            taken.append((time.process_time() - began) / series)
        return min(taken)  # what others take from the caches only adds

    seconds(64, 2, 2, 1)  # weights are arranged
    short, long = seconds(128, 1, 1, 4), seconds(480, 1, 1, 4)
    context_bar = (long - short) / (480 - 128)
    many = seconds(480, 10, 100, 2)
    sampled_bar = (many - 480 * context_bar) / 1000
    found = Costs(context_bar, sampled_bar, *unit_macs(model, tokenizer, 480), 0.0, 0.0)
    check = (256, 24, 30)
    return replace(found, predicted=found.seconds(*check), measured=seconds(*check, 4))


def linear_weights(module: nn.Module) -> int:
    """Weights of all linear maps: the multiply-adds that one bar passes through."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def unit_macs(model: Kronos, tokenizer: KronosTokenizer, context: int) -> tuple[float, float]:
    """Multiply-adds of a bar read and of a bar sampled, attention over ``context`` bars included."""
    c, network, coder = model.config, linear_weights(model), linear_weights(tokenizer)
    attention = 2 * (c.n_layers + 1) * c.d_model
    return network + coder / 2 + attention * context / 2, network + coder / 2 + attention * context


def overhead() -> dict[str, float]:
    """Of one series: processor seconds besides the engine's, bytes of its quantiles and of its paths."""
    spec = ForecastSpec(context_length=32, horizon=10, num_samples=1)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "store", 32, 4200)
        pieces = run(LocalEngine(1), store, folder / "few", UniverseSettings(spec), 16)
        model, tokenizer = pair("nano")
        engine, requests = DecodeEngine(model, tokenizer), make_requests(Case("mini", 32, 10, 1, 16))
        engine.run(requests, DecodeSettings(1.0, 0, 0.9))
        began = time.process_time()
        engine.run(requests, DecodeSettings(1.0, 0, 0.9))
        alone = (time.process_time() - began) / 16
        found["seconds"] = max(0.0, pieces[-1].processor / 16 - alone)
        for kind, paths in (("quantiles", False), ("paths", True)):
            many = UniverseSettings(spec.replace(num_samples=100), paths=paths)
            run(LocalEngine(1), store, folder / kind, many, 16)
            size = sum(path.stat().st_size for path in (folder / kind / "forecasts").iterdir())
            found[f"{kind}_bytes_per_bar"] = size / 32 / 10
        bars = sample_bars("eurusd")
        write_parquet(bars, folder / "bars.parquet")
        found["store_bytes_per_bar"] = (folder / "bars.parquet").stat().st_size / len(bars)
    return found


# --- answering ---------------------------------------------------------------------------------------------------


def machines(cost: Costs, extra: float, start: float, question: Question, machine: Machine) -> dict[str, float]:
    """What the question takes on servers of CPUs, and on GPUs.

    Args:
        extra: processor seconds a series besides the engine's.
        start: seconds before workers that are not kept warm begin.
    """
    each = extra + cost.seconds(question.context, question.horizon, question.paths)
    cores = question.symbols * each / machine.scaling / question.deadline
    cold = question.symbols * each / machine.scaling / max(question.deadline - start, 1e-9)
    flops = 2 * cost.macs(question.context, question.horizon, question.paths) * question.symbols
    return {
        "seconds_per_series": each,
        "series_per_second_and_core": 1 / each,
        "cores": cores,
        "machines": math.ceil(cores / machine.cores),
        "machines_started_each_time": math.ceil(cold / machine.cores) if start < question.deadline else math.inf,
        "petaflop": flops / 1e15,
        "gpus": math.ceil(flops / (machine.gpu_flops * machine.sampling_use) / question.deadline),
    }


def storage(sizes: dict[str, float], question: Question, row_group: int = 8192) -> dict[str, float]:
    """Bytes: the training set, a year of minutes, and what one bar close reads and writes."""
    bars = question.symbols * question.horizon
    read = question.symbols * row_group * sizes["store_bytes_per_bar"]
    return {
        "training_parquet": PRE_TRAINING_BARS * sizes["store_bytes_per_bar"],
        "training_arrays": PRE_TRAINING_BARS * ARRAY_BYTES,
        "year_of_minutes": question.symbols * 252 * 390 * sizes["store_bytes_per_bar"],
        "read_each_close": read,
        "network_gbit": read * 8 / question.deadline / 1e9,
        "quantiles_each_close": bars * sizes["quantiles_bytes_per_bar"],
        "paths_each_close": bars * sizes["paths_bytes_per_bar"],
    }


def workers_check(cost: Costs, extra: float, series: int, repeats: int) -> dict[str, Any]:
    """The model against one and two Ray workers with kronos-nano at 256 bars, 10 ahead, 30 paths."""
    found = measure(PIECES, series, 4, repeats)
    return {"predicted_seconds_per_series": extra + cost.seconds(256, 10, 30), **found}


def report(presets: Sequence[str], question: Question, machine: Machine, check: int) -> dict[str, Any]:
    """Everything, as one document."""
    torch.set_num_threads(1)
    sizes = overhead()
    measured = {name: costs(name) for name in presets}
    workers = workers_check(measured[CHECKED], sizes["seconds"], check, 3) if check and CHECKED in measured else None
    start = workers["two"]["start_seconds"] if workers else 10.0
    return {
        "question": asdict(question),
        "machine": asdict(machine) | {"load_here": os.getloadavg()[0]},
        "overhead": sizes,
        "costs": {name: asdict(cost) for name, cost in measured.items()},
        "error_of_the_model": statistics.median(abs(c.predicted / c.measured - 1) for c in measured.values()),
        "answers": {
            name: machines(cost, sizes["seconds"], start, question, machine) for name, cost in measured.items()
        },
        "start_seconds": start,
        "storage": storage(sizes, question),
        "workers": workers,
    }


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def markdown(found: dict[str, Any]) -> str:
    """The report as the tables of docs/scaling.md."""
    costs_rows = [
        (
            name,
            f"{c['context_bar'] * 1e3:.3f}",
            f"{c['sampled_bar'] * 1e3:.3f}",
            f"{c['measured']:.2f}",
            f"{c['predicted'] / c['measured'] - 1:+.0%}",
        )
        for name, c in found["costs"].items()
    ]
    answer_rows = [
        (
            name,
            f"{a['seconds_per_series']:.2f}",
            f"{a['cores']:,.0f}",
            a["machines"],
            a["machines_started_each_time"],
            f"{a['petaflop']:,.2f}",
            a["gpus"],
        )
        for name, a in found["answers"].items()
    ]
    storage_rows = [
        (what.replace("_", " "), f"{size:.2g} Gbit/s" if what == "network_gbit" else f"{size / 1e9:,.3g} GB")
        for what, size in found["storage"].items()
    ]
    extra, load = found["overhead"]["seconds"] * 1e3, found["machine"]["load_here"]
    return "\n\n".join(
        [
            table(("size", "context bar, ms", "sampled bar, ms", "check, s", "model off by"), costs_rows),
            f"Overhead: {extra:.0f} ms a series. Load: {load:.1f}.",
            table(
                ("size", "s a series", "cores", "machines", "started each time", "PFLOP", "GPUs (extrapolated)"),
                answer_rows,
            ),
            table(("what", "size"), storage_rows),
            f"Workers: {json.dumps(found['workers'], indent=1)}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="nano,mini,small,base")
    for option, kind in (("symbols", int), ("context", int), ("horizon", int), ("paths", int), ("deadline", float)):
        parser.add_argument(f"--{option}", type=kind, default=getattr(Question, option))
    parser.add_argument("--cores", type=int, default=Machine.cores, help="of one server")
    parser.add_argument(
        "--workers-check", type=int, default=0, metavar="SERIES", help="compare with one and two workers"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    question = Question(args.symbols, args.context, args.horizon, args.paths, args.deadline)
    found = report(args.presets.split(","), question, Machine(cores=args.cores), args.workers_check)
    print(json.dumps(found, indent=2) if args.json else markdown(found))


if __name__ == "__main__":
    main()
