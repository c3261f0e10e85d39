"""What one call asks for: settings checked once, defaults taken from the checkpoint, requests for the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.bars.schema import FEATURES
from kronos.bars.transform import BarTransform
from kronos.errors import ConfigError, DataError
from kronos.inference.batches import Request
from kronos.inference.rng import check_seed, series_key, uniforms
from kronos.inference.sampling import SamplingSettings
from kronos.model import KronosConfig

MOST_BARS = 100_000  # the longest horizon
MOST_PATHS = 1_000_000
_PUBLISHED_TOP_P = 0.9
_STILL = 2e-6  # no market moves as little as this a bar: the closes stand, or drift by the same step each time
_STILL_SHARE = 0.05  # of a bar's own range: closes that move less than that say nothing about the risk
_STRIDES_A_WINDOW = 8  # a full window is read again about this often while it slides once through


@dataclass(frozen=True)
class Plan:
    """What one call asks of every series. ``window_stride`` None: an eighth of ``max_context``.

    Raises:
        ConfigError: a value out of its range.
    """

    horizon: int
    paths: int
    seed: int
    settings: SamplingSettings
    context_length: int
    window_stride: int

    @classmethod
    def build(
        cls,
        max_context: int,
        settings: SamplingSettings,
        horizon: int,
        paths: int,
        seed: int,
        context_length: int | None = None,
        window_stride: int | None = None,
    ) -> Plan:
        """A checked plan.

        Raises:
            ConfigError: a value out of its range.
        """
        check_seed(seed)
        if context_length is None:
            context_length = max_context
        if window_stride is None:
            window_stride = max(1, max_context // _STRIDES_A_WINDOW)
        return cls(
            horizon=whole_number("horizon", horizon, 1, MOST_BARS),
            paths=whole_number("num_samples", paths, 1, MOST_PATHS),
            seed=int(seed),
            settings=settings,
            context_length=whole_number("context_length", context_length, 2, max_context),
            window_stride=whole_number("window_stride", window_stride, 1, max_context - 1),
        )


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int.

    Raises:
        ConfigError: not a whole number from ``low`` to ``high``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number from {low} to {high:,}")
    return int(value)


def calibrated_settings(
    config: KronosConfig, temperature: float | None, top_k: int | None, top_p: float | None
) -> SamplingSettings:
    """Sampling settings; what is None comes from the checkpoint's calibration.

    Without one: temperature 1 and all tokens, for published checkpoints the published nucleus of 0.9.
    """
    fitted = config.calibration or {}
    default_top_p = 1.0 if config.consistent else _PUBLISHED_TOP_P
    return SamplingSettings(
        fitted.get("temperature", 1.0) if temperature is None else temperature,
        fitted.get("top_k", 0) if top_k is None else top_k,
        fitted.get("top_p", default_top_p) if top_p is None else top_p,
    )


def make_request(
    transform: BarTransform,
    values: npt.NDArray[np.float64],
    stamps: npt.NDArray[np.int64],
    *,
    horizon: int,
    paths: int,
    seed: int,
    max_context: int,
    clip: float,
) -> tuple[Request, Any]:
    """A request for the engine, and the transform's state to turn its answer into bars.

    Args:
        values: (T, 6) bars of the context, whose statistics set the scale.
        stamps: (T + H, 5).

    Raises:
        DataError: too few bars.
    """
    lost = transform.lost
    if len(values) <= lost:
        raise DataError(f"the context has {len(values)} bars; this model needs at least {lost + 1}")
    state = transform.fit(values, clip=clip)
    key = series_key(values[-max_context - lost :, FEATURES.index("close")])
    draws = uniforms(seed, [key], paths, horizon)[0]
    return Request(transform.encode(values, state), stamps[lost:], draws), state


def still_notes(transform: BarTransform, values: npt.NDArray[np.float64], state: Any) -> tuple[str, ...]:
    """A warning where the closes of the context (T, 6) vary too little to measure the risk by."""
    if not transform.takes_moves:
        return ()
    high, low = (values[:, FEATURES.index(name)] for name in ("high", "low"))
    sigma, reach = float(state.sigma), float(np.median(np.log(high / low)))
    if sigma >= max(_STILL, _STILL_SHARE * reach):
        return ()
    return (
        f"the closes of the context hardly vary from bar to bar (by {sigma:.1g}, the bars' own range is {reach:.1g}), "
        "so the paths are far too certain; do not read risk from them, and check the bars or give a longer context",
    )
