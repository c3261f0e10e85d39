"""Fit a checkpoint's temperature and width by horizon, and show what that does to windows it was not fitted on.

    python -m benchmarks.calibration --model kronos-nano --temperatures .9,1,1.1 --json

Fitted on held-apart symbols of ../shared/data before the files' cutoffs, judged on the same symbols after them: no
window is used twice, and training saw neither. The printed "calibration" is the entry for the model's config.json.
The checkpoint's own calibration is switched off while fitting, so that repeated runs do not stack up.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.quality import say
from benchmarks.quality_data import DATA, real_windows

from kronos.evaluation import calibrate
from kronos.evaluation.windows import Window
from kronos.protocol import Forecaster
from kronos.workflows.forecasters import load_forecaster


def sampled(forecaster: Forecaster, windows: list[Window], samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths (N, S, H) and truths (N, H) in units of each context's volatility."""

    def tell(done: int) -> None:
        if done % 256 == 0:
            say(f"{done}/{len(windows)} windows")

    return calibrate.sample_closes(forecaster, windows, samples, seed, tell)


def report(measured: calibrate.Coverage) -> dict[str, Any]:
    """Rounded for reading."""
    return {
        "crps": round(measured.crps, 5),
        "coverage": {f"{level:.0%}": round(value, 4) for level, value in measured.covered.items()},
        "coverage_90_by_step": [round(value, 3) for value in measured.by_step[0.9]],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, fit, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kronos-nano")
    parser.add_argument("--temperatures", default="1.0", help="comma-separated grid")
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--windows", type=int, default=600, help="for fitting, and again for judging")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    windows = {
        scope: real_windows(Path(args.data), args.context, args.horizon, args.windows, args.seed, scope)[0]
        for scope in ("held-apart-before", "held-apart")
    }
    say(f"{len(windows['held-apart-before'])} windows to fit, {len(windows['held-apart'])} to judge")
    fitted: dict[float, np.ndarray] = {}
    truth = np.empty(0)
    for temperature in (float(text) for text in args.temperatures.split(",")):
        say(f"temperature {temperature:g}")
        forecaster = raw_forecaster(args.model, args.device, temperature)
        fitted[temperature], truth = sampled(forecaster, windows["held-apart-before"], args.samples, args.seed)
    best = calibrate.fit_temperature(fitted, truth)
    width = calibrate.fit_width(fitted[best], truth)
    say(f"judging at temperature {best:g}")
    forecaster = raw_forecaster(args.model, args.device, best)
    later, later_truth = sampled(forecaster, windows["held-apart"], args.samples, args.seed)
    document = {
        "calibration": {"temperature": best, "width": width.as_dict()},
        "fit": {f"{t:g}": report(calibrate.measure(paths, truth)) for t, paths in fitted.items()},
        "judged_before": report(calibrate.measure(later, later_truth)),
        "judged_after": report(calibrate.measure(width.apply(later), later_truth)),
        "settings": vars(args),
    }
    print(json.dumps(document, indent=None if args.json else 1))


def raw_forecaster(model: str, device: str | None, temperature: float, top_p: float = 1.0) -> Forecaster:
    """The checkpoint without its own calibration; nothing cut from the tails unless asked."""
    return load_forecaster(model, device, calibrated=False, temperature=temperature, top_k=0, top_p=top_p)


if __name__ == "__main__":
    main()
