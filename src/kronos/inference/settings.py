"""What a forecast is computed with: the caller's spec completed by the checkpoint, and the window that follows from it.

A window of at most ``max_context`` bars ends with the newest bar. When it is full, ``window_stride`` bars are dropped
at once and everything after them is read again: kept states would still depend on the dropped bars, so a cache that
merely forgets its oldest entry computes another function. A stride of 1 is the published behaviour; a longer one
costs a little memory of the past and saves most of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kronos.errors import ConfigError
from kronos.model import KronosConfig
from kronos.spec import SAMPLING, ForecastSpec, check_setting

_PUBLISHED_TOP_P = 0.9
_STRIDES_A_WINDOW = 8  # a full window is read again about this often while it slides once through


@dataclass(frozen=True)
class DecodeSettings:
    """What engine and sampler read. Nothing is left open.

    Args:
        temperature: 0 always takes the most probable token.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: of those, keep the most probable until they hold this share; 1 keeps all.
        max_context: bars that the network reads at most.
        window_stride: bars dropped at once when the window is full.
        follows_torch: draw from torch's global state, all rows of a bar at once as published, and not by the requests'
            uniform numbers. A ``top_k`` above 0 then switches ``top_p`` off.
        direction: ``none``: half of the paths are sampled, and each is followed by its mirror
            (:mod:`kronos.inference.mirror`).
        har_weight: share of a pooled HAR model in the log volatility of the paths (:mod:`kronos.volatility`).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_context: int = 512
    window_stride: int = 1
    follows_torch: bool = False
    direction: str = "model"
    har_weight: float = 0.0

    @property
    def mirrored(self) -> bool:
        return self.direction == "none"

    def sampled(self, paths: int) -> int:
        """How many of so many paths are sampled; the others are mirrors."""
        return -(-paths // 2) if self.mirrored else paths

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1

    @classmethod
    def resolve(cls, spec: ForecastSpec, config: KronosConfig, max_context: int) -> DecodeSettings:
        """The settings of a spec; what it leaves open comes from the checkpoint's calibration.

        Without one: temperature 1, all tokens and the model's directions, for published checkpoints the published
        nucleus of 0.9.

        Raises:
            ConfigError: a context or a stride longer than the checkpoint's window.
        """
        settled = dict(SAMPLING) if config.consistent else {**SAMPLING, "top_p": _PUBLISHED_TOP_P}
        for source in (config.calibration or {}, vars(spec)):
            settled |= {name: source[name] for name in settled if source.get(name) is not None}
        if spec.context_length is not None:
            check_setting("context_length", spec.context_length, high=max_context)
        stride = max(1, max_context // _STRIDES_A_WINDOW) if spec.window_stride is None else spec.window_stride
        check_setting("window_stride", stride, high=max_context - 1)
        drawn: dict[str, Any] = {name: check_setting(name, value) for name, value in settled.items()}
        return cls(**drawn, max_context=max_context, window_stride=stride)


@dataclass(frozen=True)
class SlidingWindow:
    """The window of at most ``max_context`` bars over ``context`` bars and those sampled after them.

    Raises:
        ConfigError: a size below 1, or a stride that would drop the whole window.
    """

    context: int
    max_context: int
    stride: int = 1

    def __post_init__(self) -> None:
        if self.context < 1 or self.max_context < 2 or not 1 <= self.stride < self.max_context:
            raise ConfigError(
                f"a context of {self.context} bars, read {self.max_context} at a time with a stride of {self.stride}: "
                "at least 1 bar, 2 at a time and a stride shorter than that are needed"
            )

    def start(self, known: int) -> int:
        """First bar of the window when ``known`` ≥ context bars are known (context and sampled together)."""
        first = max(0, self.context - self.max_context)
        excess = known - first - self.max_context
        drops = -(-excess // self.stride) if excess > 0 else 0
        return first + drops * self.stride

    def decode_blocks(self, horizon: int) -> Iterator[tuple[int, int, int]]:
        """How sampled tokens become bars: ``(window start, first, end)``, the bars of the horizon [first, end).

        A bar is decoded from the window that ends with it or shortly after, and that starts where the schedule says;
        so a longer horizon never changes an earlier bar. Not so with a stride of 1: there all bars are decoded from
        the last ``max_context`` tokens in one go, as published (in half windows where the horizon exceeds that), so
        that once the window slides, a longer horizon moves the earlier bars a little.
        """
        block = horizon if horizon <= self.max_context else max(1, self.max_context // 2)
        first = 0
        while first < horizon:
            if self.stride == 1:
                end = min(first + block, horizon)
                start = max(0, self.context + end - self.max_context)
            else:
                start = self.start(self.context + first + 1)
                end = min(horizon, start + self.max_context - self.context)  # from there on the window is full
            yield start, first, end
            first = end
