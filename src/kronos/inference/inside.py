"""Looking inside the network: its states, and what it thinks of bars that did come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.bars.arrays import time_features
from kronos.inference.assemble import past_bars
from kronos.inference.pair import eval_mode
from kronos.protocol import Context
from kronos.spec import check_setting

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor


@torch.inference_mode()
def embed(predictor: KronosPredictor, bars: Any, context_length: int | None) -> npt.NDArray[np.float32]:
    """:meth:`~kronos.inference.predictor.KronosPredictor.embed`."""
    lost = predictor.transform.lost
    past = past_bars(bars, 1 + lost, predictor.max_context)
    n_bars = len(past.bars)
    context = _scale_length(predictor, context_length, n_bars, n_bars)
    s1, s2, stamps = _tokens(predictor, past.values, past.times, context)
    with eval_mode(predictor.model):
        _, hidden = predictor.model.decode_s1(s1, s2, stamps)
    out = np.full((n_bars, hidden.shape[-1]), np.nan, dtype=np.float32)
    out[context - 1 :] = hidden[0].float().cpu().numpy()[context - 1 - lost :]
    return out


@torch.inference_mode()
def score(predictor: KronosPredictor, bars: Any, context_length: int | None) -> npt.NDArray[np.float64]:
    """:meth:`~kronos.inference.predictor.KronosPredictor.score`."""
    lost = predictor.transform.lost
    past = past_bars(bars, 2 * (1 + lost))
    out = np.full(len(past.bars), np.nan)
    context = _scale_length(predictor, context_length, len(out), predictor.max_context - 1)
    block = predictor.max_context - context + lost
    for first in range(context, len(out), block):
        window = slice(first - context, min(first + block, len(out)))
        s1, s2, stamps = _tokens(predictor, past.values[window], past.times[window], context)
        known = s1[:, :-1], s2[:, :-1], stamps[:, :-1]
        with eval_mode(predictor.model):
            coarse, fine = predictor.model(*known, use_teacher_forcing=True, s1_targets=s1[:, 1:])
        nats = F.cross_entropy(coarse[0], s1[0, 1:], reduction="none")
        nats = nats + F.cross_entropy(fine[0], s2[0, 1:], reduction="none")
        out[first : window.stop] = nats.double().cpu().numpy()[first - window.stop :]
    return out


def _scale_length(predictor: KronosPredictor, context_length: int | None, bars: int, most: int) -> int:
    """How many bars set the scale of what follows them; by default half of all."""
    least = 1 + predictor.transform.lost
    length = max(least, min(predictor.max_context, bars) // 2) if context_length is None else context_length
    return int(check_setting("context_length", length, low=least, high=most))


def _tokens(
    predictor: KronosPredictor, values: npt.NDArray[np.float64], times: Any, context: int
) -> tuple[Tensor, ...]:
    """s1, s2 (1, T) and stamps (1, T, 5) of (T, 6) bars, the first ``context`` of which set the scale."""
    features = predictor.transform.encode(values, predictor.transform.fit(values[:context], clip=predictor.clip))
    stamps = time_features(times)[predictor.transform.lost :]
    with eval_mode(predictor.tokenizer):
        s1, s2 = predictor.tokenizer.encode(torch.from_numpy(features).to(predictor.device)[None], half=True)
    return s1, s2, torch.from_numpy(stamps).to(predictor.device)[None]


def nats(predictor: KronosPredictor, context: Context, truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(H,) negative log-likelihood of the tokens of true bars (H, 6) after a context; NaN where they do not fit."""
    horizon, length = len(truth), min(len(context.timestamps), predictor.max_context - 1)
    if length + horizon > predictor.max_context:
        return np.full(horizon, np.nan)
    times = np.concatenate([context.timestamps[-length:], context.future_timestamps])
    values = np.concatenate([context.values[-length:], truth])
    bars = Context(context.symbol, times, values, times[:0], context.zone).to_table()
    return score(predictor, bars, length)[-horizon:]
