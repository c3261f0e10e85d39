"""What the published trainers do to a tokenizer and a network, one step each, in our own words.

``finetune`` wraps them for several processes, and here one of them talks to itself over gloo; ``finetune_csv`` trains
them as they are, from a checkpoint or from its ``config.json`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from kronos import KronosPredictor
from kronos.model.checkpoint import WEIGHTS_FILE
from kronos.published import Kronos, KronosTokenizer, calc_time_stamps

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"
BARS = pd.read_csv(REFERENCE / "bars.csv", parse_dates=["timestamps"])
COLUMNS = ["open", "high", "low", "close", "volume", "amount"]
CONTEXT, WINDOW, BATCH = 24, 33, 4

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def alone_in_a_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def batch() -> Batch:
    """(B, T, 6) windows, normalised by their context and clipped; (B, T, 5) their times, as floats."""
    stamps = calc_time_stamps(BARS["timestamps"]).to_numpy()
    parts = [slice(start, start + WINDOW) for start in range(0, 7 * BATCH, 7)]
    x = torch.tensor(BARS[COLUMNS].to_numpy(), dtype=torch.float32)
    windows = [
        (x[part] - x[part][:CONTEXT].mean(0)) / (x[part][:CONTEXT].std(0, correction=0) + 1e-5) for part in parts
    ]
    times = [torch.tensor(stamps[part], dtype=torch.float32) for part in parts]
    return torch.stack(windows).clip(-5, 5), torch.stack(times)


def trainer(module: nn.Module, rate: float, **optim: Any) -> tuple[torch.optim.Optimizer, Any]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.1, **optim)
    schedule = {"steps_per_epoch": 2, "epochs": 1, "pct_start": 0.03, "div_factor": 10}
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, **schedule)


def tokenizer_step(module: nn.Module, x: Tensor, parts: int = 2) -> float:
    """A batch in equal parts, whose gradients add up."""
    optimizer, schedule = trainer(module, 2e-4)
    module.train()
    total = 0.0
    for part in x.split(len(x) // parts):
        (coarse, full), quantizer, _, _ = module(part)
        loss = (mse_loss(coarse, part) + mse_loss(full, part) + quantizer) / 2
        (loss / parts).backward()
        total += loss.item() / parts
    torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm=2.0)
    optimizer.step()
    schedule.step()
    return total


def network_step(module: nn.Module, head: nn.Module, tokenizer: KronosTokenizer, windows: Batch) -> float:
    x, stamps = windows
    optimizer, schedule = trainer(module, 4e-5, betas=(0.9, 0.95))
    module.train()
    with torch.no_grad():
        coarse, fine = tokenizer.encode(x, half=True)
    logits = module(coarse[:, :-1], fine[:, :-1], stamps[:, :-1, :])
    loss, coarse_loss, fine_loss = head.compute_loss(logits[0], logits[1], coarse[:, 1:], fine[:, 1:])
    assert loss.item() == pytest.approx((coarse_loss.item() + fine_loss.item()) / 2)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm=3.0)
    optimizer.step()
    schedule.step()
    return loss.item()


def moved(before: dict[str, Tensor], module: nn.Module) -> bool:
    """Whether the step has changed every weight that has a gradient; all must have one where processes share them."""
    return all(not torch.equal(before[name], value) for name, value in module.named_parameters())


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@pytest.mark.usefixtures("alone_in_a_group")
def test_both_trainers_of_the_distributed_recipe(tmp_path: Path) -> None:
    x, stamps = batch()
    tokenizer = KronosTokenizer.from_pretrained(REFERENCE / "tokenizer")
    before, wrapped = weights(tokenizer), DistributedDataParallel(tokenizer, find_unused_parameters=False)
    assert torch.isfinite(torch.tensor(tokenizer_step(wrapped, x)))
    assert moved(before, tokenizer)
    best = tmp_path / "finetune_tokenizer_demo" / "checkpoints" / "best_model"
    wrapped.module.save_pretrained(str(best))

    trained = KronosTokenizer.from_pretrained(str(best)).eval().to("cpu")
    model = Kronos.from_pretrained(REFERENCE / "model")
    before, wrapped = weights(model), DistributedDataParallel(model, find_unused_parameters=False)
    assert network_step(wrapped, wrapped.module.head, trained, (x, stamps)) > 0
    assert moved(before, model)
    wrapped.module.save_pretrained(str(tmp_path / "finetune_predictor_demo" / "checkpoints" / "best_model"))

    found = KronosPredictor.from_pretrained(tmp_path, "cpu")
    assert torch.equal(found.model.head.proj_s1.weight, model.head.proj_s1.weight)
    assert torch.equal(found.tokenizer.embed.weight, tokenizer.embed.weight)


@pytest.mark.parametrize("pretrained", [True, False])
def test_both_trainers_of_the_csv_recipe(tmp_path: Path, pretrained: bool) -> None:
    """From random weights a module is made of the names and values of the checkpoint's config."""
    x, stamps = batch()
    tokenizer, model = (
        kind.from_pretrained(REFERENCE / folder)
        if pretrained
        else kind(**json.loads((REFERENCE / folder / "config.json").read_text()))
        for kind, folder in ((KronosTokenizer, "tokenizer"), (Kronos, "model"))
    )
    before = weights(tokenizer)
    tokenizer_step(tokenizer, x)
    assert moved(before, tokenizer)
    tokenizer.save_pretrained(str(tmp_path / "tokenizer" / "best_model"))
    again = KronosTokenizer.from_pretrained(str(tmp_path / "tokenizer" / "best_model"))
    before = weights(model)
    first = network_step(model, model.head, again, (x, stamps))
    assert moved(before, model)
    model.eval()
    with torch.no_grad():
        coarse, fine = again.encode(x, half=True)
        logits = model(coarse[:, :-1], fine[:, :-1], stamps[:, :-1, :])
        assert model.head.compute_loss(*logits, coarse[:, 1:], fine[:, 1:])[0].item() == pytest.approx(first, rel=0.5)
    model.save_pretrained(str(tmp_path / "basemodel" / "best_model"))
    assert (tmp_path / "basemodel" / "best_model" / WEIGHTS_FILE).is_file()
    assert KronosPredictor.from_pretrained(tmp_path, "cpu").model.config == model.config
