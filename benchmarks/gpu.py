"""Everything that only a GPU can tell, for one that is at hand for a few minutes: tests, speed, training.

    python -m benchmarks.gpu pack --data BARS … --output .packed      # before: bars into parts of at most 60 MiB
    python -m benchmarks.gpu load .packed/part-00.parquet …           # there: parts that have arrived, in any order
    python -m benchmarks.gpu [--minutes 12] [--output FOLDER] [--stages decode train]
    python -m benchmarks.gpu keep [--output FOLDER]                   # after: its figures for docs/performance.md
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
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import results

from kronos.files import write_json

ROOT = Path(__file__).parents[1]
STAGES = ("tests", "decode", "rates", "train")
LIMITS = {"tests": 100, "decode": 270, "rates": 150}  # seconds; training takes what is left
LEAST_TRAINING = 45  # seconds, below which it is not begun


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
        write_json(args.output / "summary.json", summary)
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


def run_here(args: argparse.Namespace) -> None:
    """One stage in this process."""
    from benchmarks import gpu_speed, gpu_training

    stages = {"tests": tests, "decode": gpu_speed.decode, "rates": gpu_speed.rates, "train": gpu_training.train_next}
    stages[args.stage](args)


def tests(args: argparse.Namespace) -> None:
    from benchmarks.gpu_speed import device, peaks  # which load torch

    device(args.tiny)
    files = ["tests/inference/test_captured.py"]
    choice = ["-k", "test_buckets"] if args.tiny else ["-m", "gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", *choice, *files]
    rc = subprocess.run(command, cwd=ROOT).returncode
    write_json(args.output / "tests.json", {"passed": rc == 0, "device": peaks()[0]})
    if rc:
        raise SystemExit(rc)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("run", "pack", "load", "keep"), default="run")
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
        from benchmarks.gpu_training import pack

        for part in pack(args.data, args.output or ROOT / ".packed"):
            print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")
        return
    if args.action == "load":
        from benchmarks.gpu_training import load

        load(args.parts, args.state)
        return
    args.output = (args.output or Path(os.environ.get("OUT") or ROOT / ".gpu" / "out")).resolve()
    if args.action == "keep":
        results.keep("gpu", json.loads((args.output / "decode.json").read_text(encoding="utf-8")))
        return
    args.state = args.state.resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.stage:
        run_here(args)
        return
    states = [stage["state"] for stage in run_all(args)["stages"].values()]
    raise SystemExit(0 if "failed" not in states else 1)


if __name__ == "__main__":
    main()
