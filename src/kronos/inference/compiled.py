"""The steps of a batch through compiled kernels; see :mod:`kronos.inference.kernels`.

Torch reads the context, where its products are at their best. Its keys and values go into the kernels' own arrays,
and from then on a bar is two calls: one reads, one draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kronos.inference import kernels
from kronos.inference.fused import FusedModel, FusedStack
from kronos.inference.groups import Array, Draw, Ending, Matrix, Past, Rows, Scratch, Stack
from kronos.inference.linear import Linear
from kronos.inference.sampling import SamplingSettings
from kronos.inference.steps import Steps

_LINE = 16  # float32 numbers in a cache line


class CompiledModel:
    """A network's weights as the kernels take them: those of all layers in one array.

    Args:
        int8: round weights to 255 levels with one scale an output: a quarter of the memory to read.
    """

    def __init__(self, net: FusedModel, *, int8: bool = False) -> None:
        dep = net.dependency
        self.stack = compiled_stack(net.stack, int8)
        self.ending = Ending(
            norm=_aligned(net.norm),
            head_s1=_matrix([net.head_s1], int8),
            queries=_aligned(dep.queries.flatten(1)),
            keys_values=_matrix([dep.kv], int8),
            out=_matrix([dep.out], int8),
            head_s2=_matrix([dep.head_s2], int8),
        )


def compiled_stack(stack: FusedStack, int8: bool = False) -> Stack:
    """The maps of a stack of blocks."""
    return Stack(*(_matrix([getattr(block, name) for block in stack.blocks], int8) for name in Stack._fields))


def _matrix(layers: Sequence[Linear], int8: bool) -> Matrix:
    weight = torch.stack([layer.weight.T for layer in layers]).float()
    bias = torch.stack([torch.zeros(layer.outputs) if layer.bias is None else layer.bias.float() for layer in layers])
    scale = torch.ones_like(bias)
    if int8:
        scale = weight.abs().amax(1).clamp_min(1e-30) / 127
        weight = (weight / scale[:, None]).round().to(torch.int8)
    return Matrix(_aligned(weight), _aligned(scale), _aligned(bias))


def _aligned(x: Tensor) -> Array:
    """As an array in torch's own memory, which begins at a cache line."""
    return x.detach().clone(memory_format=torch.contiguous_format).numpy()


class CompiledPast:
    """Keys and values in the kernels' layout; torch writes those of the context."""

    def __init__(
        self, layers: int, heads: int, dim: int, series: int, paths: int, prefix: int, suffix: int, turns: Tensor
    ) -> None:
        common = -(-prefix // _LINE) * _LINE  # so that all rows begin at cache lines
        shared, single = (series, layers, heads, dim, common), (series * paths, layers, heads, suffix, dim)
        self._keys, self._values = torch.empty(shared), torch.empty(shared)
        self.arrays = Past(
            common_keys=self._keys.numpy(),
            common_values=self._values.numpy(),
            own_keys=torch.empty(single).numpy(),
            own_values=torch.empty(single).numpy(),
            lengths=np.zeros(series, np.int64),
            turns=_aligned(torch.view_as_real(turns)),
        )

    def write_prefix(self, layer: int, kv: Tensor) -> None:
        """Keeps the keys and values (B, P, 2, N, D) of the common past."""
        for part, kept in enumerate((self._keys, self._values)):
            kept[:, layer, :, :, : kv.shape[1]] = kv[:, :, part].permute(0, 2, 3, 1)


class CompiledSteps(Steps):
    """Steps whose bars are read and drawn in machine code, on the CPU in float32."""

    trunk: CompiledPast
    dependency: CompiledPast

    def __init__(
        self, net: FusedModel, weights: CompiledModel, series: int, paths: int, prefix: int, suffix: int
    ) -> None:
        super().__init__(net, prefix + suffix)
        stack, dep, c, sizes = net.stack, net.dependency, net.config, (series, paths, prefix, suffix)
        self.weights, self.series, self.paths = weights, series, paths
        self.trunk = CompiledPast(len(stack.blocks), stack.n_heads, stack.head_dim, *sizes, self.turns)
        asked = self.dep_turns if dep.rotated else torch.ones_like(self.dep_turns)
        self.dependency = CompiledPast(1, dep.n_heads, dep.head_dim, *sizes, asked)
        self.rows = make_rows(series, paths, 0, 1)
        self.scratch = make_scratch(c.d_model, c.ff_dim, self.trunk, 2**c.s1_bits, 2**c.s2_bits)
        self.length = 0  # own positions in use

    def reset(self, lengths: Tensor, prefix: int) -> None:
        self.last, self.length = lengths - 1, 0
        self.trunk.arrays.lengths[:] = self.dependency.arrays.lengths[:] = lengths.numpy()

    def step(self, x: Tensor) -> Tensor:
        count, width = x.shape[2:]
        hidden = x.reshape(-1, width).numpy()
        rows = self._at(self.length) if count == 1 else make_rows(self.series, self.paths, self.length, count)
        past, coarse, weights = self.trunk.arrays, self.dependency.arrays, self.weights
        kernels.read(weights.stack, weights.ending, past, coarse, rows, hidden, self.scratch)
        self.length += count
        return torch.from_numpy(hidden).view(x.shape)[:, :, -1]

    def sample(self, hidden: Tensor, uniforms: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
        states, numbers = (x.reshape(-1, x.shape[-1]).contiguous().numpy() for x in (hidden, uniforms))
        tokens = torch.empty((len(states), 2), dtype=torch.long)
        draw = Draw(0.0 if settings.greedy else float(settings.temperature), int(settings.top_k), float(settings.top_p))
        rows, ending = self._at(self.length - 1), self.weights.ending
        kernels.draw_bars(ending, self.dependency.arrays, rows, states, numbers, draw, self.scratch, tokens.numpy())
        both = tokens.view(self.series, self.paths, 2)
        return both[..., 0], both[..., 1]

    def _at(self, place: int) -> Rows:
        """One position of every path."""
        self.rows.place.fill(place)
        return self.rows


def make_rows(series: int, paths: int, first: int, count: int) -> Rows:
    """Own positions ``first`` to ``first + count - 1`` of every path."""
    path = np.repeat(np.arange(series * paths), count)
    return Rows(path // paths, path, np.tile(np.arange(first, first + count), series * paths))


def make_scratch(width: int, ff: int, past: CompiledPast, *vocabularies: int) -> Scratch:
    """Intermediate results; ``vocabularies`` are the sizes of s1 and s2."""
    positions = past.arrays.common_keys.shape[-1] + past.arrays.own_keys.shape[-2]
    columns = (width, width, 3 * width, 2 * width, ff, ff, positions, *vocabularies)
    return Scratch(*(torch.empty(kernels.ROWS_AT_ONCE, n).numpy() for n in columns))
