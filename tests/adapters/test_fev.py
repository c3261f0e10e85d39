"""fev with our checkpoint: predictions that its tasks accept and score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from tests.adapters.conftest import HORIZON, needs, walk

from kronos import KronosPredictor
from kronos.errors import ConfigError, FewPathsWarning

needs("fev")
import datasets  # noqa: E402
import fev  # noqa: E402

from kronos.adapters import forecast_task  # noqa: E402

COLUMNS = ("open", "high", "low", "close", "volume")


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = []
    for seed in range(3):
        table = walk(100, seed, "D")
        rows.append(
            {
                "id": f"S{seed}",
                "timestamp": table.index.to_numpy(),
                **{name: table[name].to_numpy() for name in COLUMNS},
            }
        )
    path = tmp_path / "data.parquet"
    datasets.Dataset.from_list(rows).to_parquet(path)
    return str(path)


def make_task(data: str, target: str | list[str], **words: object) -> fev.Task:
    settings = {"horizon": HORIZON, "num_windows": 2, "eval_metric": "SQL", "quantile_levels": [0.1, 0.5, 0.9]}
    return fev.Task(dataset_path=data, target=target, **{**settings, **words})


def test_a_task_scores_closes(tiny: KronosPredictor, data: str) -> None:
    task = make_task(data, "close")
    found = forecast_task(task, tiny, num_samples=24)
    assert len(found) == 2
    row = found[0]["close"][0]
    assert set(row) == {"predictions", "0.1", "0.5", "0.9"}
    npt.assert_allclose(row["predictions"], row["0.5"])
    assert (np.array(row["0.1"]) < np.array(row["0.9"])).all()
    summary = task.evaluation_summary(found, model_name="kronos-nano")
    assert summary["test_error"] > 0


def test_targets_of_a_bar_are_forecast_together(tiny: KronosPredictor, data: str) -> None:
    task = make_task(data, ["open", "high", "low", "close"], num_windows=1)
    found = forecast_task(task, tiny, num_samples=24)
    assert set(found[0]) == {"open", "high", "low", "close"}
    high, close = (np.array(found[0][name]["0.9"]) for name in ("high", "close"))
    assert (high >= close).all()
    assert task.evaluation_summary(found, model_name="kronos-nano")["test_error"] > 0


def test_other_targets_are_forecast_one_by_one(tiny: KronosPredictor, data: str) -> None:
    task = make_task(data, ["close", "volume"], num_windows=1)
    assert set(forecast_task(task, tiny, num_samples=40)[0]) == {"close", "volume"}


def test_points_alone_need_no_distribution_but_quantiles_do(tiny: KronosPredictor, data: str) -> None:
    with pytest.warns(FewPathsWarning), pytest.raises(ConfigError, match="no distribution"):
        forecast_task(make_task(data, "close"), tiny, num_samples=5)
    task = make_task(data, "close", eval_metric="MASE", quantile_levels=[])
    with pytest.warns(FewPathsWarning):
        found = forecast_task(task, tiny, num_samples=5)
    assert task.evaluation_summary(found, model_name="kronos-nano")["test_error"] > 0
