"""One bar of every path: read what was sampled last, draw what comes next.

``Steps`` holds the caches of one batch and knows where its paths stand; ``prefill``, ``step`` and ``sample`` are the
three things that happen to them. :class:`TorchSteps` does all three; :class:`kronos.inference.compiled.CompiledSteps`
does the last two in machine code.

Shapes: B series, S paths, P bars of context in the window, L positions at once, C width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from kronos.inference.attention import causal_attention, shared_attention
from kronos.inference.cache import Cache
from kronos.inference.fused import FusedModel, FusedStack, turn_table
from kronos.inference.sampling import SamplingSettings, sample_token


class Prefix(Protocol):
    """Where the keys and values of a common past are kept."""

    def write_prefix(self, layer: int, kv: Tensor) -> None:
        """Keeps those of a layer, (B, P, 2, N, D)."""
        ...


class Steps(ABC):
    """The caches of one batch and where its paths stand.

    Args:
        positions: room for bars of the context and for sampled ones.

    Attributes:
        last: (B,) or (1,) place of the last real bar of the context.
    """

    trunk: Prefix
    dependency: Prefix

    def __init__(self, net: FusedModel, positions: int) -> None:
        self.net = net
        self.turns = turn_table(positions, net.stack.head_dim, net.device)
        self.dep_turns = turn_table(positions, net.dependency.head_dim, net.device)
        self.last = torch.zeros(1, dtype=torch.long)

    @abstractmethod
    def reset(self, lengths: Tensor, prefix: int) -> None:
        """A new window whose first ``prefix`` bars are the context's.

        Args:
            lengths: (B,) or (1,) how many of those are real.
        """

    def prefill(self, x: Tensor) -> Tensor:
        """Reads the context (B, P, C) of a window; returns the hidden state of its last bar (B, 1, C)."""
        net, dep = self.net, self.net.dependency
        hidden = net.finish(read_prefix(net.stack, x, self.turns, self.trunk))
        self.dependency.write_prefix(0, dep.keys_values(hidden, self.dep_turns[: x.shape[1], None, None]))
        return hidden[torch.arange(len(hidden), device=x.device), self.last][:, None]

    @abstractmethod
    def step(self, x: Tensor) -> Tensor:
        """Reads the next L bars of every path (B, S, L, C); returns the hidden states of the last ones (B, S, C)."""

    @abstractmethod
    def sample(self, hidden: Tensor, uniforms: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
        """Draws the next bar of every path from hidden states (B, S, C) and uniforms (B, S, 2); s1, s2 (B, S) each."""


MakeSteps = Callable[[int, int, int, int], Steps]  # from B, S, and the room for bars of the context and sampled ones


class TorchSteps(Steps):
    """Steps in torch, on any device and in any precision."""

    trunk: Cache
    dependency: Cache

    def __init__(self, net: FusedModel, series: int, paths: int, prefix: int, suffix: int) -> None:
        super().__init__(net, prefix + suffix)
        stack, dep = net.stack, net.dependency
        sizes = (series, paths, prefix, suffix, net.dtype, net.device)
        self.suffix = suffix
        self.trunk = Cache(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes)
        self.dependency = Cache(1, dep.n_heads, dep.head_dim, *sizes)

    def reset(self, lengths: Tensor, prefix: int) -> None:
        padded = lengths if lengths.numel() > 1 else None
        self.trunk.reset(prefix, padded)
        self.dependency.reset(prefix, padded)
        self.last = lengths - 1
        # Rotations from the last bar of the context on, shaped for (B, S, L, parts, N, D/2).
        place = lengths[:, None] - 1 + torch.arange(self.suffix + 1, device=lengths.device)
        place.clamp_(0, len(self.turns) - 1)
        self.own_turns = self.turns[place][:, None, :, None, None]
        self.own_dep_turns = self.dep_turns[place][:, None, :, None, None]

    def step(self, x: Tensor) -> Tensor:
        net, length = self.net, self.trunk.length
        here = slice(length + 1, length + 1 + x.shape[2])
        hidden = net.finish(read_suffix(net.stack, x, self.own_turns[:, :, here], self.trunk))
        self.dependency.append(0, net.dependency.keys_values(hidden, self.own_dep_turns[:, :, here]))
        self.trunk.length += x.shape[2]
        self.dependency.length += x.shape[2]
        return hidden[:, :, -1]

    def sample(self, hidden: Tensor, uniforms: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
        s1 = sample_token(self.net.head_s1(hidden), uniforms[..., 0], settings)
        return s1, sample_token(self.fine_logits(hidden, s1), uniforms[..., 1], settings)

    def fine_logits(self, hidden: Tensor, s1: Tensor) -> Tensor:
        """s2 logits (B, S, V2) of the bar that follows, given its coarse token (B, S)."""
        length = self.dependency.length
        query = self.net.dependency.query(s1[..., None], self.own_dep_turns[:, :, length : length + 1, 0])
        asked = shared_attention(query, self.dependency.visible(0, length))
        return self.net.dependency.logits(hidden, asked[:, :, 0])


def read_prefix(
    stack: FusedStack, x: Tensor, turns: Tensor, cache: Prefix | None, *, keys_only: bool = False
) -> Tensor:
    """Runs (B, P, C) causally through the blocks, keeping keys and values.

    Args:
        turns: (≥ P, D/2) rotations from position 0.
        keys_only: the last block's output is not wanted, only its keys and values.
    """
    turns = turns[: x.shape[1], None, None]
    for layer, block in enumerate(stack.blocks):
        qkv = stack.project(block, x, turns)
        if cache is not None:
            cache.write_prefix(layer, qkv[:, :, 1:])
        if keys_only and layer == len(stack.blocks) - 1:
            break
        out = causal_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = block.feed_forward(block.out.plus(out, x))
    return x


def read_suffix(stack: FusedStack, x: Tensor, turns: Tensor, cache: Cache) -> Tensor:
    """Runs the next L positions of every path, (B, S, L, C), against the caches, and adds them to these.

    Args:
        turns: (B or 1, 1, L, 1, 1, D/2) rotations of their positions.
    """
    for layer, block in enumerate(stack.blocks):
        qkv = stack.project(block, x, turns)
        visible = cache.append(layer, qkv[:, :, :, 1:])
        out = shared_attention(qkv[:, :, :, 0], visible)
        x = block.feed_forward(block.out.plus(out, x))
    return x
