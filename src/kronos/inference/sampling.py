"""From random numbers and logits to tokens.

Every path of every series has its own counter-based stream (Philox, Salmon et al. 2011), keyed by the seed, by what
the series looks like, and by the path's number. So the same seed gives the same paths whatever the batch around
them, and more paths or a longer horizon never change the earlier ones.

A token is drawn by temperature, then top-k, then top-p, then one uniform number:
- the uniform is given, so sampling is a pure function and never waits for the device;
- the inverse of the distribution function picks the token: no sort unless ``top_p`` needs a nucleus, and then only
  of values, not of places;
- tokens as probable as the last one kept are kept too.

The published calls draw otherwise, from torch's own state: :func:`sample_from_logits`, which may not depend on any of
this, since the number that torch gives next must be the one that it gives there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kronos.inference.settings import DecodeSettings

_BITS = 24  # what a float32 holds exactly, so that u < 1 survives the conversion
DRAWS_PER_BAR = 2  # one for the coarse token, one for the fine token


def series_key(close: npt.NDArray[np.floating]) -> bytes:
    """A key for a series from its shape alone, the signs of the moves of its closes (T,): neither name nor currency."""
    signs = np.sign(np.diff(close)).astype(np.int8)
    return hashlib.blake2b(len(close).to_bytes(8, "little") + signs.tobytes(), digest_size=16).digest()


def uniforms(
    seed: int, keys: Sequence[bytes], num_paths: int, horizon: int, *, first_path: int = 0
) -> npt.NDArray[np.float32]:
    """(B, S, H, 2) float32 in [0, 1), multiples of 2^-24: a key a series, S paths from ``first_path`` on, H bars."""
    out = np.empty((len(keys), num_paths, horizon, DRAWS_PER_BAR), dtype=np.float32)
    for row, key in zip(out, keys, strict=True):
        digest = hashlib.blake2b(int(seed).to_bytes(8, "little") + key, digest_size=16).digest()
        words = np.frombuffer(digest, dtype=np.uint64)
        for path in range(num_paths):
            stream = np.random.Philox(key=words, counter=(0, 0, first_path + path, 0))
            draws = stream.random_raw(horizon * DRAWS_PER_BAR)
            row[path] = ((draws >> np.uint64(64 - _BITS)) * np.float32(2.0**-_BITS)).reshape(horizon, DRAWS_PER_BAR)
    return out


def sample_token(logits: Tensor, uniform: Tensor, settings: DecodeSettings) -> Tensor:
    """Draws one token a row: (…, V) logits and (…) :func:`uniforms` -> (…) int64."""
    if settings.follows_torch:
        rows = logits.float().flatten(0, -2)
        return sample_from_logits(rows, settings.temperature, settings.top_k, settings.top_p).view(logits.shape[:-1])
    if settings.greedy:
        return logits.argmax(-1)
    weights = logits.float()
    if settings.temperature != 1:
        weights = weights / settings.temperature
    weights = (weights - weights.amax(-1, keepdim=True)).exp_()  # (0, 1], not normalised
    if 0 < settings.top_k < weights.shape[-1]:
        least = weights.topk(settings.top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        weights = weights.masked_fill(weights < least, 0.0)
    if settings.top_p < 1:
        weights = weights.masked_fill(weights < _least_of_nucleus(weights, settings.top_p), 0.0)
    cumulative = weights.cumsum(-1)
    # A multiple of 2^-24 below 1 times the total stays below the total, also rounded: a kept token is found.
    target = uniform.unsqueeze(-1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)


def _least_of_nucleus(weights: Tensor, top_p: float) -> Tensor:
    """(…, 1) the smallest weight among the largest that together hold at least ``top_p`` of the total."""
    if weights.device.type == "cpu":  # numpy's vectorised sort is eight times faster here
        ordered = torch.from_numpy(np.sort(weights.numpy(), axis=-1))
    else:
        ordered = weights.sort(-1).values
    cumulative = ordered.cumsum(-1)
    # From the smallest up: a weight belongs to the nucleus once it and those below exceed what may be left out.
    first = torch.searchsorted(cumulative, cumulative[..., -1:] * (1 - top_p), right=True)
    return ordered.gather(-1, first.clamp_(max=weights.shape[-1] - 1))


# -- as published -----------------------------------------------------------------------------------------------------


def top_k_top_p_filtering(
    logits: Tensor,
    top_k: int = 0,
    top_p: float = 1.0,
    filter_value: float = -float("inf"),
    min_tokens_to_keep: int = 1,
) -> Tensor:
    """Logits (B, V) with those of unlikely tokens set to ``filter_value``, in place.

    A ``top_k`` above 0 alone counts, as published; else the likeliest tokens are kept until they hold ``top_p``.
    With neither, the logits are returned as they are (the published function returns None).
    """
    if top_k > 0:
        k = min(max(top_k, min_tokens_to_keep), logits.shape[-1])
        return logits.masked_fill_(logits < logits.topk(k)[0][..., -1:], filter_value)
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        beyond = ordered.softmax(-1).cumsum(-1) > top_p
        if min_tokens_to_keep > 1:
            beyond[..., :min_tokens_to_keep] = False
        beyond = beyond.roll(1, -1)  # the token that crosses the limit is kept
        beyond[..., 0] = False
        logits.masked_fill_(beyond.scatter(-1, order, beyond), filter_value)
    return logits


def sample_from_logits(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    sample_logits: bool = True,
) -> Tensor:
    """(B, V) logits -> (B, 1) tokens, drawn from torch's global state, or the likeliest if not ``sample_logits``.

    None switches a limit off, and so does 0 for ``top_k``. A temperature of 0, which fails in the published function,
    takes the likeliest token.
    """
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    logits = top_k_top_p_filtering(logits / temperature, top_k or 0, 1.0 if top_p is None else top_p)
    probabilities = logits.softmax(-1)
    if not sample_logits:
        return probabilities.argmax(-1, keepdim=True)
    return torch.multinomial(probabilities, 1, generator=None)  # None: torch's own, which a published call follows
