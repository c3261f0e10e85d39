"""The decoding step compiled to machine code by numba: trunk, dependency layer, heads and the draw of a token.

A step of a small network is a hundred tiny operations, and calling each of them costs more than computing it. Here
they are plain loops in one function, without the interpreter's lock, so that workers run side by side. The compiler
turns the inner loops into vector instructions, which is why they run over contiguous slices and nothing else.

Arrays are those of :mod:`kronos.inference.groups`. Rows are new positions of paths, sorted by series and, within a
path, by place: row r belongs to series ``series[r]``, to path ``path[r]`` (counted over all series) and is that path's
position ``place[r]``. All kernels stand in this one file because numba looks only at a function's own file to tell
whether its cached code is stale.

Shapes: R rows, C width, N heads, D head width, P and T room for common positions and for those of a path, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from kronos.inference.groups import Array, Draw, Heads, KeysValues, Matrix, Number, Rows, Scratch, Stack

F = TypeVar("F", bound=Callable[..., Any])


def _njit(fastmath: set[str], cache: bool = False) -> Callable[[F], F]:
    return cast(Callable[[F], F], numba.njit(fastmath=fastmath, nogil=True, error_model="numpy", cache=cache))


# Sums may be reordered, without which they are not vectorised; infinities and NaN keep their meaning.
_FREE = {"reassoc", "contract", "nsz", "arcp"}
_compiled, _in_order = _njit(_FREE), _njit({"contract"})
_entry = _njit(_FREE, cache=True)  # called from outside; its machine code, with all that it calls, is kept on disk

ROWS_AT_ONCE = 30  # the activations of so many rows stay in the nearest caches while weights stream past them
_ZERO: Number = np.float32(0)
_ONE: Number = np.float32(1)
_EPS: Number = np.float32(1e-5)  # as in ``fused.normalise``


# -- the network ------------------------------------------------------------------------------------------------------


@_entry
def read_rows(
    stack: Stack, head: Heads, past: KeysValues, dependency: KeysValues, rows: Rows, x: Array, scratch: Scratch
) -> None:
    """Runs new positions (R, C) through the network and keeps their keys and values; they become hidden states.

    Args:
        past: of the blocks.
        dependency: of the dependency layer, which the coarse tokens will ask.
    """
    for first in range(0, len(x), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        part, hidden, kv = Rows(rows.series[some], rows.path[some], rows.place[some]), x[some], scratch.kv
        read_blocks(stack, past, part, hidden, scratch)
        normalise(hidden, hidden)
        for r in range(len(hidden)):
            for j in range(hidden.shape[1]):
                hidden[r, j] *= head.norm[j]
        linear(kv, hidden, head.keys_values, 0)
        rotate(kv, 1, dependency, part)
        keep(dependency, 0, part, kv, 0)


@_compiled
def read_blocks(stack: Stack, past: KeysValues, rows: Rows, x: Array, scratch: Scratch) -> None:
    """Runs at most ``ROWS_AT_ONCE`` new positions (R, C) through the blocks, in place; keeps their keys and values."""
    n, width = x.shape
    y, z, qkv, gate, up = scratch.x[:n], scratch.y[:n], scratch.qkv, scratch.gate[:n], scratch.up
    for layer in range(len(stack.qkv.weight)):
        normalise(y, x)
        linear(qkv, y, stack.qkv, layer)
        rotate(qkv, 2, past, rows)
        keep(past, layer, rows, qkv, width)
        attend(y, qkv, past, layer, rows, scratch.scores)
        linear(z, y, stack.out, layer)
        add(x, z)
        normalise(y, x)
        linear(gate, y, stack.gate, layer)
        linear(up, y, stack.up, layer)
        for r in range(n):
            gated(gate[r], up[r])
        linear(y, gate, stack.down, layer)
        add(x, y)


@_entry
def draw_tokens(
    head: Heads,
    dependency: KeysValues,
    rows: Rows,
    hidden: Array,
    uniforms: Array,
    draw: Draw,
    scratch: Scratch,
    tokens: Array,
) -> None:
    """Draws the bar that follows each row: s1 and s2 into ``tokens`` (R, 2), given hidden (R, C), uniforms (R, 2)."""
    for first in range(0, len(hidden), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        part, states, chosen = Rows(rows.series[some], rows.path[some], rows.place[some]), hidden[some], tokens[some]
        n = len(states)
        query, answer = scratch.x[:n], scratch.y[:n]
        linear(scratch.s1, states, head.head_s1, 0)
        for r in range(n):
            chosen[r, 0] = draw_token(scratch.s1[r], uniforms[first + r, 0], draw)
            query[r] = head.queries[chosen[r, 0]]
        rotate(query, 1, dependency, part)
        attend(answer, query, dependency, 0, part, scratch.scores)
        linear(query, answer, head.out, 0)
        add(query, states)
        normalise(answer, query)
        linear(scratch.s2, answer, head.head_s2, 0)
        for r in range(n):
            chosen[r, 1] = draw_token(scratch.s2[r], uniforms[first + r, 1], draw)


# -- attention --------------------------------------------------------------------------------------------------------


@_compiled
def rotate(x: Array, parts: int, past: KeysValues, rows: Rows) -> None:
    """Rotates the pairs of the first ``parts`` · C numbers of each row of (≥ R, …) in place."""
    half = past.rotary.shape[1]
    for r in range(len(rows.path)):
        rotary = past.rotary[past.lengths[rows.series[r]] + rows.place[r]]
        row = x[r]
        for n in range(parts * past.path_keys.shape[2]):
            for j in range(half):
                i = 2 * (n * half + j)
                a, b = row[i], row[i + 1]
                row[i] = a * rotary[j, 0] - b * rotary[j, 1]
                row[i + 1] = a * rotary[j, 1] + b * rotary[j, 0]


@_compiled
def keep(past: KeysValues, layer: int, rows: Rows, x: Array, at: int) -> None:
    """Writes the keys ``x[r, at : at + C]`` of every row and the values behind them into their paths' places."""
    heads, dim = past.path_keys.shape[2], past.path_keys.shape[4]
    for r in range(len(rows.path)):
        for n in range(heads):
            key = past.path_keys[rows.path[r], layer, n, rows.place[r]]
            value = past.path_values[rows.path[r], layer, n, rows.place[r]]
            for d in range(dim):
                key[d] = x[r, at + n * dim + d]
                value[d] = x[r, at + (heads + n) * dim + d]


@_compiled
def attend(out: Array, queries: Array, past: KeysValues, layer: int, rows: Rows, scores: Array) -> None:
    """Attention of rows (R, ≥ C), scaled and rotated, to the common past and to the places of their path up to theirs.

    The rows of a series are the rows of one product with its common keys.
    """
    heads, dim = past.path_keys.shape[2], past.path_keys.shape[4]
    first, end = 0, len(rows.path)
    while first < end:
        series = rows.series[first]
        last = first + 1
        while last < end and rows.series[last] == series:
            last += 1
        common = past.lengths[series]
        for n in range(heads):
            scores[first:last] = _ZERO
            add_product(scores, 0, queries, n * dim, first, last, past.common_keys[series, layer, n], dim, common)
            for r in range(first, last):
                own = rows.place[r] + 1
                path_keys = past.path_keys[rows.path[r], layer, n]
                add_dots(scores, common, queries, n * dim, r, r + 1, path_keys, own, dim)
                softmax(scores[r, : common + own])
            out[first:last, n * dim : (n + 1) * dim] = _ZERO
            add_dots(out, n * dim, scores, 0, first, last, past.common_values[series, layer, n], dim, common)
            for r in range(first, last):
                path_values = past.path_values[rows.path[r], layer, n]
                add_product(out, n * dim, scores, common, r, r + 1, path_values, rows.place[r] + 1, dim)
        first = last


@_compiled
def softmax(x: Array) -> None:
    """In place over (n,) scores."""
    top, total = x[0], _ZERO
    for i in range(len(x)):
        top = max(top, x[i])
    for i in range(len(x)):
        x[i] = exponential(x[i] - top)
        total += x[i]
    share = _ONE / total
    for i in range(len(x)):
        x[i] *= share


# -- products ---------------------------------------------------------------------------------------------------------


@_compiled
def linear(out: Array, x: Array, matrix: Matrix, layer: int) -> None:
    """Rows (R, inputs) through a linear map into the first R rows of ``out``."""
    w, scale, bias = matrix.weight[layer], matrix.scale[layer], matrix.bias[layer]
    out[: len(x)] = _ZERO
    add_product(out, 0, x, 0, 0, len(x), w, w.shape[0], w.shape[1])
    for r in range(len(x)):
        row = out[r]
        for j in range(len(row)):
            row[j] = row[j] * scale[j] + bias[j]


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


# -- row by row -------------------------------------------------------------------------------------------------------


@_in_order
def exponential(x: Number) -> Number:
    """e^x of a float32 up to 88, within 1e-7: a power of two times a polynomial, so that loops over it vectorise."""
    y = max(x, np.float32(-87))
    n = np.floor(y * np.float32(1.4426950408889634) + np.float32(0.5))
    f = y - n * np.float32(0.693359375)  # ln 2 in two parts, the first of which is exact times n
    f = f + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * f + np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(0.5)
    p = p * (f * f) + f + _ONE
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def normalise(out: Array, x: Array) -> None:
    """Rows (R, C) divided by √(square sum + C·eps); the rest of the norm is in the matrix that follows."""
    for r in range(len(x)):
        row, answer = x[r], out[r]
        total = _EPS * np.float32(len(row))
        for j in range(len(row)):
            total += row[j] * row[j]
        factor = _ONE / np.sqrt(total)
        for j in range(len(row)):
            answer[j] = row[j] * factor


@_compiled
def gated(gate: Array, up: Array) -> None:
    """``gate = silu(gate) * up`` over (ff,)."""
    for j in range(len(gate)):
        gate[j] = gate[j] * up[j] / (_ONE + exponential(min(-gate[j], np.float32(88))))


@_compiled
def add(x: Array, y: Array) -> None:
    """``x += y`` over (R, C)."""
    for r in range(len(x)):
        a, b = x[r], y[r]
        for j in range(len(a)):
            a[j] += b[j]


# -- drawing ----------------------------------------------------------------------------------------------------------


@_compiled
def draw_token(weights: Array, uniform: Number, draw: Draw) -> int:
    """One token from (V,) logits, which are overwritten: temperature, then top-k, then top-p, then the number."""
    if draw.temperature == 0:
        return int(np.argmax(weights))
    top, scale = weights.max(), np.float32(1 / draw.temperature)
    for i in range(len(weights)):
        weights[i] = exponential((weights[i] - top) * scale)
    if 0 < draw.top_k < len(weights):
        cut(weights, greatest_cut(weights, draw.top_k, _ZERO))
    if draw.top_p < 1:
        cut(weights, greatest_cut(weights, 0, np.float32(1 - draw.top_p)))
    total = 0.0
    for i in range(len(weights)):
        total += weights[i]
        weights[i] = np.float32(total)
    target, token = np.float32(uniform) * weights[-1], 0
    while weights[token] <= target and token < len(weights) - 1:
        token += 1
    return token


@_compiled
def cut(weights: Array, upto: Number) -> None:
    """Puts 0 where the bits of a weight (V,) are at most ``upto``; the bits of positive numbers sort as they do."""
    bits = weights.view(np.int32)
    for i in range(len(weights)):
        weights[i] = weights[i] if bits[i] > upto else _ZERO


@_compiled
def greatest_cut(weights: Array, count: int, share: Number) -> Number:
    """The greatest bits that may be cut from weights (V,) in [0, 1], found by halving; equal weights stay together.

    At least ``count`` weights must be left where that is not 0; else all but ``share`` of the total.
    """
    bits, total = weights.view(np.int32), _ZERO
    for i in range(len(weights)):
        total += weights[i]
    spare, dispensable = total * share, len(weights) - count
    low: Number = -1
    high: Number = 0x3F800000  # the bits of 1
    cut_low, cut_high = _ZERO, np.float32(len(weights))  # how many weights each of them cuts
    while cut_high - cut_low > 1 and high - low > 1:
        middle = np.int32((low + high) // 2)
        held, number = _ZERO, _ZERO
        for i in range(len(weights)):
            small = _ONE if bits[i] <= middle else _ZERO  # a number, so that the loop vectorises
            held += weights[i] * small
            number += small
        if number > dispensable if count > 0 else held > spare:
            high, cut_high = middle, number
        else:
            low, cut_low = middle, number
    return low
