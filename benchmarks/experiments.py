"""Controlled experiments: small networks that differ in one thing, same budget, several seeds, the same test windows.

    python -m benchmarks.experiments run --arrays runs/arrays --out runs/experiments      # resumable, one run at a time
    python -m benchmarks.experiments show --out runs/experiments                          # the table so far

Every arm trains a tokenizer (shared by arms that read bars alike) and a network on the same bars, steps and seeds, and
forecasts the same later dates of held-apart symbols and the same synthetic random walks. ``show`` compares each arm
with ``base`` window by window (averaged over seeds), intervals by a bootstrap of clusters of market and time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.quality import YARDSTICK, cluster_labels, figures, say, scored, tokenizer_figures, walk_figures
from benchmarks.quality_data import DATA, random_walks, real_windows

from kronos.bars.arrays import BarArrays
from kronos.bars.transform import BarTransform, get_transform
from kronos.bars.windows import Windows, WindowSampler
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.statistics import cluster_bootstrap, ratio_of_means
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos, KronosTokenizer
from kronos.training.config import RunConfig
from kronos.training.data import samplers
from kronos.training.schedule import build_optimizer, learning_rate
from kronos.training.stages import Batch, ModelStage, Stage, TokenizerStage
from kronos.training.state import writing
from kronos.workflows.forecasters import Configured

CONTEXT, HORIZON, WINDOWS_SEED = 256, 24, 1


@dataclass(frozen=True)
class Arm:
    """What one arm does differently from ``base``.

    Args:
        transform: "returns", "zscore" or "running" (:mod:`kronos.bars.transform`).
        bits: of each of the two tokens.
        whole: statistics of the whole window, future included, and the loss at every bar: the published mistake.
        every_bar: the loss at every bar, where no statistic knows the future.
        teacher_forcing: share of steps that give the fine token the true coarse one.
        data: other settings of the windows.
        unrotated: nothing is trained: ``base``, decoded without rotary positions in the dependency layer.
    """

    transform: str = "returns"
    bits: int = 8
    whole: bool = False
    every_bar: bool = False
    teacher_forcing: float = 1.0
    data: dict[str, Any] = field(default_factory=dict)
    unrotated: bool = False

    @property
    def tokenizer(self) -> str:
        return f"{self.transform}-{self.bits}"

    def bar_transform(self) -> BarTransform:
        return get_transform(self.transform)

    def batch(self, windows: Windows) -> Batch:
        """Features and the bars that are asked about."""
        transform = self.bar_transform()
        known = windows.valid if self.whole else windows.boundary
        features = transform.encode(windows.values, transform.fit(windows.values, known))
        position = np.arange(transform.lost, windows.values.shape[1])
        real = position < windows.valid[:, None]
        asked = real if self.whole or self.every_bar else real & (position >= windows.boundary[:, None])
        stamps = np.ascontiguousarray(windows.stamps[:, transform.lost :])
        masks = (torch.from_numpy(mask.astype(np.float32)) for mask in (real, asked))
        return Batch(torch.from_numpy(features), torch.from_numpy(stamps), *masks)


ARMS: dict[str, Arm] = {  # in the order of the queue
    "base": Arm(),
    "running": Arm(transform="running", every_bar=True),
    "zscore": Arm(transform="zscore"),
    "whole-returns": Arm(whole=True),
    "whole-zscore": Arm(transform="zscore", whole=True),
    "sampled-s1": Arm(teacher_forcing=0.0),
    "unrotated": Arm(unrotated=True),
    "bits-10": Arm(bits=10),
    "flips": Arm(data={"coin_flips": 0.85}),
    "running-after": Arm(transform="running"),
    "groups-alike": Arm(data={"group_power": 0.0}),
    "bars-alike": Arm(data={"group_power": 1.0}),
}


@dataclass(frozen=True)
class Budget:
    """The same for every arm."""

    tokenizer_steps: int
    model_steps: int
    windows: int
    walks: int
    samples: int


def run_config(arm: Arm, out: Path, arrays: Path, seed: int, budget: Budget) -> RunConfig:
    """The settings of one run."""
    bits = {"s1_bits": arm.bits, "s2_bits": arm.bits}
    quiet = {"ffn_dropout_p": 0.0, "attn_dropout_p": 0.0, "resid_dropout_p": 0.0}
    tokenizer = {
        **bits, **quiet, "d_in": 6, "d_model": 48, "n_heads": 4, "ff_dim": 128, "n_enc_layers": 3, "n_dec_layers": 3,
        "beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4, "bar_transform": arm.transform,
    }  # fmt: skip
    model = {
        **bits, **quiet, "d_model": 64, "n_heads": 4, "ff_dim": 176, "n_layers": 3, "token_dropout_p": 0.0,
        "learn_te": True, "consistent": True, "max_context": 512, "time_features": ["minute", "hour", "weekday"],
    }  # fmt: skip
    data = {"arrays": arrays, "window": 257, "boundary": [48, 192], "embargo": 0, **arm.data}
    stages = {
        "tokenizer": {"steps": budget.tokenizer_steps, "weight_decay": 0.01, "clip_norm": 2.0},
        "model": {"steps": budget.model_steps},
    }
    values = {"out": out, "data": data, "stages": stages, "tokenizer": tokenizer, "model": model, "seed": seed}
    return RunConfig.from_dict(
        values | {"optim": {"lr": 1.5e-3}, "loss": {"teacher_forcing": arm.teacher_forcing}, "device": "cpu"}
    )


def train(stage: Stage, config: RunConfig, arm: Arm, sampler: WindowSampler) -> None:
    """One stage from its first step to its last."""
    optim, began = config.optim_of(stage.name), time.process_time()
    optimizer = build_optimizer(stage.module, optim, torch.device("cpu"))
    torch.manual_seed(config.seed)  # the sampled coarse tokens
    for step in range(optim.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, optim)
        optimizer.zero_grad(set_to_none=True)
        loss, parts = stage.loss(arm.batch(sampler(step)), step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(stage.module.parameters(), optim.clip_norm)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == optim.steps:
            shown = " ".join(f"{name} {float(value.detach()):.3f}" for name, value in parts.items())
            say(f"  {stage.name} {step + 1}/{optim.steps}: {shown}, {time.process_time() - began:.0f} s")
    stage.checkpoint(stage.module.state_dict()).save_pretrained(config.out / stage.name)


@torch.no_grad()
def token_figures(stage: ModelStage, arm: Arm, sampler: WindowSampler, batches: int) -> dict[str, float]:
    """Nats of the true tokens, statistics from the context alone, and how often drawn pairs are none that bars make.

    ``strange`` is the share of drawn (s1, s2) pairs that the true bars of these batches never show; ``strange_true``
    the same of the true pairs of one batch among those of the others: what a perfect model would score.
    """
    honest = dataclasses.replace(arm, whole=False, every_bar=False)
    stage.module.eval()
    generator, sums, weight = torch.Generator().manual_seed(0), np.zeros(2), 0.0
    true, drawn = [], []
    for k in range(batches):
        batch = honest.batch(sampler(k))
        s1, s2 = stage.tokenizer.encode(batch.features, half=True)
        asked = batch.asked[:, 1:].bool()
        logits, hidden = stage.model.decode_s1(s1[:, :-1], s2[:, :-1], batch.stamps[:, :-1])
        fine = stage.model.decode_s2(hidden, s1[:, 1:])
        for i, (scores, target) in enumerate(((logits, s1), (fine, s2))):
            nats = torch.nn.functional.cross_entropy(scores[asked], target[:, 1:][asked], reduction="sum")
            sums[i] += float(nats)
        weight += float(asked.sum())
        made = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=generator).view_as(s1[:, 1:])
        scores = stage.model.decode_s2(hidden, made).softmax(-1)
        follows = torch.multinomial(scores.flatten(0, 1), 1, generator=generator).view_as(made)
        true.append(((s1[:, 1:] << arm.bits) + s2[:, 1:])[asked].numpy())
        drawn.append(((made << arm.bits) + follows)[asked].numpy())
    rest = [np.concatenate(true[:k] + true[k + 1 :]) for k in range(batches)]  # one reference for both
    strange, strange_true = (
        float(np.mean([np.mean(~np.isin(pairs[k], rest[k])) for k in range(batches)])) for pairs in (drawn, true)
    )
    s1_nats, s2_nats = sums / weight
    return {"s1": s1_nats, "s2": s2_nats, "joint": s1_nats + s2_nats, "strange": strange, "strange_true": strange_true}


class Bench:
    """The test windows, drawn once, and what the walk that resamples the context scores on them."""

    def __init__(self, data: Path, budget: Budget) -> None:
        self.budget = budget
        self.windows, _ = real_windows(data, CONTEXT, HORIZON, budget.windows, WINDOWS_SEED, "held-apart")
        self.walks = random_walks(budget.walks, CONTEXT, HORIZON, WINDOWS_SEED)
        self.clusters = cluster_labels(self.windows)
        self.yardstick = scored(make_baselines([YARDSTICK])[0], self.windows, budget.samples, 0)

    def judge(self, forecaster: Any) -> dict[str, Any]:
        """Figures of one forecaster, with the CRPS of every window for paired comparisons."""
        table = scored(forecaster, self.windows, self.budget.samples, 0)
        return {
            "figures": figures(table, self.yardstick, self.clusters),
            "walks": walk_figures(forecaster, self.walks, self.budget.samples, 0),
            "tokenizer": tokenizer_figures(forecaster, self.windows),
            "crps": table["crps"].round(5).tolist(),
        }


def run_one(
    name: str, seed: int, out: Path, arrays: Path, budget: Budget, bench: Callable[[], Bench]
) -> dict[str, Any]:
    """Trains what is not there yet, and judges it."""
    arm, began = ARMS[name], time.process_time()
    home = out / f"{'base' if arm.unrotated else name}-{seed}"
    config = run_config(arm, home, arrays, seed, budget)
    training, validation = samplers(config, BarArrays.open(arrays), config.optim.batch_size)
    shared = out / f"tokenizer-{arm.tokenizer}-{seed}"
    if not (shared / "tokenizer").exists():
        say(f"{shared.name}")
        plain = Arm(arm.transform, arm.bits)
        first = run_config(plain, shared, arrays, seed, budget)
        train(TokenizerStage(first), first, plain, samplers(first, BarArrays.open(arrays), 16)[0])
    config = config.model_copy(update={"tokenizer": str(shared / "tokenizer")})
    if not (home / "model").exists():
        say(f"{home.name}")
        train(ModelStage(config), config, arm, training)
    stage = ModelStage(config)
    stage.module = stage.model = Kronos.from_pretrained(home / "model")
    if arm.unrotated:
        stage.model.config = dataclasses.replace(stage.model.config, consistent=False)
    tokens = token_figures(stage, arm, validation, batches=8)
    predictor = KronosPredictor(stage.model, KronosTokenizer.from_pretrained(shared / "tokenizer"), "cpu", name=name)
    forecaster = Configured(predictor, name, temperature=1.0, top_k=0, top_p=1.0)  # the same for all
    judged = bench().judge(forecaster)
    return {"arm": name, "seed": seed, "tokens": tokens, **judged, "processor_s": round(time.process_time() - began)}


def run(args: argparse.Namespace) -> None:
    """Works off the queue; a finished run is a file and is not repeated."""
    budget = Budget(args.tokenizer_steps, args.model_steps, args.windows, args.walks, args.samples)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    drawn: list[Bench] = []

    def bench() -> Bench:
        if not drawn:
            drawn.append(Bench(args.data, budget))
        return drawn[0]

    for seed in range(args.seeds):
        for name in args.arms.split(","):
            path = args.out / f"{name}-{seed}.json"
            if path.exists():
                continue
            document = run_one(name, seed, args.out, args.arrays, budget, bench)
            document |= {"budget": dataclasses.asdict(budget), "clusters": bench().clusters.tolist()}
            temporary = path.with_suffix(".tmp")
            with writing(temporary):
                temporary.write_text(json.dumps(document), encoding="utf-8")
                temporary.replace(path)
            say(f"{path.stem}: CRPS ratio {document['figures']['crps_ratio']['value']:.4f}")


def show(args: argparse.Namespace) -> None:
    """One row an arm, means over its seeds; CRPS as a share of base's on the same windows and seeds."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(args.out.glob("*-[0-9].json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(document["arm"], {})[document["seed"]] = document
    print(
        "| arm | seeds | s1 / s2 / joint nats | strange pairs | CRPS / walk | CRPS / base [95 %], each seed "
        "| covers 50 / 90 % | volatility | slope on walks | on bars | MSE | codes s1 / s2 |\n" + "|---" * 12 + "|"
    )
    for name in (name for name in ARMS if name in found):
        print(_row(name, found[name], found.get("base", {})))


def _row(name: str, runs: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> str:
    def mean(*keys: str) -> float:
        values = []
        for document in runs.values():
            value: Any = document
            for key in keys:
                value = value[key]
            values.append(value)
        return float(np.mean(values))

    both = sorted(runs.keys() & base.keys())
    versus = "–"
    if both and name != "base":
        pairs = np.stack([[runs[s]["crps"] for s in both], [base[s]["crps"] for s in both]])  # (2, seeds, windows)
        clusters = np.array(runs[both[0]]["clusters"])
        e = cluster_bootstrap(clusters, pairs.mean(axis=1).T, ratio_of_means)
        each = ", ".join(f"{own / other:.3f}" for own, other in pairs.mean(axis=2).T)
        versus = f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]; {each}"
    nats = " / ".join(f"{mean('tokens', part):.3f}" for part in ("s1", "s2", "joint"))
    odd = f"{mean('tokens', 'strange'):.1%} ({mean('tokens', 'strange_true'):.1%})"
    cover = " / ".join(f"{mean('figures', f'coverage_{level}', 'value'):.3f}" for level in (50, 90))
    error = mean("walks", "standard_error") / np.sqrt(len(runs))
    codes = " / ".join(f"{mean('tokenizer', f'{part}_used'):.0%}" for part in ("s1", "s2"))
    squared = np.mean([np.mean(d["tokenizer"]["mse_by_feature"]) for d in runs.values()])
    return (
        f"| {name} | {len(runs)} | {nats} | {odd} | {mean('figures', 'crps_ratio', 'value'):.3f} | {versus} | {cover} "
        f"| {mean('figures', 'log_volatility_correlation'):.2f} | {mean('walks', 'slope'):+.3f} ({error:.3f}) "
        f"| {mean('figures', 'slope_predicted_on_past'):+.3f} | {squared:.3f} | {codes} |"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--arrays", type=Path, default=Path("runs/arrays"), help="made by scripts/build_arrays.py")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokenizer-steps", type=int, default=300)
    parser.add_argument("--model-steps", type=int, default=400)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--walks", type=int, default=200)
    parser.add_argument("--samples", type=int, default=30)
    args = parser.parse_args(argv)
    (run if args.what == "run" else show)(args)


if __name__ == "__main__":
    main()
