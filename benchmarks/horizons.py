"""Long horizons and many symbols with kronos-nano: memory, what is read again, and whether progress tells the truth.

    python -m benchmarks.horizons [--symbols 2000] [--horizon 480] [--paths 100] [--json]

- long: one series, 480 bars ahead on 100 paths. Resident memory when a tenth and when all of the bars are sampled; how
  many positions the network read (each bar once, and a whole window whenever it moved); the estimate of the time left
  at every tenth of the run against the time that was left.
- many: 2,000 symbols, 24 bars, 30 paths, one after the other from ``forecast_many``; memory after a tenth and at the
  end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from benchmarks.memory import resident

from kronos import KronosPredictor
from kronos.bars import sample_bars
from kronos.inference import decode
from kronos.inference.compiled import CompiledSteps
from kronos.inference.decode import TorchSteps


def long(predictor: KronosPredictor, horizon: int, paths: int) -> dict[str, Any]:
    bars, read = sample_bars("sp500"), {"contexts": 0, "bars": 0}
    told: list[tuple[float, int, int]] = []  # (seconds, bars done, bytes)

    def counted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(steps: Any, x: torch.Tensor) -> Any:
            read[what] += x[..., 0].numel()
            return function(steps, x)

        return run

    predictor.forecast(bars, 2, 2)  # code is loaded, weights are arranged
    patches = [patch.object(kind, "step", counted("bars", kind.step)) for kind in (TorchSteps, CompiledSteps)]
    patches.append(patch.object(decode, "prefill", counted("contexts", decode.prefill)))
    for one in patches:
        one.start()
    began = time.perf_counter()
    try:
        predictor.forecast(
            bars, horizon, paths, progress=lambda done, _: told.append((time.perf_counter() - began, done, resident()))
        )
    finally:
        for one in patches:
            one.stop()
    whole, total = time.perf_counter() - began, horizon * paths
    estimates = []
    for tenth in range(1, 10):
        spent, done, _ = next(entry for entry in told if entry[0] >= whole * tenth / 10)
        left = spent * (total - done) / done if done else None
        estimates.append({"spent": spent, "estimate": left, "true": whole - spent})
    shown = [entry[1] for entry in told]
    return {
        "seconds": whole,
        "positions_read": read,
        "mb_at_a_tenth": told[len(told) // 10][2] / 1e6,
        "mb_at_the_end": told[-1][2] / 1e6,
        "monotone": shown == sorted(shown),
        "estimates": estimates,
    }


def many(predictor: KronosPredictor, symbols: int, horizon: int = 24, paths: int = 30) -> dict[str, Any]:
    bars = sample_bars("sp500")
    starts = np.linspace(0, len(bars) - 260, symbols).astype(int)
    tables = {f"S{i:05d}": bars.iloc[first : first + 260] for i, first in enumerate(starts)}
    began = time.perf_counter()
    held = [resident() for _ in predictor.forecast_many(tables, horizon, paths, calendar="XNYS")]
    return {
        "symbols": symbols,
        "seconds": time.perf_counter() - began,
        "mb_at_a_tenth": held[len(held) // 10] / 1e6,
        "mb_at_the_end": held[-1] / 1e6,
        "mb_at_most": max(held) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("symbols", 2000), ("horizon", 480), ("paths", 100)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    predictor = KronosPredictor.from_pretrained("kronos-nano", "cpu", compiled=True)
    report = {"threads": torch.get_num_threads(), "long": long(predictor, args.horizon, args.paths)}
    if args.symbols:
        report["many"] = many(predictor, args.symbols)
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
