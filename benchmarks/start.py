"""How long `kronos forecast` takes as a whole process, beside a process that only imports torch.

    python -m benchmarks.start [--repeats 3] [--clock cpu] [--json] [--keep]

Both run in turn, with compiled bytecode kept as after a first start; the smallest of each counts. The limit is twice
the import plus a second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import keep

from kronos.bars import sample_bars


def seconds(command: list[str], clock: str, bytecode: str) -> float:
    """Of a process that keeps its bytecode in a folder: wall clock, or user and system time."""
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return elapsed if clock == "wall" else used


def measure(repeats: int, clock: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sp500.csv"
        sample_bars("sp500").to_csv(path, index=False)
        run = "import sys; from kronos.cli import main; sys.exit(main())"
        forecast = [sys.executable, "-c", run, "forecast", str(path), "--horizon", "24", "--calendar", "XNYS", "--json"]
        torch = [sys.executable, "-c", "import torch"]
        times = [(seconds(torch, clock, folder), seconds(forecast, clock, folder)) for _ in range(repeats + 1)][1:]
    imported, whole = (min(column) for column in zip(*times, strict=True))
    limit = 2 * imported + 1
    return {"clock": clock, "import_torch_seconds": imported, "forecast_seconds": whole, "limit_seconds": limit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/start.json")
    args = parser.parse_args()
    report = measure(args.repeats, args.clock)
    if args.keep:
        keep("start", report)
    shown = "import torch {import_torch_seconds:.2f} s, forecast {forecast_seconds:.2f} s, limit {limit_seconds:.2f} s"
    print(json.dumps(report, indent=2) if args.json else shown.format(**report))


if __name__ == "__main__":
    main()
