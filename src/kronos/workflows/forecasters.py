"""Names of models → forecasters that the evaluation can judge.

``kronos-nano``, a folder or a hub id is a checkpoint of ours or a published one; with ``+har`` behind it its volatility
is half that of a pooled HAR model. ``chronos:ID`` is a Chronos checkpoint; ``statsmodels:NAME`` is a point model
refitted on every context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos.inference.predictor import KronosPredictor
from kronos.protocol import Context, Forecaster
from kronos.spec import SAMPLING, ForecastSpec

CHRONOS, STATSMODELS = "chronos:", "statsmodels:"
WITH_HAR, HALF = "+har", 0.5


class Configured:
    """A forecaster under a given name, whose sampling settings take the place of the spec's.

    Args:
        make: makes the same forecaster in another process; without one, all its windows are forecast in this one.
        settings: temperature, top_k, top_p, direction, har_weight; None leaves what the spec says.
    """

    def __init__(
        self, inner: Forecaster, name: str, make: Callable[..., Forecaster] | None = None, **settings: Any
    ) -> None:
        self.inner, self.name, self._make = inner, name, make
        self.settings = {**dict.fromkeys(SAMPLING), **settings}
        self.recipe = None if make is None else partial(make, **self.settings)
        self.fingerprint = f"{getattr(inner, 'fingerprint', '')}|{sorted(self.settings.items())}"
        self.training_cutoffs: dict[str, np.datetime64] = dict(getattr(inner, "training_cutoffs", {}))
        self.reads = int(getattr(inner, "max_context", 512))  # bars of a context
        self.training_cutoff = max(self.training_cutoffs.values(), default=None)

    def with_settings(self, **settings: Any) -> Configured:
        """The same weights, sampled otherwise."""
        return Configured(self.inner, self.name, self._make, **settings)

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[npt.NDArray[Any]]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        return self.inner.sample_paths(contexts, spec.replace(**given))

    def nats(self, context: Context, truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(H,) negative log-likelihood of the true bars; NaN where the forecaster knows none."""
        return np.asarray(self.inner.nats(context, truth))  # type: ignore[attr-defined]


def load_forecaster(
    name: str,
    device: str | None = None,
    *,
    tokenizer: str | None = None,
    calibrated: bool | Mapping[str, Any] = True,
    worker_device: str | None = None,
    **settings: Any,
) -> Configured:
    """A checkpoint by name, folder or hub id, ready to be judged.

    Args:
        tokenizer: one other than the model's own.
        worker_device: what it computes on in other processes; None: the CPU, as long as it does so here.
        calibrated: False leaves the checkpoint's calibration out, in order to fit another; a mapping stands for it.
        settings: temperature, top_k, top_p, direction, har_weight; None is the checkpoint's default.
    """
    checkpoint = name.removesuffix(WITH_HAR)
    if name != checkpoint and settings.get("har_weight") is None:
        settings["har_weight"] = HALF
    predictor = KronosPredictor.from_pretrained(checkpoint, device=device, tokenizer=tokenizer)
    if calibrated is not True:
        calibration = None if calibrated is False else calibrated
        predictor.model.config = dataclasses.replace(predictor.model.config, calibration=calibration)
    if worker_device is None and predictor.device.type == "cpu":  # an accelerator is not shared out to processes
        worker_device = "cpu"
    words: dict[str, Any] = {"device": worker_device, "tokenizer": tokenizer, "calibrated": calibrated}
    make = None if worker_device is None else partial(load_forecaster, name, **words)
    return Configured(predictor, Path(name).name if Path(checkpoint).is_dir() else name, make, **settings)


def share_of_har(forecaster: Configured) -> float:
    """The share of HAR in the volatility of a checkpoint's paths: as it was asked for, else as it was calibrated."""
    calibration: Mapping[str, Any] = forecaster.inner.model.config.calibration or {}  # type: ignore[attr-defined]
    asked = forecaster.settings["har_weight"]
    return float(calibration.get("har_weight", 0.0) if asked is None else asked)


def load_any(
    name: str,
    device: str | None = None,
    worker_device: str | None = None,
    tokenizer: str | None = None,
    **settings: Any,
) -> Forecaster:
    """What the name of a model stands for; the settings are for checkpoints, ours or published.

    Raises:
        ConfigError: an unknown point model. MissingExtraError: its package is not installed.
        CheckpointError: no such checkpoint.
    """
    if not name.startswith((CHRONOS, STATSMODELS)):
        return load_forecaster(name, device, tokenizer=tokenizer, worker_device=worker_device, **settings)
    from kronos.evaluation.adapters import chronos_forecaster, statsmodels_forecaster

    if name.startswith(CHRONOS):
        return chronos_forecaster(name.removeprefix(CHRONOS), device or "cpu")
    return statsmodels_forecaster(name.removeprefix(STATSMODELS))
