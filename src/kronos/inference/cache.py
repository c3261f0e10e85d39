"""Keys and values of one stack: those of the past that all paths of a series share, and each path's own.

The memory is taken once and written in place. With a single path a series the two parts lie end to end, so that one
product covers both.

Shapes: B series, S paths, N heads, D head width, P common positions, T own positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Visible(NamedTuple):
    """What a query may look at, as ``shared_attention`` takes it."""

    common: Tensor | None  # (2, B, N, P, D) keys and values
    own: Tensor | None  # (2, B·S, N, T, D)
    mask: Tensor | None  # (B, 1, 1, P), 0 or -inf


class Cache:
    """Preallocated keys and values.

    Args:
        layers: how many attention layers.
        heads, head_dim: N and D.
        series, paths: B and S.
        prefix, suffix: room for common and for own positions. Without room for own ones they are looked at and
            forgotten, which is all that a single reading needs.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        head_dim: int,
        series: int,
        paths: int,
        prefix: int,
        suffix: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.joined = paths == 1 and suffix > 0
        self._room = suffix
        self.prefix = 0  # common positions in use
        self.length = 0  # own positions in use
        self._mask: Tensor | None = None

        def room(rows: int, positions: int) -> list[Tensor]:
            shape = (2, rows, heads, positions, head_dim)
            return [torch.empty(shape, dtype=dtype, device=device) for _ in range(layers)]

        self._common = room(series, prefix + suffix if self.joined else prefix)
        self._own = self._common if self.joined else room(series * paths, suffix) if suffix else []

    def reset(self, prefix: int, lengths: Tensor | None = None) -> None:
        """Forgets everything; the next past has ``prefix`` positions.

        Args:
            lengths: (B,) how many of them are real, for series of unequal length; the others are hidden.
        """
        self.prefix, self.length, self._mask = prefix, 0, None
        if lengths is not None:
            room = self._common[0].shape[-2]
            place = torch.arange(room, device=lengths.device)
            hidden = (place >= lengths[:, None]) & (place < prefix)
            mask = torch.zeros(hidden.shape, dtype=self._common[0].dtype, device=lengths.device)
            self._mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]

    def write_prefix(self, layer: int, kv: Tensor) -> None:
        """Keeps the keys and values (B, P, 2, N, D) of the common past."""
        self._common[layer][:, :, :, : self.prefix] = kv.permute(2, 0, 3, 1, 4)

    def append(self, layer: int, kv: Tensor) -> Visible:
        """Writes (B, S, L, 2, N, D) behind the own positions; returns what their L queries may look at."""
        new = kv.flatten(0, 1).permute(2, 0, 3, 1, 4)
        if not self._room:
            return self.visible(layer, 0)._replace(own=new)
        start, count = self.length, kv.shape[2]
        offset = self.prefix if self.joined else 0
        self._own[layer][:, :, :, offset + start : offset + start + count] = new
        return self.visible(layer, start + count, split=count > 1)

    def visible(self, layer: int, length: int, *, split: bool = False) -> Visible:
        """The common and the first ``length`` own positions.

        Args:
            split: keep the parts apart also where they lie end to end (several queries a path need a causal mask).
        """
        prefix = self.prefix
        if self.joined and not split:
            end = prefix + length
            mask = None if self._mask is None else self._mask[..., :end]
            return Visible(self._common[layer][:, :, :, :end], None, mask)
        offset = prefix if self.joined else 0
        common = self._common[layer][:, :, :, :prefix] if prefix else None
        own = self._own[layer][:, :, :, offset : offset + length] if length else None
        return Visible(common, own, None if self._mask is None else self._mask[..., :prefix])


def cache_bytes(layers: int, width: int, paths: int, prefix: int, suffix: int, itemsize: int) -> int:
    """Memory that a cache takes for one series."""
    return 2 * layers * width * itemsize * (prefix + paths * suffix)
