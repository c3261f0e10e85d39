"""The decoding step compiled to machine code by numba: trunk, dependency layer, heads and the draw of a token.

A step of a small network is a hundred tiny operations, and calling each of them costs more than computing it. Here
they are plain loops in one function, without the interpreter's lock, so that workers run side by side. The compiler
turns the inner loops into vector instructions, which is why they run over contiguous slices and nothing else.

Arrays are those of :mod:`kronos.inference.kernel_types`. Rows are new positions of paths, sorted by series and,
within a path, by place: row r belongs to series ``series[r]``, to path ``path[r]`` (counted over all series) and is
that path's position ``place[r]``. Products with weights are those of :mod:`kronos.inference.products`.

Shapes: R rows, C width, N heads, D head width, P and T room for common positions and for those of a path, V tokens.
"""

from __future__ import annotations

import numpy as np

from kronos.inference.kernel_types import Array, Draw, Heads, KeysValues, Number, Rows, Scratch, Stack
from kronos.inference.products import add_dots, add_product, linear, machine_code

_compiled, _in_order = machine_code(), machine_code({"contract"})
_entry = machine_code(cache=True)  # called from outside; its machine code, with all that it calls, is kept on disk

#: Digest of products.py: numba tells by this file alone whether what it has kept is stale. A test says what to write.
#: It finds that by the name and line of a function, and cannot open it where a type of its arguments has moved since:
#: then shift the lines below.
PRODUCTS = "b19057f4cc21bc6f"
ROWS_AT_ONCE = 30  # the activations of this many rows stay in the nearest caches while weights stream past them
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
