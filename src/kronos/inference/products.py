"""Products of rows with weights, as machine code: in float32, with weights kept in float32, int16 or int8.

Few rows wait for weights from memory, so the fewer bytes a weight takes, the sooner they are done; it becomes float32
in a register. Part of :mod:`kronos.inference.kernels`, whose ``PRODUCTS`` must follow every change of this file.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.extending import overload

from kronos.inference.kernel_types import Array, Matrix, Number

F = TypeVar("F", bound=Callable[..., Any])

# Sums may be reordered, without which they are not vectorised; infinities and NaN keep their meaning.
FREE = {"reassoc", "contract", "nsz", "arcp"}
_CACHED = 1 << 21  # numbers of one byte that the nearest caches keep between two bars
_ZERO: Number = np.float32(0)


def machine_code(fastmath: set[str] = FREE, cache: bool = False) -> Callable[[F], F]:
    """numba's compiler as all kernels use it: without the interpreter's lock, numpy's rules for errors."""
    return cast(Callable[[F], F], numba.njit(fastmath=fastmath, nogil=True, error_model="numpy", cache=cache))


_compiled = machine_code()


@_compiled
def linear(out: Array, x: Array, matrix: Matrix, layer: int) -> None:
    """Rows (R, inputs) through a linear map into the first R rows of ``out``."""
    scale, bias = matrix.scale[layer], matrix.bias[layer]
    out[: len(x)] = _ZERO
    multiply(out, x, matrix.weight, layer)
    for r in range(len(x)):
        row = out[r]
        for j in range(len(row)):
            row[j] = row[j] * scale[j] + bias[j]


def multiply(out: Array, x: Array, weight: Array, layer: int) -> None:
    """``out += x W`` over (R, outputs) and (R, inputs), by how the weights are kept; see ``groups.Matrix``."""


@overload(multiply, jit_options={"fastmath": FREE, "nogil": True, "error_model": "numpy"})
def _multiply(out: Array, x: Array, weight: Array, layer: int) -> Callable[..., None]:
    def exact(out: Array, x: Array, weight: Array, layer: int) -> None:
        add_product(out, 0, x, 0, 0, len(x), weight[layer], weight.shape[1], weight.shape[2])

    def pairs(out: Array, x: Array, weight: Array, layer: int) -> None:
        add_pairs(out, x, weight[layer])

    def levels(out: Array, x: Array, weight: Array, layer: int) -> None:
        if len(x) == 1 and weight.size > _CACHED:
            add_dots_in_order(out[0], x[0], weight[layer])
        else:
            add_dots(out, 0, x, 0, 0, len(x), weight[layer], weight.shape[1], weight.shape[2])

    ways: dict[Any, Callable[..., None]] = {numba.float32: exact, numba.int32: pairs, numba.int8: levels}
    return ways[weight.dtype]


@_compiled
def add_product(out: Array, at: int, x: Array, start: int, first: int, last: int, w: Array, inner: int, n: int) -> None:
    """``out[r, at : at + n] += x[r, start : start + inner] @ w[:inner, :n]`` for rows first … last - 1.

    Three rows by four inputs at a time: twelve multiply-adds for ten numbers that are loaded or stored.
    """
    fours, threes = inner - inner % 4, last - (last - first) % 3
    for k in range(0, fours, 4):
        w0, w1, w2, w3 = w[k, :n], w[k + 1, :n], w[k + 2, :n], w[k + 3, :n]
        i = start + k
        for r in range(first, threes, 3):
            a, b, c = out[r, at : at + n], out[r + 1, at : at + n], out[r + 2, at : at + n]
            a0, a1, a2, a3 = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            b0, b1, b2, b3 = x[r + 1, i], x[r + 1, i + 1], x[r + 1, i + 2], x[r + 1, i + 3]
            c0, c1, c2, c3 = x[r + 2, i], x[r + 2, i + 1], x[r + 2, i + 2], x[r + 2, i + 3]
            for j in range(n):
                a[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
                b[j] += b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
                c[j] += c0 * w0[j] + c1 * w1[j] + c2 * w2[j] + c3 * w3[j]
        for r in range(threes, last):
            a = out[r, at : at + n]
            a0, a1, a2, a3 = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            for j in range(n):
                a[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
    for k in range(fours, inner):
        w0 = w[k, :n]
        for r in range(first, last):
            a, a0 = out[r, at : at + n], x[r, start + k]
            for j in range(n):
                a[j] += a0 * w0[j]


@_compiled
def low(pair: Number) -> Number:
    """The int16 in the low half of an int32, as float32."""
    return np.float32(np.int32(np.int32(pair << np.int32(16)) >> np.int32(16)))


@_compiled
def high(pair: Number) -> Number:
    """The int16 in the high half of an int32, as float32."""
    return np.float32(np.int32(pair >> np.int32(16)))


@_compiled
def add_pairs(out: Array, x: Array, w: Array) -> None:
    """``out += x W`` over (R, outputs) and (R, inputs), the weights of two inputs in one number: w (inputs/2, outputs).

    One row waits for memory, which gives most when eight rows of weights stream at once; of several rows, three share
    each number that is unpacked.
    """
    n, inner, many = w.shape[1], x.shape[1], len(x) - len(x) % 3
    for k in range(0, inner // 4 if many else 0):
        w0, w1, i = w[2 * k, :n], w[2 * k + 1, :n], 4 * k
        for r in range(0, many, 3):
            a, b, c = out[r, :n], out[r + 1, :n], out[r + 2, :n]
            a0, a1, a2, a3 = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            b0, b1, b2, b3 = x[r + 1, i], x[r + 1, i + 1], x[r + 1, i + 2], x[r + 1, i + 3]
            c0, c1, c2, c3 = x[r + 2, i], x[r + 2, i + 1], x[r + 2, i + 2], x[r + 2, i + 3]
            for j in range(n):
                v0, v1, v2, v3 = low(w0[j]), high(w0[j]), low(w1[j]), high(w1[j])
                a[j] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
                b[j] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3
                c[j] += c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3
    for r in range(len(x)):
        done = inner // 4 * 4 if r < many else inner // 16 * 16
        if r >= many:
            for k in range(0, done // 2, 8):
                add_eight_pairs(out[r, :n], x[r, 2 * k : 2 * k + 16], w[k : k + 8])
        a = out[r, :n]
        for i in range(done, inner):
            pair, one = w[i // 2], x[r, i]
            for j in range(n):
                a[j] += one * (low(pair[j]) if i % 2 == 0 else high(pair[j]))


@_compiled
def add_eight_pairs(a: Array, x: Array, w: Array) -> None:
    """``a += x W`` over (outputs,) and sixteen inputs."""
    n = len(a)
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0, :n], w[1, :n], w[2, :n], w[3, :n], w[4, :n], w[5, :n], w[6, :n], w[7, :n]
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    y0, y1, y2, y3, y4, y5, y6, y7 = x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]
    for j in range(n):
        first = x0 * low(w0[j]) + x1 * high(w0[j]) + x2 * low(w1[j]) + x3 * high(w1[j])
        second = x4 * low(w2[j]) + x5 * high(w2[j]) + x6 * low(w3[j]) + x7 * high(w3[j])
        third = y0 * low(w4[j]) + y1 * high(w4[j]) + y2 * low(w5[j]) + y3 * high(w5[j])
        fourth = y4 * low(w6[j]) + y5 * high(w6[j]) + y6 * low(w7[j]) + y7 * high(w7[j])
        a[j] += first + second + third + fourth


@_compiled
def add_dots_in_order(out: Array, x: Array, w: Array) -> None:
    """``out[d] += x · w[d]``, one after the other: weights (outputs, inputs) stream from memory in one piece."""
    for d in range(len(w)):
        row, total = w[d], _ZERO
        for j in range(len(row)):
            total += x[j] * np.float32(row[j])
        out[d] += total


@_compiled
def add_dots(out: Array, at: int, x: Array, start: int, first: int, last: int, w: Array, n: int, inner: int) -> None:
    """``out[r, at + d] += x[r, start : start + inner] · w[d, :inner]`` for rows first … last - 1 and d below n.

    For a short ``out`` and a long sum. Three rows by four d at a time: twelve sums in registers.
    """
    threes, fours = last - (last - first) % 3, n - n % 4
    for d in range(0, fours, 4):
        w0, w1, w2, w3 = w[d, :inner], w[d + 1, :inner], w[d + 2, :inner], w[d + 3, :inner]
        i = at + d
        for r in range(first, threes, 3):
            a, b, c = x[r, start : start + inner], x[r + 1, start : start + inner], x[r + 2, start : start + inner]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = _ZERO
            for j in range(inner):
                a0, a1, a2, a3 = a0 + a[j] * w0[j], a1 + a[j] * w1[j], a2 + a[j] * w2[j], a3 + a[j] * w3[j]
                b0, b1, b2, b3 = b0 + b[j] * w0[j], b1 + b[j] * w1[j], b2 + b[j] * w2[j], b3 + b[j] * w3[j]
                c0, c1, c2, c3 = c0 + c[j] * w0[j], c1 + c[j] * w1[j], c2 + c[j] * w2[j], c3 + c[j] * w3[j]
            _add_four(out[r], i, a0, a1, a2, a3)
            _add_four(out[r + 1], i, b0, b1, b2, b3)
            _add_four(out[r + 2], i, c0, c1, c2, c3)
        for r in range(threes, last):
            a = x[r, start : start + inner]
            a0 = a1 = a2 = a3 = _ZERO
            for j in range(inner):
                a0, a1, a2, a3 = a0 + a[j] * w0[j], a1 + a[j] * w1[j], a2 + a[j] * w2[j], a3 + a[j] * w3[j]
            _add_four(out[r], i, a0, a1, a2, a3)
    for d in range(fours, n):
        w0 = w[d, :inner]
        for r in range(first, last):
            a, a0 = x[r, start : start + inner], _ZERO
            for j in range(inner):
                a0 += a[j] * w0[j]
            out[r, at + d] += a0


@_compiled
def _add_four(row: Array, i: int, a: Number, b: Number, c: Number, d: Number) -> None:
    row[i] += a
    row[i + 1] += b
    row[i + 2] += c
    row[i + 3] += d
