"""What a precision gains and what it costs: seconds of one path, tokens that stay the same, CRPS on real bars.

    python -m benchmarks.precision [--windows 64] [--json] [--keep]

Tokens and CRPS are kronos-nano's on the packaged bars, S&P 500 daily and EURUSD hourly in equal parts, context 256,
24 bars ahead, 50 paths. A pair is the coarse and the fine token of the bar after a context; it is compared with
float32's, greedy and drawn from the same random numbers. The error of the CRPS ratio is over windows. kronos-nano may
have seen these bars: that biases the CRPS of all precisions alike, and only their ratio is reported.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import benchmarks.decode
import numpy as np
import torch
from benchmarks.decode import Bench, Case
from benchmarks.results import keep

from kronos import KronosPredictor
from kronos.bars import sample_bars
from kronos.bars.arrays import time_features
from kronos.bars.schema import FEATURES
from kronos.evaluation.metrics import crps
from kronos.inference.decode import continue_batch
from kronos.inference.engine import DTYPES, DecodeRequest, make_batch
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings

CONTEXT, HORIZON, PATHS = 256, 24, 50
SPEED = {"mini": Case(), "small": Case("small")}


def windows(predictor: KronosPredictor, count: int) -> tuple[list[DecodeRequest], list[Any], np.ndarray[Any, Any]]:
    """Requests, the scales of their contexts, and the closes that came, (W, H) as log distance in context moves."""
    requests, states, truth = [], [], []
    for name in ("sp500", "eurusd"):
        bars = sample_bars(name)
        values, stamps = bars[list(FEATURES)].to_numpy(float), time_features(bars["timestamp"].dt)
        lost = predictor.transform.lost
        for first in np.linspace(0, len(values) - CONTEXT - HORIZON - lost, count // 2).astype(int):
            cut = first + CONTEXT + lost
            past, ahead = values[first:cut], values[cut : cut + HORIZON, 3]
            state = predictor.transform.fit(past, clip=predictor.clip)
            draws = uniforms(0, [bytes(name, "ascii") + int(first).to_bytes(4, "little")], PATHS, HORIZON)[0]
            features = predictor.transform.encode(past, state)
            requests.append(DecodeRequest(features, stamps[first + lost : cut + HORIZON], draws))
            states.append((state, past[-1, 3], np.diff(np.log(past[:, 3])).std()))
            truth.append(np.log(ahead / past[-1, 3]) / states[-1][2])
    return requests, states, np.array(truth)


def judged(predictor: KronosPredictor, requests: list[DecodeRequest], states: list[Any], truth: Any) -> dict[str, Any]:
    """First pairs, greedy and drawn, and the mean CRPS of each window."""
    engine, settings = predictor.engine, DecodeSettings()
    pairs = []
    batch = make_batch(requests, slice(0, 1), engine.device)
    batch = type(batch)(batch.features, batch.lengths, batch.stamps, batch.future[:, :1], batch.uniforms[:, :, :1])
    for chosen in (DecodeSettings(0), settings):
        found = continue_batch(*engine.weights(), batch, chosen, compiled=engine.compiled_model(requests))
        pairs.append(torch.stack((found.s1, found.s2)).flatten(1).numpy())
    sampled = engine.run(requests, settings)
    closes = []
    for features, (state, last, move) in zip(sampled, states, strict=True):
        closes.append(np.log(predictor.transform.decode(features, state)[..., 3] / last) / move)
    by_window = crps(truth, np.moveaxis(np.array(closes), 1, -1)).mean(axis=1)
    return {"greedy": pairs[0], "drawn": pairs[1], "crps": by_window}


def measure(count: int, clock: str) -> dict[str, Any]:
    benchmarks.decode._clock = clock
    found = {}
    for dtype in DTYPES:
        predictor = KronosPredictor.from_pretrained("kronos-nano", "cpu", dtype=dtype, compiled=True)
        found[dtype] = judged(predictor, *windows(predictor, count))
    exact = found["float32"]
    dtypes = {}
    for dtype, one in found.items():
        gain = (one["crps"] - exact["crps"]) / exact["crps"].mean()
        dtypes[dtype] = {
            "same_greedy": float((one["greedy"] == exact["greedy"]).all(0).mean()),
            "same_drawn": float((one["drawn"] == exact["drawn"]).all(0).mean()),
            "crps_ratio": float(1 + gain.mean()),
            "crps_ratio_error": float(gain.std() / np.sqrt(len(gain))),
        }
    times: dict[str, dict[str, float]] = {}
    for name, case in SPEED.items():
        for dtype in DTYPES:
            bench = Bench(case, dtype, compiled=True)
            bench.run_engine()
            times.setdefault(name, {})[dtype] = min(bench.run_engine() for _ in range(3))
    return {"windows": count, "clock": clock, "threads": torch.get_num_threads(), "dtypes": dtypes, "seconds": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/precision.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = measure(args.windows, args.clock)
    if args.keep:
        keep("precision", report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
