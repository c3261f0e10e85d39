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
the same members and does it in machine code; :class:`kronos.inference.captured.CapturedSteps` repeats whole bars as
CUDA graphs.

Shapes: B series, S paths, P bars of context in the window, L positions at once, H horizon, C width, F features.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kronos.inference.attention import KeyValueCache, causal_attention, shared_attention
from kronos.inference.fused import FusedModel, FusedStack, FusedTokenizer, rotary_table
from kronos.inference.sampling import sample_token
from kronos.inference.settings import DecodeSettings, SlidingWindow
from kronos.inference.threads import Monitor, Pace, thread_count, threads_for

if TYPE_CHECKING:
    from kronos.inference.captured import CapturedModel, CapturedSteps
    from kronos.inference.compiled import CompiledCache, CompiledModel, CompiledSteps

# Sampled tokens decoded at once: enough for full speed, on a CPU little enough to stay in the cache.
_DECODE_ROWS, _DECODE_ROWS_ON_GPU = 1024, 1 << 16
_REPORT_EVERY = 8  # captured bars; the device is waited for, so that progress is true and a stop is heard


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
    captured: CapturedModel | None = None,
    monitor: Monitor | None = None,
) -> Continuation:
    """Samples the horizon of every path of a batch.

    Args:
        settings: series of unequal length must fit into ``max_context`` with their horizon.
        compiled: the same network for sampling in machine code.
        captured: the same network for sampling by CUDA graphs. Neither: torch, operation by operation.

    Raises:
        Cancelled: the caller asked to stop.
    """
    (n_series, n_context), (n_paths, horizon) = batch.features.shape[:2], batch.uniforms.shape[1:3]
    window = SlidingWindow(n_context, settings.max_context, settings.window_stride)
    weights = net.weights_per_step
    monitor, began = monitor or Monitor(), time.perf_counter()
    with thread_count(threads_for(n_series * n_context, weights)):
        context = encode(tok, batch.features)
    encoding = time.perf_counter() - began
    sampling = Sampling(net, batch, context, settings, window, compiled, captured)
    s1, s2 = sampling.run(monitor, encoding)
    lengths = sampling.lengths[:n_series]
    with thread_count(threads_for(n_series * (n_context + n_paths * horizon), weights)):
        features = decode_horizon(tok, context, lengths, (s1, s2), window)
    monitor.add(n_series * n_paths * horizon * (1 - sampling.told))
    return Continuation(s1, s2, features)


class Sampling:
    """The loop over the bars of a horizon.

    Args:
        context: s1 and s2 ids of the batch, (B, T) each.
        compiled, captured: as for :func:`continue_batch`.
    """

    def __init__(
        self,
        net: FusedModel,
        batch: DecodeBatch,
        context: tuple[Tensor, Tensor],
        settings: DecodeSettings,
        window: SlidingWindow,
        compiled: CompiledModel | None,
        captured: CapturedModel | None,
    ) -> None:
        self.net, self.settings, self.window, self.context = net, settings, window, context
        n_context, (n_series, n_paths, horizon) = batch.features.shape[1], batch.uniforms.shape[:3]
        self.wanted = (n_series, n_paths, horizon)
        self.told = 0.0  # the share of the work that the monitor knows to be done
        if captured is not None:
            batch, self.context = captured.pad(batch, context)
        self.lengths = torch.tensor(batch.lengths if batch.ragged else [n_context], device=net.device)
        self.uniforms, self.paths = batch.uniforms, batch.uniforms.shape[1]
        rows = self.paths * batch.uniforms.shape[0]
        self.reading = threads_for(len(batch.lengths) * n_context, net.weights_per_step)
        self.stepping = threads_for(rows, net.weights_per_step)
        self.past_time, self.time = net.embed_time(batch.stamps), net.embed_time(batch.future)[:, None]
        room = min(n_context, settings.max_context), min(horizon, settings.max_context)
        sizes = (len(batch.lengths), self.paths, *room)
        self.graphs: CapturedSteps | None = None
        self.steps: TorchSteps | CompiledSteps
        if captured is not None:
            self.graphs = captured.steps(batch, self.time[:, 0], room, settings)
            self.steps, self.tokens = self.graphs.eager, self.graphs.tokens[..., :horizon]
        else:
            self.steps = TorchSteps(net, *sizes) if compiled is None else compiled.steps(*sizes)
            self.tokens = torch.empty((2, *sizes[:2], horizon), dtype=torch.long, device=net.device)

    def run(self, monitor: Monitor, encoding: float) -> tuple[Tensor, Tensor]:
        """Draws every bar of every path: s1 and s2, (B, S, H) each; ``encoding`` the seconds that the context took."""
        n_series, n_paths, horizon = self.wanted
        s1, s2 = self.tokens
        starts = [self.window.start(self.window.context + i) for i in range(horizon)]
        context, opened, reads = self.window.context, None, [0] * horizon
        for i, start in enumerate(starts):
            if start != opened:  # the context's bars once a series, the sampled ones once a path
                sampled = (i - max(0, start - context)) * n_paths
                reads[i], opened = n_series * (max(0, context - start) + sampled), start
        rows = context * len(list(self.window.decode_blocks(horizon))) + n_paths * horizon
        pace = Pace(sum(reads), reads.count(0), encoding * rows / context, encoding)
        opened, reported, all_bars = None, 0, n_series * n_paths * horizon
        with thread_count(self.stepping):
            for i, start in enumerate(starts):
                monitor.check()
                if start == opened and self.graphs is not None:
                    self.graphs.advance(i)
                else:
                    hidden = self.read(i - 1, i) if start == opened else self.open_window(start, i)
                    hidden = hidden.expand(-1, self.paths, -1)
                    s1[:, :, i], s2[:, :, i] = self.steps.sample(hidden, self.uniforms[:, :, i], self.settings)
                new, opened = start != opened, start
                due = new or self.graphs is None or (i + 1 - reported) == _REPORT_EVERY or i + 1 == horizon
                if due or starts[i + 1] != start:
                    if self.net.device.type == "cuda":
                        torch.cuda.current_stream(self.net.device).synchronize()
                    share = pace.share(read=reads[i], bars=i + 1 - reported)
                    monitor.add(all_bars * (share - self.told))
                    self.told, reported = share, i + 1
        return s1[:n_series, :n_paths].clone(), s2[:n_series, :n_paths].clone()

    def read(self, first: int, end: int) -> Tensor:
        """Reads the sampled bars [first, end) of every path; hidden states of the last (B, S, C)."""
        s1, s2 = self.tokens[..., first:end]
        return self.steps.step(self.net.embed(s1, s2, self.time[:, :, first:end]))

    def open_window(self, start: int, sampled: int) -> Tensor:
        """Reads the window that begins at bar ``start`` anew; hidden states (B, 1 or S, C) of its newest bar."""
        steps, n_context = self.steps, self.window.context
        prefix, first = max(0, n_context - start), max(0, start - n_context)
        lengths = (self.lengths - start).clamp_(min=0)
        steps.reset(lengths, prefix)
        if self.graphs is not None:
            self.graphs.opened(lengths)
        hidden, precision = None, nullcontext() if self.graphs is None else self.graphs.reading()
        with thread_count(self.reading):
            if prefix:
                s1, s2 = (ids[:, start:] for ids in self.context)
                with precision:
                    hidden = prefill(steps, self.net.embed(s1, s2, self.past_time[:, start:]))
            return self.read(first, sampled) if hidden is None or first < sampled else hidden


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
    most = _DECODE_ROWS if device.type == "cpu" else _DECODE_ROWS_ON_GPU
    at_once = max(1, min(n_paths, most // (n_bars * n_series)))
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

    def __init__(
        self,
        net: FusedModel,
        series: int,
        paths: int,
        prefix: int,
        suffix: int,
        *,
        reader: FusedModel | None = None,
        joined: bool = True,
    ) -> None:
        """``reader`` reads contexts in place of ``net``; ``joined`` as in :class:`KeyValueCache`."""
        stack, dep = net.stack, net.dependency
        sizes = (series, paths, prefix, suffix, net.dtype, net.device)
        self.net, self.reader, self.suffix = net, reader or net, suffix
        self.rotary, self.dep_rotary = net.rotary_tables(prefix + suffix)
        self.trunk = KeyValueCache(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes, joined=joined)
        self.dependency = KeyValueCache(1, dep.n_heads, dep.head_dim, *sizes, joined=joined)

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
    net = steps.reader
    hidden = net.finish(read_prefix(net.stack, x.to(net.dtype), steps.rotary, steps.trunk))
    rotary = steps.dep_rotary[: x.shape[1], None, None]
    steps.dependency.write_prefix(0, net.dependency.keys_values(hidden, rotary))
    return hidden[torch.arange(len(hidden), device=x.device), steps.last][:, None].to(x.dtype)


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
