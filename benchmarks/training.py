"""How many bars a second each size trains on here, and what that means for twelve billion bars.

    python -m benchmarks.training                         # nano, mini and small; base and large take gigabytes
    python -m benchmarks.training --sizes base --windows 1 --steps 1
    python -m benchmarks.training --json

Processor time of one thread, of whole steps: windows are drawn, tokenized, forward, backward, AdamW, in float32. The
arithmetic per bar is counted from the shapes; the rate of a GPU is not measured here but an assumption that is printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kronos.bars.arrays import write_arrays
from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.training.config import RunConfig, read_recipe
from kronos.training.data import open_arrays, samplers
from kronos.training.run import build_optimizer
from kronos.training.stages import ModelStage

ROOT = Path(__file__).parents[1]
SIZES = ("nano", "mini", "small", "base", "large")
BARS = 12.11e9  # of the published pre-training
H100 = 989e12  # dense bfloat16 operations a second, by its data sheet
# Share of that which a run may get. Nano was measured: three runs side by side, 3 × 1.1 million bars a second on one
# H100 (docs/experiments.md); the others are assumed to lie between it and what large language models reach.
SHARE = {"nano": 0.13, "mini": 0.13, "small": 0.25, "base": 0.35, "large": 0.40}


@dataclass(frozen=True)
class Rate:
    """One size: what it is, what was measured, what follows from it."""

    size: str
    parameters: int
    window: int  # bars
    operations_per_bar: float
    bars_per_second: float | None  # one thread of this processor; None: not measured
    gpu_bars_per_second: float
    gpu_hours: float  # to BARS


def operations_per_bar(config: KronosConfig, window: int, recompute: bool) -> float:
    """Multiplications and additions of a training step, per bar: forward, and twice that backward.

    Six a weight of the linear maps, and the attention's scores and sums over half a window on average; with activation
    checkpointing the blocks' forward once more.
    """
    c = config
    block = 4 * c.d_model**2 + 3 * c.d_model * c.ff_dim
    outside = 2 * c.d_model**2 + 4 * c.d_model**2 + c.d_model * (2**c.s1_bits + 2**c.s2_bits)
    attention = 2 * c.d_model * window / 2
    blocks = c.n_layers * (2 * block + 2 * attention)
    return float((4 if recompute else 3) * blocks + 3 * (2 * outside + 2 * attention))


def measure(size: str, windows: int, steps: int) -> tuple[float, int]:
    """Bars per second of processor time, and parameters."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = recipe_config(size, Path(folder))
        stage = ModelStage(config)
        sampler = samplers(config, open_arrays(config), windows)[0]
        optimizer = build_optimizer(stage.module, config.optim_of("model"), torch.device("cpu"))
        spent = bars = 0.0
        for step in range(steps + 1):
            began = time.process_time()
            batch = stage.batch(sampler(step))
            stage.loss(batch, step)[0].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            if step:  # the first one allocates
                spent += time.process_time() - began
                bars += batch.features.shape[0] * batch.features.shape[1]
        return bars / spent, sum(p.numel() for p in stage.module.parameters())


def _recipe(size: str) -> RunConfig:
    return next(part.config for part in read_recipe(ROOT / "configs" / "pretrain.yaml") if part.name == size)


def recipe_config(size: str, folder: Path | None, device: str = "cpu") -> RunConfig:
    """The size's recipe; with a folder, on random walks that are written there, with a fresh tokenizer."""
    run = _recipe(size).model_copy(update={"device": device})
    if folder is None:
        return run
    arrays = folder / "arrays"
    write_arrays([("walks", f"S{i}", _walk(i, 4 * run.data.window)) for i in range(4)], arrays)
    assert isinstance(run.tokenizer, dict)
    preset = {"preset": run.tokenizer["preset"], "bar_transform": "returns"}
    tokenizer = KronosTokenizer.init(TokenizerConfig.from_dict(_shape(preset)))
    tokenizer.save_pretrained(folder / "tokenizer")
    data = run.data.model_copy(update={"arrays": arrays, "bars": (), "hold_out": "dates", "embargo": 0})
    data = data.model_copy(update={"later_share": 0.3})
    return run.model_copy(update={"out": folder, "data": data})


def _shape(named: dict[str, object]) -> dict[str, object]:
    from kronos.model import TOKENIZER_PRESETS

    return {**asdict(TOKENIZER_PRESETS[str(named["preset"])]), "bar_transform": "returns"}


def _walk(seed: int, bars: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    times = pd.date_range("2020-01-01", periods=bars, freq="1h")
    frame = pd.DataFrame({"timestamp": times, "open": opened, "close": close, "volume": rng.gamma(2, 100, bars)})
    frame["high"], frame["low"] = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    return frame.assign(amount=frame["volume"] * close)


def rate_of(size: str, windows: int, steps: int) -> Rate:
    """Measures a size (not where ``steps`` is 0) and reckons what follows."""
    run = _recipe(size)
    window = run.data.window - 1
    config = _network(run)
    each = operations_per_bar(config, window, run.checkpoint_activations)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Kronos(config).parameters())
    found = measure(size, windows, steps)[0] if steps else None
    fast = SHARE[size] * H100 / each
    return Rate(size, parameters, window, each, found, fast, BARS / fast / 3600)


def _network(run: RunConfig) -> KronosConfig:
    from kronos.model import MODEL_PRESETS

    assert isinstance(run.model, dict)
    named = dict(run.model)
    preset = named.pop("preset", None)
    return MODEL_PRESETS[preset] if preset else KronosConfig.from_dict(named)


def table(rates: list[Rate]) -> str:
    """Markdown."""
    lines = [
        "| size | parameters | operations a bar | CPU thread, bars/s | H100 assumed at | bars/s | hours to 12.11 B |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in rates:
        measured = "–" if rate.bars_per_second is None else f"{rate.bars_per_second:,.0f}"
        lines.append(
            f"| {rate.size} | {rate.parameters / 1e6:.1f} M | {rate.operations_per_bar / 1e6:,.0f} M | {measured} | "
            f"{SHARE[rate.size]:.0%} | {rate.gpu_bars_per_second:,.0f} | {rate.gpu_hours:,.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["nano", "mini", "small"])
    parser.add_argument("--windows", type=int, default=4, help="windows a step")
    parser.add_argument("--steps", type=int, default=2, help="steps that are timed; 0 only reckons")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rates = [rate_of(size, args.windows, args.steps) for size in args.sizes]
    print(json.dumps([asdict(rate) for rate in rates], indent=2) if args.json else table(rates))


if __name__ == "__main__":
    main()
