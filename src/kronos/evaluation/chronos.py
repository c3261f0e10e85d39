"""Chronos, Chronos-Bolt and Chronos-2 checkpoints, through the package ``chronos-forecasting``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from kronos.errors import CheckpointError, MissingExtraError
from kronos.evaluation.adapters import QuantileForecaster, SampleForecaster
from kronos.protocol import Context, FloatArray, Forecaster


def chronos_forecaster(name: str = "amazon/chronos-bolt-small", device: str = "cpu") -> Forecaster:
    """A checkpoint by hub id or folder, ready to be judged on closes.

    Chronos (T5) answers with sample paths, which are taken as they are. Chronos-Bolt and Chronos-2 answer with
    quantiles: all that the checkpoint was trained on are asked for, none beyond them.

    Raises:
        MissingExtraError: the package is not installed. CheckpointError: no such checkpoint.
    """
    try:
        chronos = import_module("chronos")
    except ImportError as error:
        raise MissingExtraError("chronos-forecasting", "chronos", "Judging a Chronos checkpoint") from error
    try:
        pipeline = chronos.BaseChronosPipeline.from_pretrained(name, device_map=device)
    except (OSError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{name!r} could not be loaded as a Chronos checkpoint: {error}") from error
    short = name.rstrip("/").rsplit("/", 1)[-1]
    forecaster: QuantileForecaster | SampleForecaster
    if pipeline.forecast_type == chronos.ForecastType.SAMPLES:
        forecaster = SampleForecaster(short, partial(_sampled, pipeline))
    else:
        forecaster = QuantileForecaster(short, partial(_quantiles, pipeline), pipeline.quantiles)
    forecaster.fingerprint = _digest(pipeline)
    forecaster.training_cutoff = None  # trained on public series of all kinds; no date is published
    forecaster.recipe = partial(chronos_forecaster, name, "cpu") if device == "cpu" else None
    return forecaster


def _tensor(closes: FloatArray) -> Any:
    import torch

    return torch.tensor(closes, dtype=torch.float32)


def _quantiles(pipeline: Any, closes: Sequence[FloatArray], horizon: int, levels: Sequence[float]) -> FloatArray:
    """(N, H, Q). Chronos-2 gives one (1, H, Q) per series, Chronos-Bolt one (N, H, Q)."""
    series = [_tensor(values) for values in closes]
    found, _ = pipeline.predict_quantiles(series, prediction_length=horizon, quantile_levels=list(levels))
    return np.stack([np.asarray(one, dtype=float).reshape(horizon, len(levels)) for one in found])


def _sampled(pipeline: Any, context: Context, closes: FloatArray, horizon: int, num_samples: int, seed: int) -> Any:
    """(S, H). Chronos draws from torch's global stream, which is set for the call and put back after it."""
    import torch

    key = hashlib.blake2b(closes.tobytes() + context.symbol.encode(), digest_size=4).digest()
    with torch.random.fork_rng():
        torch.manual_seed(seed * 2**32 + int.from_bytes(key))
        found = pipeline.predict([_tensor(closes)], prediction_length=horizon, num_samples=num_samples)
    return np.asarray(found[0], dtype=float)


def _digest(pipeline: Any) -> str:
    """Digest of the weights."""
    digest = hashlib.blake2b(digest_size=12)
    for key, tensor in sorted(pipeline.inner_model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
