"""What the network thinks of bars that are known: hidden states and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.bars.transform import BarTransform
from kronos.model import Kronos, KronosTokenizer


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


def _tokens(
    model: Kronos,
    tokenizer: KronosTokenizer,
    features: npt.NDArray[np.float32],
    stamps: npt.NDArray[np.int64],
) -> tuple[Tensor, Tensor, Tensor]:
    device = model.norm.weight.device
    s1, s2 = tokenizer.encode(torch.from_numpy(features).to(device)[None], half=True)
    return s1, s2, torch.from_numpy(stamps).to(device)[None]


@torch.inference_mode()
def hidden_states(
    model: Kronos, tokenizer: KronosTokenizer, features: npt.NDArray[np.float32], stamps: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(T, F) features and (T, 5) stamps -> (T, C)."""
    with eval_mode(model, tokenizer):
        _, hidden = model.decode_s1(*_tokens(model, tokenizer, features, stamps))
    out: npt.NDArray[np.float32] = hidden[0].float().cpu().numpy()
    return out


@torch.inference_mode()
def token_likelihood(
    model: Kronos, tokenizer: KronosTokenizer, features: npt.NDArray[np.float32], stamps: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """-ln p(s1) - ln p(s2 | s1) of every bar but the first, given those before it: (T - 1,) nats."""
    with eval_mode(model, tokenizer):
        s1, s2, stamp = _tokens(model, tokenizer, features, stamps)
        coarse, fine = model(s1[:, :-1], s2[:, :-1], stamp[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:])
    nats = F.cross_entropy(coarse[0], s1[0, 1:], reduction="none") + F.cross_entropy(
        fine[0], s2[0, 1:], reduction="none"
    )
    return nats.double().cpu().numpy()


def score_series(
    model: Kronos,
    tokenizer: KronosTokenizer,
    transform: BarTransform,
    values: npt.NDArray[np.float64],
    stamps: npt.NDArray[np.int64],
    *,
    context_length: int,
    max_context: int,
    clip: float,
) -> npt.NDArray[np.float64]:
    """(T,) nats of every bar of (T, 6) bars and (T, 5) stamps, each given bars before it alone.

    Blocks of bars follow ``context_length`` bars that set the scale; both together are at most ``max_context``
    features. NaN before the first block.
    """
    out = np.full(len(values), np.nan)
    block = max_context - context_length + transform.lost
    for first in range(context_length, len(out), block):
        window = slice(first - context_length, min(first + block, len(out)))
        state = transform.fit(values[window][:context_length], clip=clip)
        features = transform.encode(values[window], state)
        nats = token_likelihood(model, tokenizer, features, stamps[window][transform.lost :])
        out[first : window.stop] = nats[first - window.stop :]
    return out
