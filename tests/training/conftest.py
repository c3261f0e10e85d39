"""Tiny runs: a learnable series, small shapes, float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import learnable, tiny_settings

from kronos.bars.arrays import write_arrays
from kronos.training.config import RunConfig

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def arrays_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    write_arrays([("hourly", f"S{i}", learnable(seed=i)) for i in range(6)], folder)
    return folder


@pytest.fixture
def make_config(arrays_folder: Path, tmp_path: Path) -> MakeConfig:
    """A run's settings; sections given are merged into the tiny ones."""

    def make(**changes: Any) -> RunConfig:
        values = tiny_settings(tmp_path / "run", arrays_folder)
        for name, value in changes.items():
            values[name] = {**values[name], **value} if isinstance(value, dict) and name in values else value
        return RunConfig.from_dict(values)

    return make
