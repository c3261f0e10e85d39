"""How fast bars are sampled: the engine against the loop that recomputes everything, measured in turn in one process.

    python -m benchmarks.decode --preset mini --context 400 --horizon 120 --samples 1 --json
    python -m benchmarks.decode --case universe            # a row of the table in docs/performance.md
    python -m benchmarks.decode --all                      # every row, into benchmarks/results/decode.json
    python -m benchmarks.decode --table                    # milliseconds a forecast, by checkpoint, series and paths

The weights are random (speed does not depend on them); the tokenizer is the preset that belongs to the model; the
bars are the packaged S&P 500 sample; settings are those of ``forecast`` for published checkpoints (T 1, top_p 0.9,
window_stride an eighth of the window). The oracle does what the published loop does: it encodes every path, computes
the whole window for every bar, sorts all tokens to sample, decodes the whole window. Where that would take minutes,
steps spread evenly over the horizon are timed and the mean step is multiplied by the horizon; likewise it may run on a
part of the series. The output says so. Both sides get the same number of threads; the engine may use fewer.

The engine samples by compiled steps where numba is installed and the network is not wide (``--steps`` decides
otherwise). Compiling and loading them is not timed: it happens once a machine and once a process, and small requests
never do it of themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from benchmarks.results import keep

from kronos.bars import sample_bars
from kronos.bars.arrays import time_features
from kronos.bars.schema import FEATURES
from kronos.bars.transform import get_transform
from kronos.inference.engine import DTYPES, WIDEST_COMPILED, DecodeEngine, DecodeRequest
from kronos.inference.oracle import recompute_everything
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings
from kronos.model import MODEL_PRESETS, TOKENIZER_PRESETS, Kronos, KronosTokenizer

_LEAST_STEPS = 3  # of the oracle; with fewer a busy moment outweighs what is measured
_clock = "wall"


@dataclass(frozen=True)
class Case:
    """One row of the table. ``oracle_series``: how many of the series the oracle is timed on."""

    preset: str = "mini"
    context: int = 400
    horizon: int = 120
    samples: int = 1
    series: int = 1
    oracle_series: int = 1
    target: float | None = None


CASES = {
    "mini-1": Case(target=30),
    "mini-30": Case(samples=30, target=300),
    "small-1": Case("small", target=20),
    "base-5": Case("base", samples=5, target=60),
    "universe": Case(context=90, horizon=10, samples=5, series=300, oracle_series=20, target=20),
}

#: Checkpoint, series, paths and oracle's series: 400 bars of context, 120 ahead.
TABLE = {
    f"{preset} {series}x{paths}": Case(preset, samples=paths, series=series, oracle_series=1)
    for series, paths in ((1, 1), (1, 30), (32, 1))
    for preset in ("mini", "small", "base")
}


def make_requests(case: Case) -> list[DecodeRequest]:
    """Windows of the packaged sample, one a series."""
    bars = sample_bars("sp500")
    values, stamps = bars[list(FEATURES)].to_numpy(float), time_features(bars["timestamp"].dt)
    transform = get_transform("zscore")
    length, requests = case.context + case.horizon, []
    for i in range(case.series):
        first = (i * 13) % (len(values) - length)
        window = values[first : first + case.context]
        features = transform.encode(window, transform.fit(window))
        draws = uniforms(0, [i.to_bytes(4, "little")], case.samples, case.horizon)[0]
        requests.append(DecodeRequest(features, stamps[first : first + length], draws))
    return requests


def fresh_pair(preset: str) -> tuple[Kronos, KronosTokenizer]:
    """A network with random weights, and a tokenizer of the preset that belongs to it."""
    name = "2k" if preset == "mini" else "base"
    return Kronos.init(MODEL_PRESETS[preset]).eval(), KronosTokenizer.init(TOKENIZER_PRESETS[name], seed=1).eval()


class Bench:
    """The engine and the oracle on one case."""

    def __init__(
        self,
        case: Case,
        dtype: str = "float32",
        compiled: bool | None = False,
        pair: tuple[Kronos, KronosTokenizer] | None = None,
    ) -> None:
        """``compiled`` None: as a process that forecasts again and again would choose. ``pair``: of the preset."""
        self.case = case
        config = MODEL_PRESETS[case.preset]
        self.model, self.tokenizer = pair or fresh_pair(case.preset)
        self.engine = DecodeEngine(self.model, self.tokenizer, dtype=dtype, compiled=compiled)
        if self.engine.compiled is None and not self.engine.captured:
            self.engine.compiled = self.engine.weights()[0].weights_per_step <= WIDEST_COMPILED
        self.requests = make_requests(case)
        most = config.max_context
        self.settings = DecodeSettings(1.0, 0, 0.9, max_context=most, window_stride=max(1, most // 8))

    def run_engine(self) -> float:
        """Seconds for all series and paths, encoding and decoding included."""
        return seconds(lambda: self.engine.run(self.requests, self.settings))

    def run_oracle(self, steps: list[int] | None) -> float:
        """Seconds for ``oracle_series`` series, sampling only the given steps (None: all)."""
        chosen = self.requests[: self.case.oracle_series]

        def tensor(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(request, name) for request in chosen])).to(self.engine.device)

        return seconds(
            lambda: recompute_everything(
                self.model,
                self.tokenizer,
                tensor("features"),
                tensor("stamps"),
                tensor("uniforms"),
                replace(self.settings, window_stride=1, follows_torch=True),
                steps=steps,
            )[2].cpu()
        )

    def multiply_adds(self) -> float:
        """Multiply-adds of the engine's linear maps and attention for the whole case, without slides."""
        case, net = self.case, self.engine.weights()[0]
        t = self.tokenizer.config
        blocks = 4 * t.d_model**2 + 3 * t.d_model * t.ff_dim
        encoder, decoder = blocks * (t.n_enc_layers - 1), blocks * (t.n_dec_layers - 1)
        layers, width = self.model.config.n_layers, self.model.config.d_model
        past, new = case.context, case.samples * case.horizon
        linear = past * (encoder + decoder + net.weights_per_step) + new * (net.weights_per_step + decoder)
        keys = case.context + case.horizon / 2
        attention = 2 * keys * new * ((layers + 1) * width + (t.n_dec_layers - 1) * t.d_model)
        return float(case.series * (linear + attention))


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(job: Callable[[], Any]) -> float:
    clock = CLOCKS[_clock]
    started = clock()
    job()
    return clock() - started


def machine(rows: int, weights: int) -> dict[str, float]:
    """What plain products reach here and now: GFLOP/s of a large one, GB/s of weights read by a single row."""
    side = torch.randn(1024, 1024)
    product = min(seconds(lambda: side @ side) for _ in range(10))
    # As many weights as the model's, in one matrix, so that they lie in the same caches or in memory.
    matrix, row = torch.randn(1024, max(1, weights // 1024)).T, torch.randn(1024)
    read = min(seconds(lambda: torch.mv(matrix, row)) for _ in range(10))
    return {"plain_gflops": 2 * 1024**3 / product / 1e9, "plain_gbytes": matrix.numel() * 4 / read / 1e9}


def spread(horizon: int, count: int) -> list[int]:
    """``count`` steps in the middles of equal parts of the horizon."""
    return [int((i + 0.5) * horizon / count) for i in range(count)]


def measure(
    case: Case, *, repeats: int, budget: float, dtype: str = "float32", compiled: bool | None = False
) -> dict[str, Any]:
    """Engine and oracle in turn; medians.

    Args:
        budget: seconds that the oracle may take in all; decides how many of its steps are timed.
        compiled: as the engine takes it.
    """
    bench = Bench(case, dtype, compiled)
    bench.run_engine()  # weights are arranged, memory is taken
    once = bench.run_oracle([case.horizon // 2])
    twice, least = 2, _LEAST_STEPS
    if once > budget / 8:  # so that every row is done within a minute
        repeats, twice, least = min(repeats, 2), 1, 2
    share = budget / repeats / max(once, 1e-9)
    timed = None if share >= 1.2 * case.horizon else min(case.horizon, max(least, int(share) - 1))
    steps = None if timed is None else spread(case.horizon, timed)
    engine, oracle, plain = [], [], []
    for _ in range(repeats):
        plain.append(machine(case.samples, bench.engine.weights()[0].weights_per_step))
        engine.append(min(bench.run_engine() for _ in range(twice)))
        if steps is None:
            whole = bench.run_oracle(None)
        else:
            rest = min(bench.run_oracle([]) for _ in range(twice))
            whole = rest + max(0.0, bench.run_oracle(steps) - rest) * case.horizon / len(steps)
        oracle.append(whole * case.series / case.oracle_series)
    ours, theirs = statistics.median(engine), statistics.median(oracle)
    ratios = sorted(o / e for o, e in zip(oracle, engine, strict=True))
    report = asdict(case) | {
        "dtype": dtype,
        "steps": "compiled" if bench.engine.compiles(bench.requests) else "torch",
        "threads": torch.get_num_threads(),
        "clock": _clock,
        "repeats": repeats,
        "oracle_steps_timed": case.horizon if timed is None else timed,
        "oracle_seconds": theirs,
        "engine_seconds": ours,
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "bars_per_second": case.series * case.samples * case.horizon / ours,
        "engine_gflops": 2 * bench.multiply_adds() / ours / 1e9,
        "plain_gflops": max(p["plain_gflops"] for p in plain),
    }
    if case.samples == case.series == 1:
        per_bar = bench.engine.weights()[0].weights_per_step * 4
        report |= {
            "engine_gbytes": per_bar * case.horizon / ours / 1e9,
            "plain_gbytes": max(p["plain_gbytes"] for p in plain),
        }
    return report


def describe(name: str, r: dict[str, Any]) -> str:
    """A report in two lines."""
    target = f" (target {r['target']:g}x)" if r["target"] else ""
    notes = []
    if r["oracle_steps_timed"] < r["horizon"]:
        notes.append(f"oracle timed at {r['oracle_steps_timed']} of {r['horizon']} steps")
    if r["oracle_series"] < r["series"]:
        notes.append(f"on {r['oracle_series']} of {r['series']} series")
    rate = f"{r['engine_gflops']:.0f} GFLOP/s of {r['plain_gflops']:.0f} in a plain product"
    if "engine_gbytes" in r:
        rate += f", {r['engine_gbytes']:.1f} GB/s of weights of {r['plain_gbytes']:.1f}"
    return (
        f"{name}: oracle {r['oracle_seconds']:.2f} s, engine {r['engine_seconds']:.3f} s, {r['ratio']:.1f}x{target}, "
        f"{r['steps']} steps, {r['threads']} thread{'s' * (r['threads'] > 1)}\n  {rate}"
        + (f"; {', '.join(notes)}" if notes else "")
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="a row of the table")
    parser.add_argument("--all", action="store_true", help="every row; writes benchmarks/results/decode.json")
    parser.add_argument("--table", action="store_true", help="milliseconds a forecast; benchmarks/results/table.json")
    parser.add_argument("--preset", choices=MODEL_PRESETS, default="mini")
    for option, value in (("context", 400), ("horizon", 120), ("samples", 1), ("series", 1)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--steps", choices=("compiled", "torch"), default=None, help="default: the faster for the size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for the oracle")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for busy machines, with --threads 1"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu adds up the threads' time; use it with --threads 1")
    global _clock
    _clock = args.clock
    torch.set_num_threads(args.threads)
    own = Case(args.preset, args.context, args.horizon, args.samples, args.series, min(args.series, 20))
    cases = (
        CASES
        if args.all
        else TABLE
        if args.table
        else {args.case: CASES[args.case]}
        if args.case
        else {args.preset: own}
    )
    compiled = None if args.steps is None else args.steps == "compiled"
    reports = {}
    for name, case in cases.items():
        reports[name] = measure(case, repeats=args.repeats, budget=args.budget, dtype=args.dtype, compiled=compiled)
        if args.table:
            keep("table", reports)  # row by row, since all take half an hour
        print(describe(name, reports[name]), file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.all:
        keep("decode", reports)
    if args.json:
        print(json.dumps(next(iter(reports.values())) if len(reports) == 1 else reports, indent=2))


if __name__ == "__main__":
    main()
