"""What the compiled kernels pass around: named groups of C-contiguous arrays, float32 unless said otherwise.

Every array begins at a cache line; misaligned ones cost a third of the speed. Shapes: R rows, B series, C width,
N heads, D head width, P and T room for common positions and for those of a path, V tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

Array = npt.NDArray[Any]
Number = Any  # numba infers which; float32 unless said otherwise


class Matrix(NamedTuple):
    """A linear map of every layer, ``x @ weight * scale + bias``.

    The weights' type says how they lie: float32 (layers, inputs, outputs); int16 in pairs of inputs, the even one in
    the low half of an int32, (layers, inputs/2, outputs); int8 (layers, outputs, inputs).
    """

    weight: Array
    scale: Array  # (layers, outputs)
    bias: Array  # (layers, outputs)


class Stack(NamedTuple):
    """The maps of a stack of blocks."""

    qkv: Matrix
    out: Matrix
    gate: Matrix
    up: Matrix
    down: Matrix


class Heads(NamedTuple):
    """What follows the blocks of the network."""

    norm: Array  # (C,)
    head_s1: Matrix
    queries: Array  # (V1, C) the dependency layer's query of every coarse token
    keys_values: Matrix
    out: Matrix
    head_s2: Matrix


class KeysValues(NamedTuple):
    """Keys and values. Common positions lie side by side, since many rows look at all; a path's lie in one piece."""

    common_keys: Array  # (B, layers, N, D, P)
    common_values: Array  # (B, layers, N, D, P)
    path_keys: Array  # (paths, layers, N, T, D)
    path_values: Array  # (paths, layers, N, T, D)
    lengths: Array  # (B,) int64, common positions that are real
    rotary: Array  # (positions, D/2, 2) cosine and sine


class Rows(NamedTuple):
    """Which positions are read."""

    series: Array  # (R,) int64
    path: Array
    place: Array


class Scratch(NamedTuple):
    """Room for the intermediate results of ``ROWS_AT_ONCE`` rows."""

    x: Array  # (R, C)
    y: Array  # (R, C)
    qkv: Array  # (R, 3C)
    kv: Array  # (R, 2C)
    gate: Array  # (R, ff)
    up: Array  # (R, ff)
    scores: Array  # (R, P + T)
    s1: Array  # (R, V1)
    s2: Array  # (R, V2)


class Draw(NamedTuple):
    """How a token is drawn; see ``settings.DecodeSettings``."""

    temperature: float  # 0: the most probable token
    top_k: int
    top_p: float
