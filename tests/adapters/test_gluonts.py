"""GluonTS with our predictor: its own evaluation, splits and forecasts."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from tests.adapters.conftest import HORIZON, needs, walk

from kronos import KronosPredictor
from kronos.errors import ConfigError, DataError, FewPathsWarning

needs("gluonts")
from gluonts.dataset.common import ListDataset  # noqa: E402
from gluonts.dataset.pandas import PandasDataset  # noqa: E402
from gluonts.dataset.split import split  # noqa: E402
from gluonts.ev.metrics import MASE, MeanWeightedSumQuantileLoss  # noqa: E402
from gluonts.evaluation import make_evaluation_predictions  # noqa: E402
from gluonts.model import evaluate_model  # noqa: E402

from kronos.adapters import GluonTSPredictor  # noqa: E402


@pytest.fixture
def dataset() -> PandasDataset:
    return PandasDataset({f"S{seed}": walk(90 + seed, seed)["close"].astype("float32") for seed in range(3)}, freq="B")


def test_evaluate_model(tiny: KronosPredictor, dataset: PandasDataset) -> None:
    _, template = split(dataset, offset=-2 * HORIZON)
    windows = template.generate_instances(prediction_length=HORIZON, windows=2)
    predictor = GluonTSPredictor(tiny, HORIZON, num_samples=24)
    levels = [0.1, 0.5, 0.9]
    scores = evaluate_model(predictor, test_data=windows, metrics=[MASE(), MeanWeightedSumQuantileLoss(levels)])
    assert len(scores) == 1
    assert np.isfinite(scores.to_numpy(dtype=float)).all()


def test_make_evaluation_predictions(tiny: KronosPredictor, dataset: PandasDataset) -> None:
    predictor = GluonTSPredictor(tiny, HORIZON)
    forecasts, truths = map(list, make_evaluation_predictions(dataset, predictor, num_samples=20))
    assert [forecast.item_id for forecast in forecasts] == ["S0", "S1", "S2"]
    for forecast, truth in zip(forecasts, truths, strict=True):
        assert forecast.samples.shape == (20, HORIZON)
        assert list(forecast.index) == list(truth.index[-HORIZON:])
        assert forecast.info["kronos"]["cutoff"] == truth.index[-HORIZON - 1].to_timestamp().isoformat()


def test_the_paths_are_those_of_the_predictor(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    """Whole bars as rows of a target: the same paths as of the table."""
    wide = bars[["open", "high", "low", "close", "volume"]]
    entry = {"start": pd.Period(bars.index[0], freq="B"), "target": wide.to_numpy().T}
    (found,) = GluonTSPredictor(tiny, HORIZON, num_samples=24, seed=2).predict([entry])
    assert found.samples.shape == (24, HORIZON, 5)
    table = wide.reset_index().rename(columns={"date": "timestamp"}).assign(amount=0.0)
    future = pd.date_range(bars.index[-1], periods=HORIZON + 1, freq="B")[1:]
    alone = tiny.forecast(table, horizon=HORIZON, num_samples=24, seed=2, future=future)
    npt.assert_allclose(found.samples, alone.samples[:, :, :5], rtol=1e-6)


def test_intraday_entries_and_names(tiny: KronosPredictor) -> None:
    data = ListDataset([{"start": "2024-01-01", "target": walk(80, 1)["close"].to_numpy()}], freq="5min")
    (found,) = GluonTSPredictor(tiny, 4, num_samples=20).predict(data)
    assert found.start_date == pd.Period("2024-01-01 06:40", freq="5min")


def test_what_cannot_be_forecast_is_named(tiny: KronosPredictor) -> None:
    entry = {"start": pd.Period("2024-01-01", freq="D"), "target": np.ones((2, 50)), "item_id": "pair"}
    with pytest.raises(DataError, match="pair has 2 columns"):
        list(GluonTSPredictor(tiny, 4).predict([entry]))
    with pytest.raises(ConfigError, match="horizon is 0"):
        GluonTSPredictor(tiny, 0)
    one = {"start": pd.Period("2024-01-01", freq="D"), "target": walk(50, 0)["close"].to_numpy()}
    with pytest.warns(FewPathsWarning):
        list(GluonTSPredictor(tiny, 4, num_samples=5).predict([one]))
