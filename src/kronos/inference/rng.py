"""Random numbers that belong to a path, not to the order in which paths happen to be computed.

Every path of every series has its own counter-based stream (Philox, Salmon et al. 2011), keyed by the seed, by what
the series looks like, and by the path's number. So the same seed gives the same paths whatever the batch around
them, and more paths or a longer horizon never change the earlier ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kronos.errors import ConfigError

_BITS = 24  # what a float32 holds exactly, so that u < 1 survives the conversion
DRAWS_PER_BAR = 2  # one for the coarse token, one for the fine token


def series_key(close: npt.NDArray[np.floating]) -> bytes:
    """A key for a series from its shape alone: the signs of its moves and its length.

    Neither the symbol's name nor its currency enters: prices times any a > 0 give the same key.

    Args:
        close: (T,) closing prices of the context.
    """
    signs = np.sign(np.diff(close)).astype(np.int8)
    return hashlib.blake2b(len(close).to_bytes(8, "little") + signs.tobytes(), digest_size=16).digest()


def uniforms(
    seed: int, keys: Sequence[bytes], num_paths: int, horizon: int, *, first_path: int = 0
) -> npt.NDArray[np.float32]:
    """Numbers in [0, 1), multiples of 2^-24.

    Args:
        seed: any integer from 0 to 2^64 - 1.
        keys: one key a series.
        num_paths: S, how many paths, starting with number ``first_path``.
        horizon: H bars.

    Returns:
        (B, S, H, 2) float32.

    Raises:
        ConfigError: the seed lies outside its range.
    """
    check_seed(seed)
    out = np.empty((len(keys), num_paths, horizon, DRAWS_PER_BAR), dtype=np.float32)
    for row, key in zip(out, keys, strict=True):
        digest = hashlib.blake2b(int(seed).to_bytes(8, "little") + key, digest_size=16).digest()
        words = np.frombuffer(digest, dtype=np.uint64)
        for path in range(num_paths):
            stream = np.random.Philox(key=words, counter=(0, 0, first_path + path, 0))
            draws = stream.random_raw(horizon * DRAWS_PER_BAR)
            row[path] = ((draws >> np.uint64(64 - _BITS)) * np.float32(2.0**-_BITS)).reshape(horizon, DRAWS_PER_BAR)
    return out


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        ConfigError: not an integer from 0 to 2^64 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number from 0 to 2^64 - 1")
