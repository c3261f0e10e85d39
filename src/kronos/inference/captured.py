"""A sampled bar as one CUDA graph: what the device is told once, it then repeats a bar at a call.

On a GPU a bar of a small network is some hundred kernels of a few microseconds each, and telling it of each takes
longer than the kernel. So the steady state of the decode loop, reading the bar drawn last and drawing the next, is
written with shapes and addresses that never change: caches of a fixed size that a mask hides from where they are not
filled, tokens, times and random numbers of the whole horizon in buffers of the device, and the place of the bar in a
tensor that the graph itself moves on. Nothing is allocated outside the graph's pool and nothing read back.

Windows are opened by :class:`~kronos.inference.decode.TorchSteps`, whose caches these are: reading a context is large
work. Graphs belong to a bucket of sizes, and the newest buckets are kept. On the CPU the same code runs uncaptured,
which is how tests compare it with the oracle.

Shapes: B series, S paths, P and T room for common positions and for those of a path, N heads, D head width, C width.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor

from kronos.inference.attention import KeyValueCache, cache_bytes
from kronos.inference.decode import DecodeBatch, TorchSteps
from kronos.inference.fused import FusedModel
from kronos.inference.sampling import sample_token
from kronos.inference.settings import DecodeSettings

_LEAST_ROOM = 32  # own positions that the shortest graph looks at; each longer one looks at twice as many
_WARM_UPS = 2  # runs before a capture, in which libraries choose their kernels and take their memory
_SHARE_KEPT = 4  # buckets kept take at most this part of the device's memory: one fourth
_KEPT_ON_CPU = 1 << 30


def bucket(count: int) -> int:
    """The size that ``count`` is rounded up to: four sizes an octave, so at most a quarter is wasted."""
    step = max(1, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step


class CapturedModel:
    """A network whose bars are captured, with the buckets that it keeps.

    Args:
        reader: the same network in another precision, to read contexts with. None: this one.
        tf32: read contexts in TensorFloat-32, products of numbers with ten bits behind the point.
        how: ``graph``, ``compile`` (by torch.compile, which makes graphs of its own) or ``plain`` (operation by
            operation). None: graphs on a GPU, else plain.
    """

    def __init__(
        self, net: FusedModel, reader: FusedModel | None = None, *, tf32: bool = False, how: str | None = None
    ) -> None:
        self.net, self.reader, self.tf32 = net, reader or net, tf32
        self.how = how or ("graph" if net.device.type == "cuda" else "plain")
        self.lock = Lock()  # the buffers of a bucket serve one batch at a time
        self.kept: OrderedDict[tuple[object, ...], CapturedSteps] = OrderedDict()
        # Graphs may share a pool since none leaves a result in it: those are in buffers.
        self.pool = torch.cuda.graph_pool_handle() if self.how == "graph" else None

    def steps(
        self, batch: DecodeBatch, time: Tensor, sizes: tuple[int, int], settings: DecodeSettings
    ) -> CapturedSteps:
        """The buffers and graphs for a batch, filled with its random numbers and times.

        Args:
            batch: as :meth:`pad` gives it.
            time: (B, H, C) embedded stamps of the horizon.
            sizes: room for positions of the context and for sampled ones.
        """
        n_series, n_paths, horizon = batch.uniforms.shape[:3]
        shape = (n_series, n_paths, *(bucket(size) for size in (*sizes, horizon)))
        key = (*shape, settings)
        steps = self.kept.pop(key, None)
        if steps is None:
            self._make_room(self._bytes(shape))
            steps = CapturedSteps(self, shape, settings)
        self.kept[key] = steps
        steps.uniforms[:, :, :horizon] = batch.uniforms
        steps.time[:, :horizon] = time
        return steps

    def pad(self, batch: DecodeBatch, context: tuple[Tensor, Tensor]) -> tuple[DecodeBatch, tuple[Tensor, Tensor]]:
        """As many series and paths as the bucket has; the last series and the last path stand in for those beyond."""
        n_series, n_paths = batch.uniforms.shape[:2]
        device = batch.uniforms.device
        series = torch.arange(bucket(n_series), device=device).clamp_(max=n_series - 1)
        paths = torch.arange(bucket(n_paths), device=device).clamp_(max=n_paths - 1)
        wide = dataclasses.replace(
            batch,
            features=batch.features[series],
            lengths=batch.lengths + batch.lengths[-1:] * (len(series) - n_series),
            stamps=batch.stamps[series],
            future=batch.future[series],
            uniforms=batch.uniforms[series][:, paths],
        )
        return wide, (context[0][series], context[1][series])

    def _make_room(self, needed: int) -> None:
        """Gives up the buckets used longest ago until a new one fits with those that stay."""
        device, most = self.net.device, _KEPT_ON_CPU
        if device.type == "cuda":
            most = torch.cuda.get_device_properties(device).total_memory // _SHARE_KEPT
        while self.kept and needed + sum(self._bytes(steps.shape) for steps in self.kept.values()) > most:
            self.kept.popitem(last=False)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        n_series, n_paths, prefix, suffix, horizon = shape
        layers, width = len(self.net.stack.blocks) + 1, self.net.config.d_model
        caches = cache_bytes(layers, width, n_paths, prefix, suffix, self.net.dtype.itemsize)
        return int(n_series * (caches + horizon * (4 * width + 24 * n_paths)))


class CapturedSteps:
    """The buffers of a bucket, and its graphs.

    Attributes:
        eager: reads contexts, and sampled bars again when the window moves.
        tokens: (2, B, S, H) what was drawn.
    """

    def __init__(self, model: CapturedModel, shape: tuple[int, ...], settings: DecodeSettings) -> None:
        n_series, n_paths, prefix, suffix, horizon = shape
        net = model.net
        device = net.device
        self.model, self.net, self.shape, self.settings = model, net, shape, settings
        self.eager = TorchSteps(net, n_series, n_paths, prefix, suffix, reader=model.reader, joined=False)
        for cache in (self.eager.trunk, self.eager.dependency):
            cache.clear()  # places that the mask hides are multiplied by 0, so they must hold numbers
        self.tokens = torch.zeros((2, n_series, n_paths, horizon), dtype=torch.long, device=device)
        self.uniforms = torch.zeros((n_series, n_paths, horizon, 2), device=device)
        self.time = torch.zeros((n_series, horizon, net.config.d_model), dtype=net.dtype, device=device)
        self.lengths = torch.ones(n_series, dtype=torch.long, device=device)  # common positions that are real
        self.bar = torch.zeros(1, dtype=torch.long, device=device)  # of the horizon, drawn next
        self.place = torch.zeros(1, dtype=torch.long, device=device)  # the own position read next
        self._rooms = torch.arange(max(prefix, suffix), device=device)
        self._next = -1  # the bar that the device's counters stand at
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Products of contexts, read inside, are in the precision that was chosen for them."""
        before = torch.backends.cuda.matmul.allow_tf32
        if before or not self.model.tf32:
            yield
            return
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    def opened(self, lengths: Tensor) -> None:
        """A window was opened; (B,) or (1,) bars of the context in it are real."""
        self.lengths.copy_(lengths.expand_as(self.lengths))
        self._next = -1

    @property
    def next_place(self) -> int:
        """The own position that the next bar is read at."""
        return self.eager.trunk.length

    def advance(self, bar: int) -> None:
        """Reads bar ``bar - 1`` of the horizon and draws bar ``bar``."""
        if self._next != bar:
            self._set_counters(bar)
        room = _LEAST_ROOM
        while room <= self.next_place:
            room *= 2
        self._run(bar, min(room, self.shape[3]))
        self._next = bar + 1
        for cache in (self.eager.trunk, self.eager.dependency):
            cache.length += 1

    def _set_counters(self, bar: int) -> None:
        self.bar.fill_(bar)
        self.place.fill_(self.next_place)

    def _run(self, bar: int, room: int) -> None:
        if self.model.how == "compile":
            self._compiled(room)
            return
        if self.model.how == "graph" and room not in self._graphs:
            try:
                self._graphs[room] = self._capture(bar, room)
            except RuntimeError as error:  # of torch or of the driver; the same code runs without a graph
                self.model.how = "plain"
                reason = " ".join(str(error).split())[:200]
                warnings.warn(f"no CUDA graph could be captured, sampling goes on without ({reason})", stacklevel=2)
                self._set_counters(bar)
        if self.model.how == "graph":
            self._graphs[room].replay()
        else:
            self.draw_next(room)

    @cached_property
    def _compiled(self) -> Callable[[int], None]:
        """The bar as torch.compile makes it, which captures only what it knows to stay where it is."""
        for kept in (*self.eager.trunk.own, *self.eager.dependency.own, self.tokens, self.bar, self.place):
            torch._dynamo.mark_static_address(kept)
        return torch.compile(self.draw_next, mode="reduce-overhead", dynamic=False)

    def _capture(self, bar: int, room: int) -> torch.cuda.CUDAGraph:
        """The graph of a bar. The runs before it do that bar's work, so doing it again changes nothing."""
        side = torch.cuda.Stream(self.net.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.net.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self.draw_next(room)
                self._set_counters(bar)
        torch.cuda.current_stream(self.net.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.model.pool, stream=side, capture_error_mode="thread_local"):
            self.draw_next(room)
        return graph

    # -- what is captured -----------------------------------------------------------------------------------------

    def draw_next(self, room: int) -> None:
        """Reads the bar drawn last and draws the next, looking at the first ``room`` own positions of every path."""
        net, trunk, dependency = self.net, self.eager.trunk, self.eager.dependency
        before = self.bar - 1
        s1, s2 = self.tokens.index_select(-1, before)  # (B, S, 1) each
        x = net.embed(s1, s2, self.time.index_select(1, before)[:, None])
        position = self.lengths + self.place
        rotary, dep_rotary = (
            table.index_select(0, position)[:, None, None, None, None]  # (B, 1, 1, 1, 1, D/2)
            for table in (self.eager.rotary, self.eager.dep_rotary)
        )
        hidden_common = self._rooms[: self.shape[2]] >= self.lengths[:, None]
        hidden_own = (self._rooms[:room] > self.place).expand(len(self.lengths), -1)
        hidden_places = torch.cat((hidden_common, hidden_own), dim=1)[:, None, None]  # (B, 1, 1, P + room)
        for layer, block in enumerate(net.stack.blocks):
            qkv = net.stack.project(block, x, rotary)
            self._write(trunk, layer, qkv[:, :, :, 1:])
            x = block.feed_forward(x + block.out(attend_masked(qkv[:, :, 0, 0], trunk, layer, hidden_places, room)))
        hidden = net.finish(x)
        self._write(dependency, 0, net.dependency.keys_values(hidden, dep_rotary))
        state, numbers = hidden[:, :, 0], self.uniforms.index_select(2, self.bar)[:, :, 0]
        s1 = sample_token(net.head_s1(state), numbers[..., 0], self.settings)
        query = net.dependency.query(s1, dep_rotary[:, :, 0, 0])
        answer = attend_masked(query, dependency, 0, hidden_places, room)[:, :, 0]
        s2 = sample_token(net.dependency.logits(state, answer), numbers[..., 1], self.settings)
        self.tokens.index_copy_(-1, self.bar, torch.stack((s1, s2)).unsqueeze(-1))
        self.bar.add_(1)
        self.place.add_(1)

    def _write(self, cache: KeyValueCache, layer: int, kv: Tensor) -> None:
        """Keeps the keys and values (B, S, 1, 2, N, D) of the bar that is read."""
        cache.own[layer].index_copy_(3, self.place, kv.flatten(0, 1).permute(2, 0, 3, 1, 4))


def attend_masked(q: Tensor, cache: KeyValueCache, layer: int, hidden: Tensor, room: int) -> Tensor:
    """Attention over the whole room of the common past and ``room`` places of each path's own.

    Args:
        q: (B, S, N, D), scaled and rotated.
        hidden: (B, 1, 1, P + room) bool, True where nothing may be seen.

    Returns:
        (B, S, 1, N·D).
    """
    n_series, n_paths, heads, dim = q.shape
    (keys, values), (own_keys, own_values) = cache.common[layer], cache.own[layer][:, :, :, :room]
    common = torch.matmul(q.transpose(1, 2), keys.transpose(-1, -2))  # (B, N, S, P)
    own = torch.matmul(q.reshape(-1, heads, 1, dim), own_keys.transpose(-1, -2))  # (B·S, N, 1, room)
    own = own.view(n_series, n_paths, heads, room).transpose(1, 2)
    scores = torch.cat((common, own), dim=-1).float().masked_fill(hidden, float("-inf"))
    weights = scores.softmax(-1).to(values.dtype)
    first, second = weights[..., : keys.shape[-2]], weights[..., keys.shape[-2] :]
    own_out = torch.matmul(second.transpose(1, 2).reshape(-1, heads, 1, room), own_values)  # (B·S, N, 1, D)
    common_out = torch.matmul(first, values).transpose(1, 2)  # (B, S, N, D)
    return (common_out + own_out.view(n_series, n_paths, heads, dim)).reshape(n_series, n_paths, 1, -1)
