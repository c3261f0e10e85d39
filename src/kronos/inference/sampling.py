"""From logits to a token: temperature, then top-k, then top-p, then one uniform number.

Notable:
- the uniform is given, so sampling is a pure function and never asks the device anything;
- the inverse of the distribution function picks the token: no sort unless ``top_p`` asks for a nucleus, and then
  only of values, not of places;
- tokens as probable as the last one kept are kept too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kronos.errors import ConfigError


@dataclass(frozen=True)
class SamplingSettings:
    """How a token is drawn.

    Args:
        temperature: 0 (always the most probable token) to 100.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: of those, keep the most probable until they hold this share, in (0, 1]; 1 keeps all.

    Raises:
        ConfigError: a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature <= 100:
            raise ConfigError(f"temperature is {self.temperature!r}; it must be a number from 0 (greedy) to 100")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int | np.integer) or self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k!r}; it must be a whole number, 0 (keep all tokens) or more")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p!r}; it must be a number above 0 and at most 1 (keep all tokens)")

    @property
    def greedy(self) -> bool:
        """Whether chance plays no part."""
        return self.temperature == 0 or self.top_k == 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def sample_token(logits: Tensor, uniform: Tensor, settings: SamplingSettings) -> Tensor:
    """Draws one token a row.

    Args:
        logits: (…, V).
        uniform: (…) in [0, 1), multiples of 2^-24, float32.

    Returns:
        (…) int64.
    """
    if settings.greedy:
        return logits.argmax(-1)
    weights = logits.float()
    if settings.temperature != 1:
        weights = weights / settings.temperature
    weights = (weights - weights.amax(-1, keepdim=True)).exp_()  # (0, 1], not normalised
    if 0 < settings.top_k < weights.shape[-1]:
        least = weights.topk(settings.top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        weights = weights.where(weights >= least, 0.0)
    if settings.top_p < 1:
        weights = weights.where(weights >= _least_of_nucleus(weights, settings.top_p), 0.0)
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
