"""One Ray worker against two on this machine: the same forecasts, timed where the workers run.

    python -m benchmarks.workers --json
    python -m benchmarks.workers --model kronos-nano --context 256 --samples 30 --series 96

Reported are series a second while every worker is at work (starting them is timed by itself), and processor seconds
a series. The ratio of the former is the gain; the ratio of the latter says how much two workers slow each other down
by sharing memory and caches, and can be trusted on a machine that others use as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kronos.bars import BarStore, sample_bars
from kronos.bars.schema import FEATURES
from kronos.bars.store import write_parquet
from kronos.inference.pair import pair_digest
from kronos.protocol import WorkEngine
from kronos.scale.plan import Partition, UniverseSettings, divide, list_sources
from kronos.scale.work import ForecastWork
from kronos.spec import ForecastSpec

SETTINGS = UniverseSettings(ForecastSpec(horizon=10, num_samples=30, context_length=256))


@dataclass(frozen=True)
class Piece:
    """When and where a partition was computed, and at what price in processor seconds."""

    worker: int
    series: int
    began: float
    ended: float
    processor: float


class TimedWork(ForecastWork):
    """A worker that tells what its partitions cost."""

    def __call__(self, partition: Partition) -> Piece:  # type: ignore[override]
        began, before = time.time(), time.thread_time()
        _, report = super().__call__(partition)
        return Piece(os.getpid(), report.series, began, time.time(), time.thread_time() - before)


def make_store(folder: Path, series: int, bars: int) -> Path:
    """A store of windows of the packaged daily samples."""
    part = folder / "frequency=1d"
    part.mkdir(parents=True)
    samples = [sample_bars(name) for name in ("sp500", "nasdaq")]
    for number in range(series):
        table = samples[number % 2]
        first = (number * 17) % (len(table) - bars)
        name = f"S{number:05d}"
        window = table.iloc[first : first + bars].assign(symbol=name)
        write_parquet(window[["timestamp", "symbol", *FEATURES]].reset_index(drop=True), part / f"{name}.parquet")
    BarStore(folder).rebuild_catalogue()
    return folder


def run(engine: WorkEngine, folder: Path, out: Path, settings: UniverseSettings, size: int) -> list[Piece]:
    """Every partition of the store."""
    checkpoint = pair_digest(settings.model)
    partitions = divide(list_sources(folder), settings, "0", checkpoint, "cpu", size)
    return list(engine.map(partial(TimedWork, settings, folder, out, checkpoint, "cpu"), partitions))


def figures(pieces: list[Piece], began: float) -> dict[str, float]:
    """Series a second and processor seconds a series, while all workers were at work.

    Args:
        began: when the engine was asked; what lies before the first piece is start-up.
    """
    workers = {piece.worker for piece in pieces}
    opened = max(min(p.began for p in pieces if p.worker == worker) for worker in workers)
    closed = min(max(p.ended for p in pieces if p.worker == worker) for worker in workers)
    rate = 0.0
    for worker in workers:
        mine = [p for p in pieces if p.worker == worker and p.began >= opened and p.ended <= closed]
        if mine:
            rate += sum(p.series for p in mine) / (max(p.ended for p in mine) - min(p.began for p in mine))
    return {
        "workers": len(workers),
        "series_per_second": rate,
        "processor_seconds_per_series": statistics.median(p.processor / p.series for p in pieces),
        "start_seconds": min(p.began for p in pieces) - began,
    }


def measure(settings: UniverseSettings, series: int, size: int, repeats: int) -> dict[str, Any]:
    """One and two workers in turn, in one Ray session of two CPUs; medians."""
    from kronos.scale.engines import RayEngine, connected

    rounds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, connected(None, 2):
        store = make_store(Path(folder) / "store", series, (settings.spec.context_length or 512) + 64)
        for number in range(repeats):
            for workers in (1, 2):
                began = time.time()
                pieces = run(RayEngine(workers), store, Path(folder) / f"{number}-{workers}", settings, size)
                rounds[workers].append(figures(pieces, began))
    middle = {
        workers: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for workers, found in rounds.items()
    }
    one, two = middle[1], middle[2]
    gains = [b["series_per_second"] / a["series_per_second"] for a, b in zip(rounds[1], rounds[2], strict=True)]
    return {
        "settings": settings.to_dict(),
        "series": series,
        "partition": size,
        "one": one,
        "two": two,
        "gain": statistics.median(gains),
        "gains": gains,
        "efficiency_by_processor_time": one["processor_seconds_per_series"] / two["processor_seconds_per_series"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kronos-nano")
    for option, value in (("context", 256), ("horizon", 10), ("samples", 30), ("series", 96), ("partition", 4)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    spec = ForecastSpec(horizon=args.horizon, num_samples=args.samples, context_length=args.context)
    settings = UniverseSettings(spec, args.model)
    report = measure(settings, args.series, args.partition, args.repeats)
    if args.json:
        print(json.dumps(report, indent=2))
        return
    for name in ("one", "two"):
        line = (
            "{workers:g} workers: {series_per_second:.2f} series/s, {processor_seconds_per_series:.3f} processor s each"
        )
        print(line.format(**report[name]))
    print(f"gain {report['gain']:.2f}x, efficiency by processor time {report['efficiency_by_processor_time']:.2f}")


if __name__ == "__main__":
    main()
