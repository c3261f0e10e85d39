"""What the dependency layer is worth, read off one trained network: no training, a minute of processor time.

    python -m benchmarks.experiments_tokens --model kronos-nano --arrays runs/arrays

On later dates of held-apart symbols, the fine token's nats are given for the true coarse token, for the same without
rotated keys (as published checkpoints decode), and for a fine token that does not know the coarse one: the mean of
p(s2 | s1) over coarse tokens drawn from p(s1). The last is the best that training on sampled coarse tokens can reach,
since there the target is independent of the token it is conditioned on. Drawn pairs that no bar of the other windows
shows are "strange"; true pairs are held to the same reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kronos.bars.arrays import BarArrays
from kronos.model import Kronos, KronosTokenizer
from kronos.training.config import RunConfig
from kronos.training.data import samplers
from kronos.training.stages import make_batch


def drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token a position: (B, T, V) -> (B, T)."""
    flat = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=generator)
    return flat.view(logits.shape[:-1])


def fine_logits(model: Kronos, hidden: Tensor, s1: Tensor, rotated: bool = True) -> Tensor:
    """(B, T, V2) scores of the fine tokens that go with coarse tokens (B, T)."""
    fine = model.dep_layer(hidden, model.embedding.emb_s1(s1), rotate_positions=rotated)
    return torch.as_tensor(model.head.proj_s2(fine))


def nats(logits: Tensor, target: Tensor) -> Tensor:
    """(B, T) negative log-likelihoods."""
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")


def strange(pairs: list[np.ndarray], true: list[np.ndarray]) -> float:
    """Share of pairs that no true bar of the other batches shows, mean over batches."""
    rest = [np.concatenate(true[:k] + true[k + 1 :]) for k in range(len(true))]
    return float(np.mean([np.mean(~np.isin(mine, others)) for mine, others in zip(pairs, rest, strict=True)]))


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments_tokens", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="kronos-nano")
    parser.add_argument("--arrays", type=Path, default=Path("runs/arrays"))
    parser.add_argument("--batches", type=int, default=6, help="of 8 windows of 385 bars")
    parser.add_argument("--draws", type=int, default=24, help="coarse tokens to average over")
    args = parser.parse_args(argv)
    model = Kronos.from_pretrained(args.model)
    tokenizer = KronosTokenizer.from_pretrained(args.model)
    settings = {"arrays": args.arrays, "window": 385, "boundary": [32, 256]}
    config = RunConfig.from_dict({"out": "unused", "data": settings})
    _, validation = samplers(config, BarArrays.open(args.arrays), 8)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("s1", "s2", "s2 unrotated", "s2 without s1")}
    pairs: dict[str, list[np.ndarray]] = {name: [] for name in ("true", "drawn", "drawn apart")}
    for k in range(args.batches):
        batch = make_batch(validation(k), tokenizer.config.bar_transform, config.data.boundary[1])
        s1, s2 = tokenizer.encode(batch.features, half=True)
        asked, next1, next2 = batch.asked[:, 1:].bool(), s1[:, 1:], s2[:, 1:]
        coarse, hidden = model.decode_s1(s1[:, :-1], s2[:, :-1], batch.stamps[:, :-1])
        ask = partial(fine_logits, model, hidden)
        blind = torch.stack([-nats(ask(drawn(coarse, generator)), next2) for _ in range(args.draws)])
        scores = {
            "s1": nats(coarse, next1),
            "s2": nats(ask(next1), next2),
            "s2 unrotated": nats(ask(next1, rotated=False), next2),
            "s2 without s1": np.log(args.draws) - blind.logsumexp(0),
        }
        for name, value in scores.items():
            found[name].append(value[asked].numpy())
        made, other = drawn(coarse, generator), drawn(coarse, generator)
        for name, first, second in (
            ("true", next1, next2),
            ("drawn", made, drawn(ask(made), generator)),
            ("drawn apart", made, drawn(ask(other), generator)),
        ):
            pairs[name].append(((first << tokenizer.config.s2_bits) + second)[asked].numpy())
    for name, values in found.items():
        print(f"{name:14} {np.concatenate(values).mean():.3f} nats")
    extra = np.concatenate(found["s2 unrotated"]) - np.concatenate(found["s2"])
    print(f"unrotated costs {extra.mean():+.4f} nats (standard error over bars {extra.std() / len(extra) ** 0.5:.4f})")
    for name, values in pairs.items():
        print(f"strange pairs, {name:12} {strange(values, pairs['true']):.1%}")


if __name__ == "__main__":
    main()
