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
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from kronos.errors import Cancelled
from kronos.inference.cache import Cache
from kronos.inference.fused import FusedModel, FusedTokenizer, turn_table
from kronos.inference.sampling import SamplingSettings
from kronos.inference.steps import MakeSteps, TorchSteps, read_prefix, read_suffix
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
    make_steps: MakeSteps | None = None,
) -> Continuation:
    """Samples the horizon of every path of a batch.

    Args:
        max_context: bars that the network reads at most. Series of unequal length must fit with their horizon.
        window_stride: bars dropped at once when the window is full.
        make_steps: None: :class:`~kronos.inference.steps.TorchSteps`.

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
    room = min(n_context, max_context), min(horizon, max_context)
    steps = (make_steps or partial(TorchSteps, net))(n_series, n_paths, *room)

    def read_own(first: int, end: int) -> Tensor:
        bars = slice(first, end)
        return steps.step(net.embed(s1[:, :, bars], s2[:, :, bars], time[:, :, bars]))

    def open_window(start: int, sampled: int) -> Tensor:
        prefix = max(0, n_context - start)
        steps.reset(lengths - start if prefix else lengths.new_zeros(1), prefix)
        hidden = None
        if prefix:
            bars = slice(start, n_context)
            hidden = steps.prefill(net.embed(context[0][:, bars], context[1][:, bars], past_time[:, bars]))
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
            s1[:, :, i], s2[:, :, i] = steps.sample(hidden, batch.uniforms[:, :, i], settings)
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
