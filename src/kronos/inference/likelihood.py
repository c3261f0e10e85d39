"""What the network thinks of bars that are known: hidden states and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from kronos.bars.arrays import time_features
from kronos.inference.inputs import past_bars
from kronos.inference.settings import check_setting

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every part is as it was."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.inference_mode()
def embed(predictor: KronosPredictor, bars: Any, context_length: int | None) -> npt.NDArray[np.float32]:
    """See ``KronosPredictor.embed``."""
    lost = predictor.transform.lost
    past = past_bars(bars, 1 + lost, predictor.max_context)
    n_bars = len(past.bars)
    context = _context(predictor, context_length, n_bars, n_bars)
    s1, s2, stamps = _tokens(predictor, past.values, past.context_times, context)
    with eval_mode(predictor.model):
        _, hidden = predictor.model.decode_s1(s1, s2, stamps)
    out = np.full((n_bars, hidden.shape[-1]), np.nan, dtype=np.float32)
    out[context - 1 :] = hidden[0].float().cpu().numpy()[context - 1 - lost :]
    return out


@torch.inference_mode()
def score(predictor: KronosPredictor, bars: Any, context_length: int | None) -> npt.NDArray[np.float64]:
    """See ``KronosPredictor.score``.

    Blocks of bars follow a context that sets the scale; both together are at most ``max_context`` features.
    """
    model, lost = predictor.model, predictor.transform.lost
    past = past_bars(bars, 2 * (1 + lost))
    out = np.full(len(past.bars), np.nan)
    context = _context(predictor, context_length, len(out), predictor.max_context - 1)
    block = predictor.max_context - context + lost
    for first in range(context, len(out), block):
        window = slice(first - context, min(first + block, len(out)))
        s1, s2, stamps = _tokens(predictor, past.values[window], past.times[window], context)
        known = s1[:, :-1], s2[:, :-1], stamps[:, :-1]
        with eval_mode(model):
            coarse, fine = model(*known, use_teacher_forcing=True, s1_targets=s1[:, 1:])
        nats = F.cross_entropy(coarse[0], s1[0, 1:], reduction="none")
        nats = nats + F.cross_entropy(fine[0], s2[0, 1:], reduction="none")
        out[first : window.stop] = nats.double().cpu().numpy()[first - window.stop :]
    return out


def _context(predictor: KronosPredictor, context_length: int | None, bars: int, most: int) -> int:
    """The length of the context that sets the scale of what follows it; by default half of all."""
    least = 1 + predictor.transform.lost
    if context_length is None:
        context_length = max(least, min(predictor.max_context // 2, bars // 2))
    return int(check_setting("context_length", context_length, low=least, high=most))


def _tokens(
    predictor: KronosPredictor, values: npt.NDArray[np.float64], times: Any, context: int
) -> tuple[torch.Tensor, ...]:
    """s1, s2 (1, T) and stamps (1, T, 5) of (T, 6) bars, the first ``context`` of which set the scale."""
    transform, tokenizer, device = predictor.transform, predictor.tokenizer, predictor.device
    features = transform.encode(values, transform.fit(values[:context], clip=predictor.clip))
    stamps = time_features(times)[transform.lost :]
    with eval_mode(tokenizer):
        s1, s2 = tokenizer.encode(torch.from_numpy(features).to(device)[None], half=True)
    return s1, s2, torch.from_numpy(stamps).to(device)[None]
