"""Attention of many paths that share one past.

The S paths of a series differ only in what they sampled. Their queries are the rows of *one* product against the
common keys; each path then adds its own few keys. The two answers are merged exactly: with l the log-sum-exp of the
scores of each part, the weight of the common part is sigmoid(l_common - l_own).

Queries arrive scaled. Shapes: B series, S paths, L queries a path, N heads, D head width, P common keys, T own keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.inference.cache import Visible


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, N, L, D) each -> (B, L, N·D)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0).transpose(1, 2).flatten(2)


def shared_attention(q: Tensor, visible: Visible) -> Tensor:
    """Attention over a common past and each path's own continuation.

    Args:
        q: (B, S, L, N, D); the L queries belong to the last L of the T own keys, and L is 1 or T.
        visible: the keys and values of both parts.

    Returns:
        (B, S, L, N·D).
    """
    shape = q.shape
    common, own, mask = visible
    if own is None:
        assert common is not None
        out = F.scaled_dot_product_attention(
            q.flatten(1, 2).transpose(1, 2), common[0], common[1], attn_mask=mask, scale=1.0
        )
        return out.transpose(1, 2).reshape(*shape[:3], -1)
    per_path = q.flatten(0, 1).transpose(1, 2)  # (B·S, N, L, D)
    causal = shape[2] > 1
    if common is None:
        out = F.scaled_dot_product_attention(per_path, own[0], own[1], is_causal=causal, scale=1.0)
        return out.transpose(1, 2).reshape(*shape[:3], -1)
    own_out, own_lse = attend(per_path, *own, causal=causal)
    all_out, all_lse = attend(q.flatten(1, 2).transpose(1, 2), *common, mask=mask)
    weight = (all_lse.transpose(1, 2).reshape(shape[:4]) - own_lse.transpose(1, 2).reshape(shape[:4])).sigmoid_()
    merged = (
        own_out.transpose(1, 2)
        .reshape(shape)
        .lerp(all_out.transpose(1, 2).reshape(shape), weight.unsqueeze(-1).to(q.dtype))
    )
    return merged.flatten(-2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention with the log-sum-exp of its scores.

    Args:
        q: (B, N, R, D). k, v: (B, N, T, D).
        mask: (B, 1, 1, T) added to the scores.
        causal: query i sees keys up to i (R = T).

    Returns:
        (B, N, R, D) and (B, N, R) float32.
    """
    if q.device.type == "cpu":
        # Torch's fused kernel for the CPU; the public function computes the log-sum-exp too but does not return it.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, attn_mask=mask, scale=1.0
        )
        return out, lse
    return attend_plainly(q, k, v, mask=mask, causal=causal)


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """The same in plain products, for devices without such a kernel (and as its judge)."""
    scores = torch.matmul(q, k.transpose(-1, -2)).float()
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), float("-inf"))
    lse = scores.logsumexp(-1)
    return torch.matmul((scores - lse.unsqueeze(-1)).exp_().to(v.dtype), v), lse
