"""The learning rate, step by step, and the optimizer that it steers."""

from __future__ import annotations

import math

import torch
from torch import nn

from kronos.training.config import OptimSettings

_ONE_CYCLE_START, _ONE_CYCLE_END = 0.1, 1e-5  # shares of the peak, as in the published fine-tuning code


def learning_rate(step: int, settings: OptimSettings) -> float:
    """The rate of a step, counted from 0: a warm-up to the peak, then what ``schedule`` says.

    - ``cosine``: a straight warm-up from ``initial_lr``, then a cosine down to ``final_lr``, shares of the peak;
    - ``one_cycle``: up from a tenth of the peak and down to next to nothing, both along cosines;
    - ``constant``: a straight warm-up, then the peak.
    """
    s = settings
    warmup = max(1, round(s.warmup if s.warmup >= 1 else s.warmup * s.steps))
    if s.schedule == "one_cycle":
        # the turning points of torch's OneCycleLR: the peak stands at the last step of the warm-up
        up = warmup - 1
        if step <= up:
            return s.lr * _cosine(_ONE_CYCLE_START, 1.0, step / up if up else 1.0)
        return s.lr * _cosine(1.0, _ONE_CYCLE_END, (step - up) / max(1, s.steps - 1 - up))
    if step < warmup:
        return s.lr * s.initial_lr * (1 - (step + 1) / warmup) + s.lr * (step + 1) / warmup
    if s.schedule == "constant":
        return s.lr
    return s.lr * _cosine(1.0, s.final_lr, (step - warmup) / max(1, s.steps - warmup))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def build_optimizer(module: nn.Module, settings: OptimSettings, device: torch.device) -> torch.optim.AdamW:
    """AdamW; only matrices decay, not biases, norms or embeddings."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decay if parameter.ndim > 1 and id(parameter) not in embeddings else keep).append(parameter)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=device.type == "cuda")
