"""Where the time of a forecast goes: the phases of the engine, by worker.

    python -m benchmarks.profile --case mini-30
    python -m benchmarks.profile --case small-1 --threads 1

Each phase is timed around the engine's own functions while they run (they are few and long; the clock costs nothing
beside them). ``waiting`` is wall-clock time of a worker in which it had no processor: another worker, or another
program, was in its way.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.decode import CASES, Bench

from kronos.inference import decode, engine
from kronos.inference.compiled import CompiledSteps
from kronos.inference.decode import TorchSteps
from kronos.inference.engine import DTYPES

PHASES = ("encode", "prefill", "step", "sample", "decode")
Clocks = tuple[float, float]


class Ledger:
    """Wall-clock and processor seconds by worker and phase."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, list[Clocks]]] = defaultdict(lambda: defaultdict(list))

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time written down."""

        def run(*args: Any, **named: Any) -> Any:
            began, before = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **named)
            finally:
                taken = time.perf_counter() - began, time.thread_time() - before
                self.found[threading.current_thread().name][phase].append(taken)

        return run

    def table(self) -> dict[str, dict[str, dict[str, float]]]:
        """Milliseconds and calls of every phase of every worker."""
        return {
            worker: {
                phase: {
                    "calls": len(times),
                    "wall_ms": 1000 * sum(wall for wall, _ in times),
                    "waiting_ms": 1000 * sum(max(0.0, wall - own) for wall, own in times),
                }
                for phase, times in phases.items()
            }
            for worker, phases in self.found.items()
        }


@contextmanager
def watched(ledger: Ledger) -> Iterator[None]:
    """The engine with a clock at every phase."""
    places: list[tuple[Any, str, str]] = [
        (engine, "continue_batch", "whole"),
        (decode, "encode", "encode"),
        (decode, "decode_horizon", "decode"),
        (decode, "prefill", "prefill"),
    ]
    places += [(kind, name, name) for kind in (TorchSteps, CompiledSteps) for name in ("step", "sample")]
    patches = [patch.object(place, name, ledger.timed(phase, getattr(place, name))) for place, name, phase in places]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def measure(case: str, repeats: int, dtype: str = "float32") -> dict[str, Any]:
    """The median run of several."""
    bench = Bench(CASES[case], dtype, compiled=None)
    bench.run_engine()
    runs = []
    for _ in range(repeats):
        ledger = Ledger()
        with watched(ledger):
            runs.append((bench.run_engine(), ledger.table()))
    seconds, table = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    return {"case": case, "dtype": dtype, "threads": torch.get_num_threads(), "seconds": seconds, "workers": table}


def describe(report: dict[str, Any]) -> str:
    """A table a worker."""
    lines = [f"{report['case']} {report['dtype']}: {1000 * report['seconds']:.0f} ms, {report['threads']} threads"]
    for number, phases in enumerate(report["workers"].values(), 1):
        whole = phases.pop("whole")
        lines.append(f"  worker {number}: {whole['wall_ms']:.0f} ms")
        rest = whole["wall_ms"] - sum(phase["wall_ms"] for phase in phases.values())
        for name in PHASES:
            wall, calls = phases[name]["wall_ms"], phases[name]["calls"]
            lines.append(
                f"    {name:8} {wall:8.1f} ms  {wall / whole['wall_ms']:5.1%}  "
                f"{calls:5.0f} calls of {wall / calls:8.3f} ms, waiting {phases[name]['waiting_ms']:.1f} ms"
            )
        lines.append(f"    {'rest':8} {rest:8.1f} ms  {rest / whole['wall_ms']:5.1%}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="mini-30")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    report = measure(args.case, args.repeats, args.dtype)
    print(json.dumps(report, indent=2) if args.json else describe(report))


if __name__ == "__main__":
    main()
