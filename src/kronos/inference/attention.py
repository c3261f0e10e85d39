"""Attention of many paths that share one past, and the keys and values that it looks at.

The S paths of a series differ only in what they sampled. Their queries are the rows of *one* product against the
common keys; each path then adds its few own keys. The two answers are merged exactly: with l the log-sum-exp of the
scores of each part, the weight of the common part is sigmoid(l_common - l_own).

The cache's memory is taken once and written in place. With a single path a series the common and the path's part lie
end to end, so that one product covers both.

Queries arrive scaled. Shapes: B series, S paths, L queries a path, N heads, D head width, P common, T own positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Visible(NamedTuple):
    """What a query may look at, as ``shared_attention`` takes it."""

    common: Tensor | None  # (2, B, N, P, D) keys and values
    own: Tensor | None  # (2, B·S, N, T, D)
    mask: Tensor | None  # (B, 1, 1, P), 0 or -inf


class KeyValueCache:
    """Preallocated keys and values, with room for ``prefix`` common and ``suffix`` own positions.

    Without room for own ones they are looked at and forgotten, which is all that a single reading needs.

    Args:
        joined: whether a single path's own positions may lie behind the common ones.

    Attributes:
        common, own: (2, B, N, P, D) and (2, B·S, N, T, D) of every layer.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        head_dim: int,
        series: int,
        paths: int,
        prefix: int,
        suffix: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        joined: bool = True,
    ) -> None:
        self.joined = joined and paths == 1 and suffix > 0
        self._room = suffix
        self.prefix = 0  # common positions in use
        self.length = 0  # own positions in use
        self._mask: Tensor | None = None

        def room(rows: int, positions: int) -> list[Tensor]:
            shape = (2, rows, heads, positions, head_dim)
            return [torch.empty(shape, dtype=dtype, device=device) for _ in range(layers)]

        self.common = room(series, prefix + suffix if self.joined else prefix)
        self.own = self.common if self.joined else room(series * paths, suffix) if suffix else []

    def clear(self) -> None:
        """Fills all room with zeros, so that what was never written may be multiplied."""
        for kept in (*self.common, *self.own):
            kept.zero_()

    def reset(self, prefix: int, lengths: Tensor | None = None) -> None:
        """Forgets everything; of the next past's ``prefix`` positions only ``lengths`` (B,) are seen, if given."""
        self.prefix, self.length, self._mask = prefix, 0, None
        if lengths is not None:
            room = self.common[0].shape[-2]
            place = torch.arange(room, device=lengths.device)
            hidden = (place >= lengths[:, None]) & (place < prefix)
            mask = torch.zeros(hidden.shape, dtype=self.common[0].dtype, device=lengths.device)
            self._mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]

    def write_prefix(self, layer: int, kv: Tensor) -> None:
        """Keeps the keys and values (B, P, 2, N, D) of the common past."""
        self.common[layer][:, :, :, : self.prefix] = kv.permute(2, 0, 3, 1, 4)

    def append(self, layer: int, kv: Tensor) -> Visible:
        """Writes (B, S, L, 2, N, D) behind the own positions; returns what their L queries may look at."""
        new = kv.flatten(0, 1).permute(2, 0, 3, 1, 4)
        if not self._room:
            return self.visible(layer, 0)._replace(own=new)
        start, count = self.length, kv.shape[2]
        offset = self.prefix if self.joined else 0
        self.own[layer][:, :, :, offset + start : offset + start + count] = new
        return self.visible(layer, start + count, split=count > 1)

    def visible(self, layer: int, length: int, *, split: bool = False) -> Visible:
        """The common and the first ``length`` own positions.

        ``split`` keeps the parts apart also where they lie end to end: several queries a path need a causal mask.
        """
        prefix = self.prefix
        if self.joined and not split:
            end = prefix + length
            mask = None if self._mask is None else self._mask[..., :end]
            return Visible(self.common[layer][:, :, :, :end], None, mask)
        offset = prefix if self.joined else 0
        common = self.common[layer][:, :, :, :prefix] if prefix else None
        own = self.own[layer][:, :, :, offset : offset + length] if length else None
        return Visible(common, own, None if self._mask is None else self._mask[..., :prefix])


def cache_bytes(layers: int, width: int, paths: int, prefix: int, suffix: int, itemsize: int) -> int:
    """Memory that a cache takes for one series."""
    return 2 * layers * width * itemsize * (prefix + paths * suffix)


# -- attention ---------------------------------------------------------------------------------------------------------


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
        together = q.flatten(1, 2).transpose(1, 2)  # (B, N, S·L, D)
        out = F.scaled_dot_product_attention(together, common[0], common[1], attn_mask=mask, scale=1.0)
        return out.transpose(1, 2).reshape(*shape[:3], -1)
    per_path = q.flatten(0, 1).transpose(1, 2)  # (B·S, N, L, D)
    causal = shape[2] > 1
    if common is None:
        out = F.scaled_dot_product_attention(per_path, own[0], own[1], is_causal=causal, scale=1.0)
        return out.transpose(1, 2).reshape(*shape[:3], -1)
    own_out, own_lse = (part.transpose(1, 2) for part in attend(per_path, *own, causal=causal))
    shared = attend(q.flatten(1, 2).transpose(1, 2), *common, mask=mask)
    all_out, all_lse = (part.transpose(1, 2) for part in shared)
    weight = (all_lse.reshape(shape[:4]) - own_lse.reshape(shape[:4])).sigmoid_()
    return own_out.reshape(shape).lerp(all_out.reshape(shape), weight.unsqueeze(-1).to(q.dtype)).flatten(-2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention with the log-sum-exp of its scores, on the CPU by torch's fused kernel.

    That operator is private: the public function computes the log-sum-exp too but does not return it. Plain products
    take 1.6 times as long for 30 queries of 4 heads against 400 keys, 2.5 times for one against 60 (one thread).

    Args:
        q: (B, N, R, D). k, v: (B, N, T, D).
        mask: (B, 1, 1, T) added to the scores.
        causal: query i sees keys up to i (R = T).

    Returns:
        (B, N, R, D) and (B, N, R) float32.
    """
    if q.device.type != "cpu":
        return attend_plainly(q, k, v, mask=mask, causal=causal)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=1.0
    )
    return out, lse


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`attend` in plain products, for devices without such a kernel (and as its judge)."""
    scores = torch.matmul(q, k.transpose(-1, -2)).float()
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), float("-inf"))
    lse = scores.logsumexp(-1)
    return torch.matmul((scores - lse.unsqueeze(-1)).exp_().to(v.dtype), v), lse
