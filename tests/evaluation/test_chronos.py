"""Chronos of all three kinds, through the real package: random weights, real code, no network."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import asking

from kronos.errors import CheckpointError, MissingExtraError
from kronos.evaluation import metrics
from kronos.evaluation.adapters import FLOOR, QuantileForecaster, SampleForecaster, chronos_forecaster
from kronos.evaluation.windows import Series
from kronos.protocol import CLOSE, Context, Forecaster

Maker = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One saved checkpoint of each kind."""
    pytest.importorskip("chronos")
    from evaluation.tiny_chronos import save_bolt, save_second, save_t5

    root = tmp_path_factory.mktemp("chronos")
    for name, save in {"bolt": save_bolt, "second": save_second, "t5": save_t5}.items():
        save(root / name)
    return {name: root / name for name in ("bolt", "second", "t5")}


@pytest.mark.parametrize("kind", ["bolt", "second", "t5"])
def test_every_kind_gives_valid_bars_whatever_is_beside_them(
    folders: dict[str, Path], kind: str, make_bars: Maker
) -> None:
    forecaster = chronos_forecaster(str(folders[kind]))
    assert isinstance(forecaster, Forecaster)
    assert forecaster.name == kind
    contexts = [Series.from_frame(f"S{s}", make_bars(400, s)).window(300, 60 + s, 12).context for s in range(3)]
    together = forecaster.sample_paths(contexts, asking(12, 20, 4))
    for context, paths in zip(contexts, together, strict=True):
        assert paths.shape == (20, 12, 6)
        assert metrics.invalid_bars(paths).sum() == 0
        assert forecaster.sample_paths([context], asking(12, 20, 4))[0] == pytest.approx(paths, rel=1e-4)
    if kind == "t5":  # only this one draws; the others' randomness is the order in which quantiles are dealt
        assert not np.allclose(
            np.sort(forecaster.sample_paths(contexts[:1], asking(12, 20, 5))[0]), np.sort(together[0])
        )


@pytest.mark.parametrize("kind", ["bolt", "second"])
def test_margins_are_the_quantiles_that_the_package_gives(
    folders: dict[str, Path], kind: str, context: Context
) -> None:
    """S paths sit at levels (k - ½) / S: those of five are deciles, so nothing is interpolated."""
    import torch
    from chronos import BaseChronosPipeline

    forecaster = chronos_forecaster(str(folders[kind]))
    assert isinstance(forecaster, QuantileForecaster)
    pipeline = BaseChronosPipeline.from_pretrained(str(folders[kind]), device_map="cpu")
    series = [torch.tensor(context.values[:, CLOSE], dtype=torch.float32)]
    theirs, _ = pipeline.predict_quantiles(series, prediction_length=12, quantile_levels=pipeline.quantiles)
    ordered = np.sort(np.asarray(theirs[0]).reshape(12, -1))  # random weights cross their quantiles
    places = [pipeline.quantiles.index(level) for level in (0.1, 0.3, 0.5, 0.7, 0.9)]
    expected = np.maximum(ordered[:, places], FLOOR * context.last_close)
    (paths,) = forecaster.sample_paths([context], asking(12, 5, 0))
    assert pytest.approx(expected, rel=1e-4) == np.sort(paths[..., CLOSE], axis=0).T


def test_sampling_leaves_the_global_stream_alone_and_paths_are_the_packages_own(
    folders: dict[str, Path], context: Context
) -> None:
    import torch

    forecaster = chronos_forecaster(str(folders["t5"]))
    assert isinstance(forecaster, SampleForecaster)
    before = torch.random.get_rng_state()
    (paths,) = forecaster.sample_paths([context], asking(12, 30, 0))
    assert torch.equal(before, torch.random.get_rng_state())
    scale = np.abs(context.values[-64:, CLOSE]).mean()
    levels = np.unique(np.round(paths[..., CLOSE] / scale, 6))
    assert len(levels) < 64  # its vocabulary
    assert levels.min() > 0.4
    assert levels.max() < 1.6


def test_weights_tell_checkpoints_apart_and_the_recipe_makes_the_same_one(folders: dict[str, Path]) -> None:
    one, other = (chronos_forecaster(str(folders[kind])) for kind in ("bolt", "second"))
    again = pickle.loads(pickle.dumps(one.recipe))()  # as a worker process would
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("chronos")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(CheckpointError, match="as a Chronos checkpoint"):
        chronos_forecaster(str(tmp_path))
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'chronos-forecasting"):
        chronos_forecaster()
