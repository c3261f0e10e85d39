"""The decode engine: read a series once, then continue all of its paths bar by bar.

    tokens = encode(features)                    once a series
    for each bar of the horizon:
        hidden = prefill(window)                 when the window is new: once a series, whatever the paths
              or step(last sampled tokens)       else: one position a path against the caches
        s1, s2 = sample(hidden, uniforms)        the coarse token, then the fine token given the coarse one
    features = decode(tokens)                    bars of the horizon only, again sharing the context

It computes what :mod:`kronos.inference.oracle` computes, token for token. Series of unequal length are padded on the
right: with causal attention nothing real ever sees the padding, and the caches hide it from later bars.

Shapes: B series, S paths, P bars of context in the window, L positions at once, H horizon, C width, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from kronos.errors import Cancelled
from kronos.inference.attention import causal_attention, shared_attention
from kronos.inference.cache import Cache
from kronos.inference.fused import FusedModel, FusedStack, FusedTokenizer, turn_table
from kronos.inference.sampling import SamplingSettings, sample_token
from kronos.inference.threads import thread_count, threads_for
from kronos.inference.window import Window

_DECODE_ROWS = 1024  # sampled tokens decoded at once: enough for full speed, little enough to stay in the cache


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to hear and to say while bars are sampled."""

    progress: Callable[[int], None] | None = None  # told how many more bars have been sampled
    cancel: Callable[[], bool] | None = None  # asked before every bar

    @classmethod
    def counting(
        cls, progress: Callable[[int, int], None] | None, cancel: Callable[[], bool] | None, total: int
    ) -> Hooks:
        """Hooks for a caller who wants to hear (bars sampled so far, bars in all)."""
        if progress is None:
            return cls(None, cancel)
        done, lock = 0, Lock()

        def more(bars: int) -> None:
            nonlocal done
            with lock:  # workers report at the same time
                done += bars
                progress(done, total)

        return cls(more, cancel)

    def stopping(self, also: Callable[[], bool]) -> Hooks:
        """The same hooks with one more reason to stop."""
        cancel = self.cancel
        return Hooks(self.progress, also if cancel is None else lambda: also() or cancel())

    def check(self) -> None:
        """Raises Cancelled when the caller asks to stop."""
        if self.cancel is not None and self.cancel():
            raise Cancelled("stopped on request before the forecast was complete")

    def done(self, bars: int) -> None:
        if self.progress is not None:
            self.progress(bars)


@dataclass(frozen=True)
class Batch:
    """Series to be continued together.

    Attributes:
        features: (B, T, F) float32, padded on the right.
        lengths: bars of context of each series.
        stamps: (B, T, 5) of the context, padded alike.
        future: (B, H, 5) stamps of the horizon.
        uniforms: (B, S, H, 2).
    """

    features: Tensor
    lengths: list[int]
    stamps: Tensor
    future: Tensor
    uniforms: Tensor

    @property
    def ragged(self) -> bool:
        return min(self.lengths) < self.features.shape[1]


class State:
    """The caches of one batch and where its paths stand."""

    def __init__(self, net: FusedModel, series: int, paths: int, prefix: int, suffix: int) -> None:
        stack, dep = net.stack, net.dependency
        sizes = (series, paths, prefix, suffix, net.dtype, net.device)
        self.trunk = Cache(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes)
        self.dependency = Cache(1, dep.n_heads, dep.head_dim, *sizes)
        self.turns = turn_table(prefix + suffix, stack.head_dim, net.device)
        self.dep_turns = turn_table(prefix + suffix, dep.head_dim, net.device)
        self.suffix = suffix

    def reset(self, lengths: Tensor, prefix: int) -> None:
        """A new window whose first ``prefix`` bars are the context's.

        Args:
            lengths: (B,) or (1,) how many of those are real.
        """
        padded = lengths if lengths.numel() > 1 else None
        self.trunk.reset(prefix, padded)
        self.dependency.reset(prefix, padded)
        place = lengths[:, None] - 1 + torch.arange(self.suffix + 1, device=lengths.device)
        self.last = lengths - 1  # (B) or (1)
        # Rotations from the last bar of the context on, shaped for (B, S, L, parts, N, D/2).
        place.clamp_(0, len(self.turns) - 1)
        self.own_turns = self.turns[place][:, None, :, None, None]
        self.own_dep_turns = self.dep_turns[place][:, None, :, None, None]

    def advance(self, count: int) -> None:
        """``count`` more positions of every path are in the caches."""
        self.trunk.length += count
        self.dependency.length += count


def read_prefix(stack: FusedStack, x: Tensor, turns: Tensor, cache: Cache | None, *, keys_only: bool = False) -> Tensor:
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


def prefill(net: FusedModel, state: State, x: Tensor) -> Tensor:
    """Reads the context (B, P, C) of a window; returns the hidden state of its last bar (B, 1, C)."""
    hidden = net.finish(read_prefix(net.stack, x, state.turns, state.trunk))
    dep = net.dependency
    state.dependency.write_prefix(0, dep.keys_values(hidden, state.dep_turns[: x.shape[1], None, None]))
    return hidden[torch.arange(len(hidden), device=x.device), state.last][:, None]


def step(net: FusedModel, state: State, x: Tensor) -> Tensor:
    """Reads the next L bars of every path (B, S, L, C); returns the hidden states of the last ones (B, S, C)."""
    here = slice(state.trunk.length + 1, state.trunk.length + 1 + x.shape[2])
    hidden = net.finish(read_suffix(net.stack, x, state.own_turns[:, :, here], state.trunk))
    state.dependency.append(0, net.dependency.keys_values(hidden, state.own_dep_turns[:, :, here]))
    state.advance(x.shape[2])
    return hidden[:, :, -1]


def sample(
    net: FusedModel, state: State, hidden: Tensor, uniforms: Tensor, settings: SamplingSettings
) -> tuple[Tensor, Tensor]:
    """Draws the next bar of every path from hidden states (B, S, C) and uniforms (B, S, 2); s1 and s2, each (B, S)."""
    s1 = sample_token(net.head_s1(hidden), uniforms[..., 0], settings)
    return s1, sample_token(fine_logits(net, state, hidden, s1), uniforms[..., 1], settings)


def fine_logits(net: FusedModel, state: State, hidden: Tensor, s1: Tensor) -> Tensor:
    """s2 logits (B, S, V2) of the bar that follows, given its coarse token (B, S)."""
    length = state.dependency.length
    query = net.dependency.query(s1[..., None], state.own_dep_turns[:, :, length : length + 1, 0])
    asked = shared_attention(query, state.dependency.visible(0, length))
    return net.dependency.logits(hidden, asked[:, :, 0])


def encode(tok: FusedTokenizer, features: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, F) -> s1 and s2 ids, each (B, T)."""
    turns = turn_table(features.shape[1], tok.encoder.head_dim, features.device)
    return tok.to_ids(read_prefix(tok.encoder, tok.embed(features), turns, None))


def decode(
    tok: FusedTokenizer, context: tuple[Tensor, Tensor], lengths: Tensor, sampled: tuple[Tensor, Tensor]
) -> Tensor:
    """Features (B, S, L, F) of sampled tokens (B, S, L) that follow the context's (B, P), float32.

    Args:
        lengths: (B,) or (1,) how many of the P are real.
    """
    n_series, n_paths, n_bars = sampled[0].shape
    prefix = context[0].shape[1]
    stack, device = tok.decoder, sampled[0].device
    at_once = max(1, min(n_paths, _DECODE_ROWS // (n_bars * n_series)))
    turns = turn_table(prefix + n_bars, stack.head_dim, device)
    cache = Cache(len(stack.blocks), stack.n_heads, stack.head_dim, n_series, at_once, prefix, 0, tok.dtype, device)
    cache.reset(prefix, lengths if lengths.numel() > 1 else None)
    if prefix:
        read_prefix(stack, tok.embed_ids(*context), turns, cache, keys_only=True)
    own_turns = turns[lengths[:, None] + torch.arange(n_bars, device=device)][:, None, :, None, None]
    out = torch.empty(n_series, n_paths, n_bars, tok.config.d_in, device=device)
    for first in range(0, n_paths, at_once):
        paths = slice(first, min(first + at_once, n_paths))
        x = tok.embed_ids(sampled[0][:, paths], sampled[1][:, paths])
        out[:, paths] = tok.to_features(read_suffix(stack, x, own_turns, cache))
    return out


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
    batch: Batch,
    settings: SamplingSettings,
    *,
    max_context: int,
    window_stride: int = 1,
    hooks: Hooks | None = None,
) -> Continuation:
    """Samples the horizon of every path of a batch.

    Args:
        max_context: bars that the network reads at most. Series of unequal length must fit with their horizon.
        window_stride: bars dropped at once when the window is full.

    Raises:
        Cancelled: the caller's hook asked to stop.
    """
    hooks = hooks or Hooks()
    (n_series, n_context), (n_paths, horizon) = batch.features.shape[:2], batch.uniforms.shape[1:3]
    window = Window(n_context, max_context, window_stride)
    lengths = torch.tensor(batch.lengths if batch.ragged else [n_context], device=net.device)
    weights = net.weights_per_step
    reading, stepping = threads_for(n_series * n_context, weights), threads_for(n_series * n_paths, weights)
    with thread_count(reading):
        context = encode(tok, batch.features)
    past_time, time = net.embed_time(batch.stamps), net.embed_time(batch.future)[:, None]
    s1 = torch.empty((n_series, n_paths, horizon), dtype=torch.long, device=net.device)
    s2 = torch.empty_like(s1)
    state = State(net, n_series, n_paths, min(n_context, max_context), min(horizon, max_context))

    def read_own(first: int, end: int) -> Tensor:
        bars = slice(first, end)
        return step(net, state, net.embed(s1[:, :, bars], s2[:, :, bars], time[:, :, bars]))

    def open_window(start: int, sampled: int) -> Tensor:
        prefix = max(0, n_context - start)
        state.reset(lengths - start if prefix else lengths.new_zeros(1), prefix)
        hidden = None
        if prefix:
            bars = slice(start, n_context)
            hidden = prefill(net, state, net.embed(context[0][:, bars], context[1][:, bars], past_time[:, bars]))
        own = max(0, start - n_context)
        return read_own(own, sampled) if hidden is None or own < sampled else hidden

    opened = None
    with thread_count(stepping):
        for i in range(horizon):
            hooks.check()
            start = window.start(n_context + i)
            if start == opened:
                hidden = read_own(i - 1, i)
            else:
                with thread_count(reading):
                    hidden = open_window(start, i)
                opened = start
            hidden = hidden.expand(-1, n_paths, -1)
            s1[:, :, i], s2[:, :, i] = sample(net, state, hidden, batch.uniforms[:, :, i], settings)
            hooks.done(n_series * n_paths)
    with thread_count(threads_for(n_series * (n_context + n_paths * horizon), weights)):
        return Continuation(s1, s2, _decode_horizon(tok, context, lengths, (s1, s2), window))


def _decode_horizon(
    tok: FusedTokenizer, context: tuple[Tensor, Tensor], lengths: Tensor, sampled: tuple[Tensor, Tensor], window: Window
) -> Tensor:
    blocks = []
    for start, first, end in window.decode_blocks(sampled[0].shape[-1]):
        prefix, own = max(0, window.context - start), max(0, start - window.context)
        past = (context[0][:, start:], context[1][:, start:]) if prefix else (context[0][:, :0], context[1][:, :0])
        real = lengths - start if prefix else lengths.new_zeros(1)
        new = (sampled[0][:, :, own:end], sampled[1][:, :, own:end])
        blocks.append(decode(tok, past, real, new)[:, :, first - end :])
    return torch.cat(blocks, dim=2)
