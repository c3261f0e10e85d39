"""Sampling in machine code; see :mod:`kronos.inference.kernels`.

Torch reads the context, where its products are at their best. Its keys and values go into the kernels' arrays, and
from then on a bar is two calls: one reads, one draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.inference import kernels
from kronos.inference.fused import FusedModel, Linear
from kronos.inference.kernel_types import Array, Draw, Heads, KeysValues, Matrix, Rows, Scratch, Stack
from kronos.inference.settings import DecodeSettings

_LINE = 16  # float32 numbers in a cache line


class CompiledModel:
    """A network's weights as the kernels take them: those of all layers in one array.

    Args:
        weights: ``float32``; ``int16`` (65,535 levels an output) or ``int8`` (255), which cost a half and a quarter of
            the memory's time. The arithmetic is float32 in each.
    """

    def __init__(self, net: FusedModel, weights: str = "float32") -> None:
        dep, blocks = net.dependency, net.stack.blocks

        def matrix(*layers: Linear) -> Matrix:
            return make_matrix(layers, weights)

        self.net = net
        self.stack = Stack(*(matrix(*(getattr(block, name) for block in blocks)) for name in Stack._fields))
        self.heads = Heads(
            norm=_aligned(net.norm),
            head_s1=matrix(net.head_s1),
            queries=_aligned(dep.queries.flatten(1)),
            keys_values=matrix(dep.kv),
            out=matrix(dep.out),
            head_s2=matrix(dep.head_s2),
        )

    def steps(self, series: int, paths: int, prefix: int, suffix: int) -> CompiledSteps:
        """The state of one batch; arguments as for :class:`~kronos.inference.decode.TorchSteps`."""
        return CompiledSteps(self, series, paths, prefix, suffix)


def make_matrix(layers: Sequence[Linear], kept: str) -> Matrix:
    """One map of every layer, its weights kept in float32, int16 or int8 as ``groups.Matrix`` says."""
    weight = torch.stack([layer.weight.T for layer in layers])  # (layers, inputs, outputs)
    bias = torch.stack([torch.zeros(layer.outputs) if layer.bias is None else layer.bias for layer in layers])
    scale = torch.ones_like(bias)
    if kept != "float32":
        scale = weight.abs().amax(1).clamp_min(1e-30) / torch.iinfo(getattr(torch, kept)).max
        weight = (weight / scale[:, None]).round()
    if kept == "int8":
        weight = weight.to(torch.int8).transpose(1, 2)
    elif kept == "int16":
        halves = F.pad(weight, (0, 0, 0, weight.shape[1] % 2)).to(torch.int32)
        weight = halves[:, ::2] & 0xFFFF | halves[:, 1::2] << 16
    return Matrix(_aligned(weight), _aligned(scale), _aligned(bias))


def _aligned(x: Tensor) -> Array:
    """As an array in torch's own memory, which begins at a cache line."""
    return x.detach().clone(memory_format=torch.contiguous_format).numpy()


class CompiledCache:
    """Keys and values in the kernels' layout; torch writes those of the context."""

    def __init__(
        self, layers: int, heads: int, dim: int, series: int, paths: int, prefix: int, suffix: int, rotary: Tensor
    ) -> None:
        common = -(-prefix // _LINE) * _LINE  # so that all rows begin at cache lines
        shared, single = (series, layers, heads, dim, common), (series * paths, layers, heads, suffix, dim)
        self._keys, self._values = torch.empty(shared), torch.empty(shared)
        self.arrays = KeysValues(
            common_keys=self._keys.numpy(),
            common_values=self._values.numpy(),
            path_keys=torch.empty(single).numpy(),
            path_values=torch.empty(single).numpy(),
            lengths=np.zeros(series, np.int64),
            rotary=_aligned(torch.view_as_real(rotary)),
        )

    def write_prefix(self, layer: int, kv: Tensor) -> None:
        """Keeps the keys and values (B, P, 2, N, D) of the common past."""
        for part, kept in enumerate((self._keys, self._values)):
            kept[:, layer, :, :, : kv.shape[1]] = kv[:, :, part].permute(0, 2, 3, 1)


class CompiledSteps:
    """:class:`~kronos.inference.decode.TorchSteps` in machine code, on the CPU."""

    def __init__(self, model: CompiledModel, series: int, paths: int, prefix: int, suffix: int) -> None:
        net, sizes = model.net, (series, paths, prefix, suffix)
        stack, dep, c = net.stack, net.dependency, net.config
        self.model, self.net, self.reader, self.series, self.paths = model, net, net, series, paths
        self.rotary, self.dep_rotary = net.rotary_tables(prefix + suffix)
        self.trunk = CompiledCache(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes, self.rotary)
        rotary = self.dep_rotary if dep.rotated else torch.ones_like(self.dep_rotary)
        self.dependency = CompiledCache(1, dep.n_heads, dep.head_dim, *sizes, rotary)
        self.rows = make_rows(series, paths, 0, 1)
        past = self.trunk.arrays
        positions = past.common_keys.shape[-1] + past.path_keys.shape[-2]
        width, ff = c.d_model, c.ff_dim
        columns = (width, width, 3 * width, 2 * width, ff, ff, positions, 2**c.s1_bits, 2**c.s2_bits)
        self.scratch = Scratch(*(torch.empty(kernels.ROWS_AT_ONCE, n).numpy() for n in columns))
        self.length = 0  # sampled positions in use

    def reset(self, lengths: Tensor, prefix: int) -> None:
        self.last, self.length = lengths - 1, 0
        self.trunk.arrays.lengths[:] = self.dependency.arrays.lengths[:] = lengths.numpy()

    def step(self, x: Tensor) -> Tensor:
        count, width = x.shape[2:]
        hidden = x.reshape(-1, width).numpy()
        rows = self._at(self.length) if count == 1 else make_rows(self.series, self.paths, self.length, count)
        model, past, dependency = self.model, self.trunk.arrays, self.dependency.arrays
        kernels.read_rows(model.stack, model.heads, past, dependency, rows, hidden, self.scratch)
        self.length += count
        return torch.from_numpy(hidden).view(x.shape)[:, :, -1]

    def sample(self, hidden: Tensor, uniforms: Tensor, settings: DecodeSettings) -> tuple[Tensor, Tensor]:
        states, numbers = (x.reshape(-1, x.shape[-1]).contiguous().numpy() for x in (hidden, uniforms))
        tokens = torch.empty((len(states), 2), dtype=torch.long)
        top_k = min(settings.top_k, 2**31)  # more than any vocabulary, and within a machine's integers
        draw = Draw(0.0 if settings.greedy else float(settings.temperature), top_k, float(settings.top_p))
        rows, past = self._at(self.length - 1), self.dependency.arrays
        kernels.draw_tokens(self.model.heads, past, rows, states, numbers, draw, self.scratch, tokens.numpy())
        both = tokens.view(self.series, self.paths, 2)
        return both[..., 0], both[..., 1]

    def _at(self, place: int) -> Rows:
        """One position of every path."""
        self.rows.place.fill(place)
        return self.rows


def make_rows(series: int, paths: int, first: int, count: int) -> Rows:
    """Sampled positions ``first`` to ``first + count - 1`` of every path."""
    path = np.repeat(np.arange(series * paths), count)
    return Rows(path // paths, path, np.tile(np.arange(first, first + count), series * paths))
