"""The decode loop: read a series once, then continue all of its paths bar by bar.

    tokens = encode(features)                    once a series
    for each bar of the horizon:
        hidden = prefill(window)                 when the window is new: once a series, whatever the paths
              or step(last sampled tokens)       else: one position a path against the caches
        s1, s2 = sample(hidden, uniforms)        the coarse token, then the fine token given the coarse one
    features = decode(tokens)                    bars of the horizon only, again sharing the context

It computes what :mod:`kronos.inference.oracle` computes, token for token. Series of unequal length are padded on the
right: with causal attention nothing real ever sees the padding, and the caches hide it from later bars.

:class:`TorchSteps` samples on any device and in any precision; :class:`kronos.inference.compiled.CompiledSteps` has
the same members and does it in machine code.

Shapes: B series, S paths, P bars of context in the window, L positions at once, H horizon, C width, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kronos.inference.attention import KeyValueCache, causal_attention, shared_attention
from kronos.inference.fused import FusedModel, FusedStack, FusedTokenizer, rotary_table
from kronos.inference.sampling import sample_token
from kronos.inference.settings import DecodeSettings, SlidingWindow
from kronos.inference.threads import Monitor, thread_count, threads_for

if TYPE_CHECKING:
    from kronos.inference.compiled import CompiledCache, CompiledModel, CompiledSteps

_DECODE_ROWS = 1024  # sampled tokens decoded at once: enough for full speed, little enough to stay in the cache


@dataclass(frozen=True)
class DecodeBatch:
    """Series to be continued together, padded on the right."""

    features: Tensor  # (B, T, F) float32
    lengths: list[int]  # bars of context of each series
    stamps: Tensor  # (B, T, 5) of the context
    future: Tensor  # (B, H, 5) stamps of the horizon
    uniforms: Tensor  # (B, S, H, 2)

    @property
    def ragged(self) -> bool:
        return min(self.lengths) < self.features.shape[1]


@dataclass(frozen=True)
class Continuation:
    """What was sampled: s1 and s2 ids, each (B, S, H), and their features (B, S, H, F) float32."""

    s1: Tensor
    s2: Tensor
    features: Tensor


@torch.inference_mode()
def continue_batch(
    net: FusedModel,
    tok: FusedTokenizer,
    batch: DecodeBatch,
    settings: DecodeSettings,
    *,
    compiled: CompiledModel | None = None,
    monitor: Monitor | None = None,
) -> Continuation:
    """Samples the horizon of every path of a batch.

    Args:
        settings: series of unequal length must fit into ``max_context`` with their horizon.
        compiled: the same network for sampling in machine code. None: torch.

    Raises:
        Cancelled: the caller asked to stop.
    """
    monitor = monitor or Monitor()
    (n_series, n_context), (n_paths, horizon) = batch.features.shape[:2], batch.uniforms.shape[1:3]
    window = SlidingWindow(n_context, settings.max_context, settings.window_stride)
    lengths = torch.tensor(batch.lengths if batch.ragged else [n_context], device=net.device)
    weights = net.weights_per_step
    reading, stepping = threads_for(n_series * n_context, weights), threads_for(n_series * n_paths, weights)
    with thread_count(reading):
        context = encode(tok, batch.features)
    past_time, time = net.embed_time(batch.stamps), net.embed_time(batch.future)[:, None]
    s1, s2 = torch.empty((2, n_series, n_paths, horizon), dtype=torch.long, device=net.device)
    sizes = n_series, n_paths, min(n_context, settings.max_context), min(horizon, settings.max_context)
    steps = TorchSteps(net, *sizes) if compiled is None else compiled.steps(*sizes)

    def read_sampled(first: int, end: int) -> Tensor:
        return steps.step(net.embed(s1[:, :, first:end], s2[:, :, first:end], time[:, :, first:end]))

    def open_window(start: int, sampled: int) -> Tensor:
        prefix, first = max(0, n_context - start), max(0, start - n_context)
        steps.reset((lengths - start).clamp_(min=0), prefix)
        hidden = None
        if prefix:
            bars = slice(start, n_context)
            hidden = prefill(steps, net.embed(context[0][:, bars], context[1][:, bars], past_time[:, bars]))
        return read_sampled(first, sampled) if hidden is None or first < sampled else hidden

    opened = None
    with thread_count(stepping):
        for i in range(horizon):
            monitor.check()
            start = window.start(n_context + i)
            if start == opened:
                hidden = read_sampled(i - 1, i)
            else:
                with thread_count(reading):
                    hidden = open_window(start, i)
                opened = start
            hidden = hidden.expand(-1, n_paths, -1)
            s1[:, :, i], s2[:, :, i] = steps.sample(hidden, batch.uniforms[:, :, i], settings)
            monitor.add(n_series * n_paths)
    with thread_count(threads_for(n_series * (n_context + n_paths * horizon), weights)):
        return Continuation(s1, s2, decode_horizon(tok, context, lengths, (s1, s2), window))


# -- the tokenizer ----------------------------------------------------------------------------------------------------


def encode(tok: FusedTokenizer, features: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, F) -> s1 and s2 ids, each (B, T)."""
    rotary = rotary_table(features.shape[1], tok.encoder.head_dim, features.device)
    quantized, _ = tok.quantizer(tok.quant(read_prefix(tok.encoder, tok.embed(features), rotary, None)))
    return tok.quantizer.to_ids(quantized)


def decode_horizon(
    tok: FusedTokenizer,
    context: tuple[Tensor, Tensor],
    lengths: Tensor,
    sampled: tuple[Tensor, Tensor],
    window: SlidingWindow,
) -> Tensor:
    """Features (B, S, H, F) of all sampled tokens, each decoded from the window that the schedule gives it."""
    blocks = []
    for start, first, end in window.decode_blocks(sampled[0].shape[-1]):
        new = slice(max(0, start - window.context), end)
        past, paths = (context[0][:, start:], context[1][:, start:]), (sampled[0][:, :, new], sampled[1][:, :, new])
        blocks.append(decode(tok, past, (lengths - start).clamp_(min=0), paths)[:, :, first - end :])
    return torch.cat(blocks, dim=2)


def decode(
    tok: FusedTokenizer, context: tuple[Tensor, Tensor], lengths: Tensor, sampled: tuple[Tensor, Tensor]
) -> Tensor:
    """Features (B, S, L, F) of sampled tokens (B, S, L) after the context's (B, P), ``lengths`` of which are real."""
    n_series, n_paths, n_bars = sampled[0].shape
    prefix = context[0].shape[1]
    stack, device = tok.decoder, sampled[0].device
    at_once = max(1, min(n_paths, _DECODE_ROWS // (n_bars * n_series)))
    rotary = rotary_table(prefix + n_bars, stack.head_dim, device)
    cache = KeyValueCache(
        len(stack.blocks), stack.n_heads, stack.head_dim, n_series, at_once, prefix, 0, tok.dtype, device
    )
    cache.reset(prefix, lengths if lengths.numel() > 1 else None)
    if prefix:
        read_prefix(stack, tok.embed_ids(*context), rotary, cache, keys_only=True)
    places = lengths[:, None] + torch.arange(n_bars, device=device)
    out = torch.empty(n_series, n_paths, n_bars, tok.config.d_in, device=device)
    for first in range(0, n_paths, at_once):
        paths = slice(first, min(first + at_once, n_paths))
        x = tok.embed_ids(sampled[0][:, paths], sampled[1][:, paths])
        out[:, paths] = tok.head(read_suffix(stack, x, rotary[places][:, None, :, None, None], cache)).float()
    return out


# -- the network, bar by bar ------------------------------------------------------------------------------------------


class TorchSteps:
    """The caches of one batch, with room for ``prefix`` bars of the context and ``suffix`` sampled ones, in torch."""

    def __init__(self, net: FusedModel, series: int, paths: int, prefix: int, suffix: int) -> None:
        stack, dep = net.stack, net.dependency
        sizes = (series, paths, prefix, suffix, net.dtype, net.device)
        self.net, self.suffix = net, suffix
        self.rotary, self.dep_rotary = net.rotary_tables(prefix + suffix)
        self.trunk = KeyValueCache(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes)
        self.dependency = KeyValueCache(1, dep.n_heads, dep.head_dim, *sizes)

    def reset(self, lengths: Tensor, prefix: int) -> None:
        """A new window whose first ``prefix`` bars are the context's; ``lengths`` (B,) or (1,) of those are real."""
        padded = lengths if lengths.numel() > 1 else None
        self.trunk.reset(prefix, padded)
        self.dependency.reset(prefix, padded)
        self.last = lengths - 1  # place of the last real bar of the context
        # Rotations from the last bar of the context on, shaped for (B, S, L, parts, N, D/2).
        place = lengths[:, None] - 1 + torch.arange(self.suffix + 1, device=lengths.device)
        place.clamp_(0, len(self.rotary) - 1)
        self.path_rotary = self.rotary[place][:, None, :, None, None]
        self.path_dep_rotary = self.dep_rotary[place][:, None, :, None, None]

    def step(self, x: Tensor) -> Tensor:
        """Reads the next L bars of every path (B, S, L, C); returns the hidden states of the last ones (B, S, C)."""
        net, length = self.net, self.trunk.length
        here = slice(length + 1, length + 1 + x.shape[2])
        hidden = net.finish(read_suffix(net.stack, x, self.path_rotary[:, :, here], self.trunk))
        self.dependency.append(0, net.dependency.keys_values(hidden, self.path_dep_rotary[:, :, here]))
        self.trunk.length += x.shape[2]
        self.dependency.length += x.shape[2]
        return hidden[:, :, -1]

    def sample(self, hidden: Tensor, uniforms: Tensor, settings: DecodeSettings) -> tuple[Tensor, Tensor]:
        """Draws the next bar of every path from hidden states (B, S, C) and uniforms (B, S, 2): s1, s2 (B, S) each."""
        s1 = sample_token(self.net.head_s1(hidden), uniforms[..., 0], settings)
        return s1, sample_token(self.fine_logits(hidden, s1), uniforms[..., 1], settings)

    def fine_logits(self, hidden: Tensor, s1: Tensor) -> Tensor:
        """s2 logits (B, S, V2) of the bar that follows, given its coarse token (B, S)."""
        length = self.dependency.length
        query = self.net.dependency.query(s1[..., None], self.path_dep_rotary[:, :, length : length + 1, 0])
        answer = shared_attention(query, self.dependency.visible(0, length))
        return self.net.dependency.logits(hidden, answer[:, :, 0])


def prefill(steps: TorchSteps | CompiledSteps, x: Tensor) -> Tensor:
    """Reads the context (B, P, C) of a window; returns the hidden state of its last bar (B, 1, C)."""
    net = steps.net
    hidden = net.finish(read_prefix(net.stack, x, steps.rotary, steps.trunk))
    rotary = steps.dep_rotary[: x.shape[1], None, None]
    steps.dependency.write_prefix(0, net.dependency.keys_values(hidden, rotary))
    return hidden[torch.arange(len(hidden), device=x.device), steps.last][:, None]


def read_prefix(
    stack: FusedStack,
    x: Tensor,
    rotary: Tensor,
    cache: KeyValueCache | CompiledCache | None,
    *,
    keys_only: bool = False,
) -> Tensor:
    """Runs (B, P, C) causally through the blocks, keeping keys and values; rotary (≥ P, D/2) from position 0.

    ``keys_only``: the last block's output is not wanted, only its keys and values.
    """
    rotary = rotary[: x.shape[1], None, None]
    for layer, block in enumerate(stack.blocks):
        qkv = stack.project(block, x, rotary)
        if cache is not None:
            cache.write_prefix(layer, qkv[:, :, 1:])
        if keys_only and layer == len(stack.blocks) - 1:
            break
        x = block.feed_forward(x + block.out(causal_attention(*qkv.permute(2, 0, 3, 1, 4))))
    return x


def read_suffix(stack: FusedStack, x: Tensor, rotary: Tensor, cache: KeyValueCache) -> Tensor:
    """Runs the next L positions of every path, (B, S, L, C), against the caches, and adds them to these.

    Their rotations are (B or 1, 1, L, 1, 1, D/2).
    """
    for layer, block in enumerate(stack.blocks):
        qkv = stack.project(block, x, rotary)
        visible = cache.append(layer, qkv[:, :, :, 1:])
        x = block.feed_forward(x + block.out(shared_attention(qkv[:, :, :, 0], visible)))
    return x
