"""Transformer blocks shared by the tokenizer and the network.

Notable:
- pre-norm RMSNorm computed in float32, rotary positions (half split), SwiGLU feed-forward;
- linear maps of the attention carry biases, those of the feed-forward do not;
- rotary angles are always float32: in bfloat16 neighbouring positions would collide.

Attribute names are the checkpoint's keys. Shapes: B series, T bars, C width, N heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kronos.model.config import KronosConfig, TokenizerConfig

ROTARY_BASE = 10_000.0
NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last dimension, in float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + NORM_EPS)
        return y.type_as(x) * self.weight


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864), half-split form."""

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        # Stored in every published checkpoint. On the CPU also within torch.device("meta"), whose arithmetic is slow.
        self.register_buffer("inv_freq", self._frequencies(torch.device("cpu")))

    def _frequencies(self, device: torch.device | None) -> Tensor:
        exponent = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        return 1.0 / ROTARY_BASE**exponent

    def table(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (length, D) of the positions ``start … start + length - 1``, float32."""
        # From the formula, not from the buffer: `.to(bfloat16)` would have rounded the buffer.
        device = self.inv_freq.device
        positions = torch.arange(start, start + length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, self._frequencies(device)).repeat(1, 2)
        return angles.cos(), angles.sin()

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotates (B, N, T, D), whose first row stands at position ``start``."""
        return rotate(x, *self.table(start, x.shape[-2]))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each half-split pair of (…, T, D) by its angle; the arithmetic is float32."""
    y = x.float()
    first, second = y.chunk(2, dim=-1)
    return (y * cos + torch.cat((-second, first), dim=-1) * sin).type_as(x)


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions.

    Queries belong to the *last* rows of keys and values: row i of Q queries stands at position
    ``T - Q + i`` and sees keys up to that position. Q = T is plain self-attention.
    """

    def __init__(self, d_model: int, n_heads: int, attn_dropout_p: float = 0.0, resid_dropout_p: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.attn_dropout_p = n_heads, attn_dropout_p
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.rotary = Rotary(d_model // n_heads)
        self.resid_dropout = nn.Dropout(resid_dropout_p)

    def forward(
        self, queries: Tensor, keys_values: Tensor, padding_mask: Tensor | None = None, *, rotate_positions: bool = True
    ) -> Tensor:
        """(B, Q, C) queries against (B, T, C) keys and values -> (B, Q, C); the mask (B, T) is True at padding."""
        n_queries, n_keys = queries.shape[1], keys_values.shape[1]
        first = n_keys - n_queries  # position of the first query
        q, k, v = (
            project(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, C) -> (B, N, T, D)
            for project, x in ((self.q_proj, queries), (self.k_proj, keys_values), (self.v_proj, keys_values))
        )
        if rotate_positions:
            q, k = self.rotary(q, first), self.rotary(k)
        mask = None  # True where a query may look
        if first or padding_mask is not None:
            mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).tril(first)
            if padding_mask is not None:  # a padded row sees itself, so that none is empty
                own = torch.eye(n_keys, dtype=torch.bool, device=q.device)[first:]
                mask = ((mask & ~padding_mask[:, None, :]) | own)[:, None]  # (B, 1, Q, T)
        dropout_p = self.attn_dropout_p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal=mask is None)
        return self.resid_dropout(self.out_proj(out.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU: ``w2(silu(w1 x) * w3 x)``."""

    def __init__(self, d_model: int, ff_dim: int, ffn_dropout_p: float = 0.0) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, ff_dim, bias=False)
        self.w3 = nn.Linear(d_model, ff_dim, bias=False)
        self.w2 = nn.Linear(ff_dim, d_model, bias=False)
        self.ffn_dropout = nn.Dropout(ffn_dropout_p)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn_dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """``x += self_attn(norm1(x)); x += ffn(norm2(x))``."""

    recompute = False  # activation checkpointing: a third more arithmetic instead of keeping what happens inside

    def __init__(self, config: KronosConfig | TokenizerConfig) -> None:
        super().__init__()
        c = config
        self.norm1 = RMSNorm(c.d_model)
        self.self_attn = Attention(c.d_model, c.n_heads, c.attn_dropout_p, c.resid_dropout_p)
        self.norm2 = RMSNorm(c.d_model)
        self.ffn = FeedForward(c.d_model, c.ff_dim, c.ffn_dropout_p)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); ``padding_mask`` (B, T) is True at padding."""
        if self.recompute:
            return checkpoint(self._compute, x, padding_mask, use_reentrant=False)  # type: ignore[no-any-return]
        return self._compute(x, padding_mask)

    def _compute(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn(y, y, padding_mask)
        return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]


def init_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Linear xavier-normal with zero bias, Embedding N(0, C^-1/2) where it is learnt, norms 1."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.xavier_normal_(child.weight, generator=generator)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.Embedding) and child.weight.requires_grad:
            nn.init.normal_(child.weight, std=child.embedding_dim**-0.5, generator=generator)
        elif isinstance(child, RMSNorm):
            nn.init.ones_(child.weight)


def weighted_mean(values: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """``sum(values * weights) / total``; the total is the weights' sum where none is given."""
    return (values * weights).sum() / (weights.sum() if total is None else total).clamp_min(1e-9)
