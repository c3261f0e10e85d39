"""Peak memory of many paths: 100 paths, context 2,000, horizon 48, mini.

    python -m benchmarks.memory [--steps compiled] [--json] [--keep]

The yardstick is what cannot be avoided: the weights, the keys and values of one context and of 100 suffixes. The peak
is the process's largest resident size less its size just before the weights are loaded.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch
from benchmarks.results import keep

from kronos.inference.attention import cache_bytes
from kronos.inference.engine import DecodeEngine, DecodeRequest
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings
from kronos.model import MODEL_PRESETS, TOKENIZER_PRESETS, Kronos, KronosTokenizer

PATHS, CONTEXT, HORIZON = 100, 2000, 48


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def run(model: Kronos, tokenizer: KronosTokenizer, context: int, paths: int, compiled: bool) -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(context, 6)).astype(np.float32)
    stamps = np.ones((context + HORIZON, 5), dtype=np.int64)
    request = DecodeRequest(features, stamps, uniforms(0, [b"series"], paths, HORIZON)[0])
    engine = DecodeEngine(model, tokenizer, compiled=compiled)
    engine.run([request], DecodeSettings(max_context=2048, window_stride=256))


def measure(compiled: bool) -> dict[str, float]:
    """Megabytes: the peak, the yardstick, and their ratio."""
    small = Kronos.init(MODEL_PRESETS["mini"]).eval(), KronosTokenizer.init(TOKENIZER_PRESETS["2k"]).eval()
    with tempfile.TemporaryDirectory() as folder:
        for module, kind in zip(small, ("model", "tokenizer"), strict=True):
            module.save_pretrained(Path(folder) / kind)
        run(*small, 64, 1, compiled)  # libraries are loaded and their own buffers are taken
        del small, module
        gc.collect()
        before = resident()
        model, tokenizer = Kronos.from_pretrained(folder), KronosTokenizer.from_pretrained(folder)
    run(model, tokenizer, CONTEXT, PATHS, compiled)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    weights = sum(p.numel() * 4 for m in (model, tokenizer) for p in m.parameters())
    c, t = model.config, tokenizer.config
    caches = cache_bytes(c.n_layers + 1, c.d_model, PATHS, CONTEXT, HORIZON, 4)
    caches += cache_bytes(t.n_dec_layers - 1, t.d_model, PATHS, CONTEXT, HORIZON, 4)
    return {"peak_mb": peak / 1e6, "needed_mb": (weights + caches) / 1e6, "ratio": peak / (weights + caches)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--steps", choices=("compiled", "torch"), default="torch", help="torch: what the engine chooses"
    )
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/memory.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = measure(args.steps == "compiled")
    if args.keep:
        keep("memory", report)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print("peak {peak_mb:.0f} MB, needed {needed_mb:.0f} MB, ratio {ratio:.2f} (target 1.5)".format(**report))


if __name__ == "__main__":
    main()
