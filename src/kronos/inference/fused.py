"""Weights rearranged once for decoding; the function that they compute stays the same.

Notable:
- query, key and value maps are one matrix; norm weights and the 1/√D of the scores are multiplied into the matrix
  that follows;
- embeddings and the linear map after them are one table each: √C · emb_s1 · W1ᵀ, √C · emb_s2 · W2ᵀ + b, likewise the
  dependency layer's query and the tokenizer decoder's input;
- the halves of each rotary pair stand side by side, so a rotation is one complex product. Scores do not change when
  queries and keys are permuted alike.

Nothing here knows dropout, so no train flag can change a forecast. Shapes: C width, N heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.model import Kronos, KronosTokenizer
from kronos.model.config import DEPENDENCY_HEADS
from kronos.model.layers import NORM_EPS, Attention, RMSNorm, Rotary, TransformerBlock

_WORTH_PACKING = 1 << 19  # weights of a map
_ROWS_WORTH_PACKING = 3
_PACKED_FOR = 32  # rows that the packing is chosen for; it serves larger products as well


def normalise(x: Tensor) -> Tensor:
    """RMS normalisation without its weight and without the factor √C; both are in the matrix that follows.

    ``x / sqrt(|x|² + C·eps)``, in float32: half the operations of the usual form.
    """
    y = x.float()
    floor = y.new_full((), math.sqrt(x.shape[-1] * NORM_EPS))
    return (y / torch.hypot(torch.linalg.vector_norm(y, dim=-1, keepdim=True), floor)).type_as(x)


class Linear:
    """``x W + b`` over the last dimension, from torch's weight (outputs, inputs) and bias (outputs,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.outputs, self.inputs = weight.shape
        self.weight = _copy(weight.T, dtype).T  # stored input by input, which suits few rows
        self.bias = None if bias is None else _copy(bias, dtype)

    @cached_property
    def packed(self) -> Callable[[Tensor], Tensor] | None:
        """The product for several rows of a wide map on the CPU, made when first needed."""
        wide = self.weight.device.type == "cpu" and self.weight.numel() >= _WORTH_PACKING
        return onednn_product(self.weight, self.bias) if wide else None

    def __call__(self, x: Tensor) -> Tensor:
        if x.numel() >= _ROWS_WORTH_PACKING * self.inputs and self.packed is not None:
            return self.packed(x)
        return F.linear(x, self.weight, self.bias)


def onednn_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """``x W + b`` with weights (outputs, inputs) packed for oneDNN; None where this build has no such product.

    These operators are private to torch. ``F.linear`` takes 1.4 times as long for 5 rows of 832 x 2048 weights and
    1.1 times for 400 (one thread, float32); below half a million weights it is the faster one.
    """
    try:
        product = torch.ops.mkldnn._linear_pointwise
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)
    except (AttributeError, RuntimeError):
        return None
    return lambda x: product(x, packed, bias, "none", [], "")


@dataclass(frozen=True, slots=True)
class FusedBlock:
    """One transformer block."""

    qkv: Linear  # C -> 3C
    out: Linear  # C -> C
    gate: Linear  # C -> ff
    up: Linear  # C -> ff
    down: Linear  # ff -> C

    def feed_forward(self, x: Tensor) -> Tensor:
        """``x + w2(silu(w1 norm(x)) * w3 norm(x))``."""
        y = normalise(x)
        return x + self.down(F.silu(self.gate(y)).mul_(self.up(y)))


class FusedStack:
    """A stack of blocks and the rotations of its positions."""

    def __init__(self, blocks: nn.ModuleList, dtype: torch.dtype) -> None:
        typed = [block for block in blocks if isinstance(block, TransformerBlock)]
        self.blocks = [_fuse_block(block, dtype) for block in typed]
        # A tokenizer may have no blocks at all; then nothing is ever rotated.
        self.n_heads = typed[0].self_attn.n_heads if typed else 1
        self.head_dim = typed[0].self_attn.rotary.head_dim if typed else 2

    def project(self, block: FusedBlock, x: Tensor, rotary: Tensor) -> Tensor:
        """(…, C) -> rotated queries, rotated keys, and values (…, 3, N, D); rotary (…, 1, 1, D/2) complex."""
        qkv = block.qkv(normalise(x)).view(*x.shape[:-1], 3, self.n_heads, self.head_dim)
        rotate_pairs(qkv[..., :2, :, :], rotary)
        return qkv


class FusedModel:
    """The network's weights, arranged for decoding."""

    def __init__(self, model: Kronos, dtype: torch.dtype) -> None:
        c = model.config
        self.config, self.dtype = c, dtype
        embedding, fusion = model.embedding, model.embedding.fusion_proj
        first, second = fusion.weight.chunk(2, dim=1)
        self.emb_s1 = _copy(embedding.scale * embedding.emb_s1.weight @ first.T, dtype)  # (V1, C)
        self.emb_s2 = _copy(embedding.scale * embedding.emb_s2.weight @ second.T + fusion.bias, dtype)  # (V2, C)
        self.time_emb = model.time_emb
        self.stack = FusedStack(model.transformer, dtype)
        self.norm = _copy(_norm(model.norm), dtype)
        self.head_s1 = _linear(model.head.proj_s1, dtype)
        self.dependency = FusedDependency(model, dtype)

    @property
    def device(self) -> torch.device:
        return self.norm.device

    @property
    def weights_per_step(self) -> int:
        """Multiply-adds of one new position in all linear maps."""
        dep = self.dependency
        blocks = [m for b in self.stack.blocks for m in (b.qkv, b.out, b.gate, b.up, b.down)]
        return sum(m.inputs * m.outputs for m in (*blocks, self.head_s1, dep.kv, dep.out, dep.head_s2))

    def rotary_tables(self, positions: int) -> tuple[Tensor, Tensor]:
        """Rotations of the trunk and of the dependency layer, (positions, D/2) each."""
        stack, dependency = self.stack.head_dim, self.dependency.head_dim
        return rotary_table(positions, stack, self.device), rotary_table(positions, dependency, self.device)

    def embed(self, s1: Tensor, s2: Tensor, time: Tensor) -> Tensor:
        """Token ids (…) and the embedding of their times (…, C) -> (…, C)."""
        return F.embedding(s1, self.emb_s1).add_(F.embedding(s2, self.emb_s2)).add_(time)

    def embed_time(self, stamps: Tensor) -> Tensor:
        """(…, 5) -> (…, C)."""
        out: Tensor = self.time_emb(stamps)
        return out.to(self.dtype)

    def finish(self, x: Tensor) -> Tensor:
        """The last norm: (…, C) -> hidden states (…, C)."""
        return normalise(x).mul_(self.norm)


class FusedDependency:
    """The dependency-aware layer and the head behind it."""

    def __init__(self, model: Kronos, dtype: torch.dtype) -> None:
        layer = model.dep_layer.cross_attn
        self.n_heads, self.head_dim = DEPENDENCY_HEADS, layer.rotary.head_dim
        self.rotated = model.config.consistent  # published checkpoints leave keys and query unrotated
        q_weight, q_bias, k_weight, k_bias = _queries_and_keys(layer)
        table = model.embedding.emb_s1.weight @ q_weight.T + q_bias
        self.queries = _copy(table, dtype).view(-1, self.n_heads, self.head_dim)  # (V1, N, D)
        self.kv = Linear(torch.cat((k_weight, layer.v_proj.weight)), torch.cat((k_bias, layer.v_proj.bias)), dtype)
        self.out = _linear(layer.out_proj, dtype)
        head = model.head.proj_s2
        self.head_s2 = Linear(head.weight * _norm(model.dep_layer.norm), head.bias, dtype)

    def keys_values(self, hidden: Tensor, rotary: Tensor) -> Tensor:
        """Hidden states (…, C) -> (…, 2, N, D)."""
        kv = self.kv(hidden).view(*hidden.shape[:-1], 2, self.n_heads, self.head_dim)
        if self.rotated:
            rotate_pairs(kv[..., :1, :, :], rotary)
        return kv

    def query(self, s1: Tensor, rotary: Tensor) -> Tensor:
        """Coarse tokens (…) -> (…, N, D); rotary (…, 1, D/2)."""
        query = self.queries[s1]  # a copy, so it may be rotated in place
        if self.rotated:
            rotate_pairs(query, rotary)
        return query

    def logits(self, hidden: Tensor, answer: Tensor) -> Tensor:
        """Hidden states (…, C) and what the attention answered (…, C) -> s2 logits (…, V2)."""
        return self.head_s2(normalise(hidden + self.out(answer)))


class FusedTokenizer:
    """The tokenizer's weights, arranged for encoding a context once and decoding a horizon."""

    def __init__(self, tokenizer: KronosTokenizer, dtype: torch.dtype) -> None:
        c = tokenizer.config
        self.config, self.dtype = c, dtype
        self.quantizer = tokenizer.tokenizer
        # Encoding stays in float32: a bit that flips is another token.
        self.embed = _linear(tokenizer.embed, torch.float32)
        self.encoder = FusedStack(tokenizer.encoder, torch.float32)
        self.quant = _linear(tokenizer.quant_embed, torch.float32)
        self.decoder = FusedStack(tokenizer.decoder, dtype)
        # ``post_quant_embed`` of every coarse and of every fine id; their sum is that of the pair.
        linear, split = tokenizer.post_quant_embed, self.quantizer.s1_width
        s1, s2 = (torch.arange(2**bits, device=linear.weight.device) for bits in (c.s1_bits, c.s2_bits))
        coarse = self.quantizer.from_ids(s1, torch.zeros_like(s1))[:, :split]
        fine = self.quantizer.from_ids(torch.zeros_like(s2), s2)[:, split:]
        self.emb_s1 = _copy(coarse @ linear.weight[:, :split].T, dtype)
        self.emb_s2 = _copy(fine @ linear.weight[:, split:].T + linear.bias, dtype)
        self.head = _linear(tokenizer.head, dtype)

    def embed_ids(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Token ids (…) -> the decoder's input (…, C)."""
        return F.embedding(s1, self.emb_s1).add_(F.embedding(s2, self.emb_s2))


def rotate_pairs(x: Tensor, rotary: Tensor) -> None:
    """Rotates (…, D), pairs side by side, in place by complex numbers of length one (…, D/2)."""
    if x.dtype == torch.float32:
        torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(rotary)
    else:  # the arithmetic is float32 in every precision
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        x.copy_(torch.view_as_real(pairs * rotary).flatten(-2))


def rotary_table(length: int, head_dim: int, device: torch.device) -> Tensor:
    """(length, D/2) complex rotations of the positions 0 … length - 1."""
    cos, sin = Rotary(head_dim).table(0, length)
    half = head_dim // 2
    return torch.complex(cos[:, :half], sin[:, :half]).to(device)


def _fuse_block(block: TransformerBlock, dtype: torch.dtype) -> FusedBlock:
    attention, ffn = block.self_attn, block.ffn
    q_weight, q_bias, k_weight, k_bias = _queries_and_keys(attention)
    v = attention.v_proj
    qkv = torch.cat((q_weight, k_weight, v.weight)) * _norm(block.norm1)
    return FusedBlock(
        qkv=Linear(qkv, torch.cat((q_bias, k_bias, v.bias)), dtype),
        out=_linear(attention.out_proj, dtype),
        gate=Linear(ffn.w1.weight * _norm(block.norm2), None, dtype),
        up=Linear(ffn.w3.weight * _norm(block.norm2), None, dtype),
        down=Linear(ffn.w2.weight, None, dtype),
    )


def _queries_and_keys(attention: Attention) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query and key weights and biases with rotary pairs side by side; queries carry the 1/√D of the scores."""
    head_dim = attention.rotary.head_dim
    place = torch.arange(head_dim).view(2, -1).T.flatten()  # 0, D/2, 1, D/2 + 1, …
    rows = (torch.arange(attention.n_heads)[:, None] * head_dim + place).flatten().to(attention.q_proj.weight.device)
    scale = head_dim**-0.5
    q, k = attention.q_proj, attention.k_proj
    return q.weight[rows] * scale, q.bias[rows] * scale, k.weight[rows], k.bias[rows]


def _norm(norm: RMSNorm) -> Tensor:
    """A norm's weight with the factor √C that ``normalise`` leaves out."""
    return norm.weight * math.sqrt(len(norm.weight))


def _linear(linear: nn.Linear, dtype: torch.dtype) -> Linear:
    return Linear(linear.weight, linear.bias, dtype)


def _copy(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.detach().to(dtype).contiguous()
