"""Paths without a direction: each is followed by its mirror, and keeps every promise that paths make."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
import tiny

from kronos.errors import CapacityError, ConfigError
from kronos.evaluation.calibrate import mirrored_closes
from kronos.inference import engine as engines
from kronos.inference.certainty import MIRRORED, NO_DIRECTION, Shown, hit_error, share_error
from kronos.inference.charts import facts, next_bars, page
from kronos.inference.export import document, record, summary
from kronos.inference.forecast import Forecast
from kronos.inference.mirror import with_mirrors
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos
from kronos.protocol import Context, are_mirrors, traded_value
from kronos.spec import SAMPLING, ForecastSpec
from kronos.workflows.forecasters import Configured


@pytest.fixture(scope="module")
def ours() -> KronosPredictor:
    return tiny.predictor(tiny.consistent())


def calibrated(**calibration: Any) -> KronosPredictor:
    model, tokenizer = tiny.consistent()
    other = Kronos(dataclasses.replace(model.config, calibration=calibration)).eval()
    other.load_state_dict(model.state_dict())
    return tiny.predictor((other, tokenizer))


def moves(forecast: Forecast) -> np.ndarray:
    return np.asarray(np.log(forecast.samples[..., :4].astype(np.float64) / forecast.last_close))


@pytest.mark.parametrize("paths", [1, 2, 7, 20])
def test_every_path_is_followed_by_its_mirror(predictor: KronosPredictor, bars: pd.DataFrame, paths: int) -> None:
    plain = predictor.forecast(bars, 6, -(-paths // 2), seed=4)
    found = predictor.forecast(bars, 6, paths, seed=4, direction="none")
    assert found.samples.shape == (paths, 6, 6)
    assert (found.metadata["settings"]["direction"], plain.metadata["settings"]["direction"]) == ("none", "model")
    npt.assert_array_equal(found.samples[::2], plain.samples)
    up, down = moves(found)[: paths // 2 * 2 : 2], moves(found)[1::2]
    npt.assert_allclose(down, -up[..., [0, 2, 1, 3]], atol=1e-6)  # high and low exchange places
    npt.assert_array_equal(found.samples[1::2, :, 4], found.samples[: paths // 2 * 2 : 2, :, 4])
    opened, high, low, close, volume, amount = np.moveaxis(found.samples, -1, 0)
    assert np.isfinite(found.samples).all()
    assert (low > 0).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert min(volume.min(), amount.min()) >= 0


def test_the_amount_keeps_its_ratio_to_what_was_traded(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    samples = ours.forecast(bars, 5, 10, direction="none").samples.astype(np.float64)
    ratio = samples[..., 5] / traded_value(samples)
    npt.assert_allclose(ratio[1::2], ratio[::2], rtol=1e-5)


def test_more_paths_and_longer_horizons_keep_what_was_there(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    def drawn(horizon: int, paths: int) -> np.ndarray:
        return ours.forecast(bars, horizon, paths, seed=1, direction="none", calendar="XNYS").samples

    npt.assert_array_equal(drawn(4, 9), drawn(4, 9))
    npt.assert_allclose(drawn(4, 12)[:9], drawn(4, 9), rtol=1e-5)
    npt.assert_allclose(drawn(8, 9)[:, :4], drawn(4, 9), rtol=1e-5)


def test_one_series_alone_equals_the_same_in_a_ragged_batch(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    tables = {"A": bars, "B": bars.iloc[7:], "C": bars.iloc[31:]}
    together = dict(predictor.forecast_many(tables, 4, 5, calendar="XNYS", direction="none"))
    for name, table in tables.items():
        alone = predictor.forecast(table, 4, 5, calendar="XNYS", direction="none")
        npt.assert_allclose(together[name].samples, alone.samples, rtol=1e-4)
        assert together[name].metadata["settings"] == alone.metadata["settings"]


def test_progress_counts_what_is_sampled(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    heard: list[tuple[int, int]] = []
    ours.forecast(bars, 5, 7, direction="none", progress=lambda *now: heard.append(now))
    assert heard[-1] == (20, 20)
    assert {total for _, total in heard} == {20}
    tables, heard = {"A": bars, "B": bars}, []
    list(ours.forecast_many(tables, 5, 7, direction="none", progress=lambda *now: heard.append(now)))
    assert heard[-1] == (40, 40)


def test_what_does_not_fit_is_told_with_all_paths(
    ours: KronosPredictor, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_memory_limit", lambda: 1 << 18)
    with pytest.raises(CapacityError, match=r"forecast of 6000 paths x 5 bars"):
        ours.forecast(bars, 5, 6000, direction="none")


def test_the_checkpoint_decides_and_an_argument_overrides(bars: pd.DataFrame) -> None:
    none = calibrated(direction="none", width={"horizon": [1], "factor": [1.5]})
    found = none.forecast(bars, 4, 8)
    assert found.mirrored
    assert found.metadata["settings"]["direction"] == "none"
    own = none.forecast(bars, 4, 8, direction="model")
    assert not own.mirrored
    npt.assert_array_equal(own.samples[:4], found.samples[::2])  # widened alike
    assert not none.generate(bars, 4, 8).mirrored  # synthetic bars go where the model says
    with pytest.raises(ConfigError, match=r"calibration: direction is 'up'.*one of model, none"):
        calibrated(direction="up")
    with pytest.raises(ConfigError, match=r"direction is 'up'"):
        none.forecast(bars, 4, 8, direction="up")  # type: ignore[arg-type]


def test_the_published_calls_go_where_the_model_says(bars: pd.DataFrame) -> None:
    times = bars["timestamp"], bars["timestamp"].iloc[-4:] + pd.Timedelta(days=30)
    plain, none = tiny.predictor(tiny.consistent()), calibrated(direction="none")
    for seed in (None, 3):
        found = []
        for one in (plain, none):
            tiny.torch.manual_seed(0)
            found.append(one.predict(bars, *times, 4, sample_count=3, verbose=False, seed=seed))
        pd.testing.assert_frame_equal(*found)


def test_mirrors_are_told_from_other_paths(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    for sigma in (1e-5, 0.01):  # a stable coin's minutes, in single precision, and a share's days
        drawn = np.exp(rng.normal(0, sigma, (50, 1, 6)))[:, :, [0, 0, 0, 0, 0, 0]]
        pairs = with_mirrors(drawn, 1.0, 100).astype(np.float32)[..., 3]
        assert are_mirrors(np.log(pairs.astype(np.float64)))
        assert are_mirrors(np.log(pairs.astype(np.float64)) / sigma, sigma)
        assert are_mirrors(np.log(pairs.astype(np.float64))[:99])
    assert not are_mirrors(np.zeros((10, 3)))
    assert not are_mirrors(np.full((10, 3), np.nan))
    assert sum(are_mirrors(rng.normal(size=(4, 1))) for _ in range(5000)) == 0
    assert not ours.forecast(bars, 3, 40).mirrored


# -- the errors of what mirrored paths say ----------------------------------------------------------------------------


def test_errors_of_shares_of_mirrored_paths_are_those_of_seeds() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(4000, 50, 1))
    pairs = np.concatenate([half, -half], axis=2).reshape(4000, 100)
    for hits in (pairs > 0.3, pairs > -1, np.abs(pairs) > 1, np.maximum(pairs, -2 * pairs) > 1, pairs[:, :99] > 0.3):
        errors = np.array([hit_error(one, True) for one in hits[:200]])
        assert errors.mean() == pytest.approx(hits.mean(axis=1).std(), rel=0.06)
    assert hit_error(pairs[0] > 0, True) == 0.0
    assert 0 < hit_error(pairs[0] > 99, True) == pytest.approx(0.5 / 51)
    assert hit_error(pairs[0] > 0.3) == share_error((pairs[0] > 0.3).mean(), 100)
    many = np.stack([pairs[0] > 0.1, pairs[0] > 0.4], axis=1)
    npt.assert_allclose(hit_error(many, True), [hit_error(column, True) for column in many.T])


def mirrored_forecast(make_forecast: Any, seed: int = 0, paths: int = 100) -> Forecast:
    blank, rng = make_forecast(paths=2, horizon=1), np.random.default_rng(seed)
    close = np.exp(rng.normal(0, 0.02, (-(-paths // 2), 1)))
    wick = np.exp(rng.exponential(0.01, close.shape))
    drawn = np.stack([close, close * wick, close / wick**2, close, 1e3 * wick, 1e3 * wick * close], axis=-1)
    drawn[..., :4] *= blank.last_close
    return Forecast(with_mirrors(drawn, blank.last_close, paths), blank.timestamps, {}, blank.history)


def test_the_error_of_the_median_of_mirrored_paths_is_that_of_seeds(make_forecast) -> None:
    drawn = [mirrored_forecast(make_forecast, seed) for seed in range(200)]
    medians = pd.concat([one.median() for one in drawn])
    errors = pd.concat([one.median_error() for one in drawn]).mean()
    for name in ("high", "low", "volume"):
        assert errors[name] == pytest.approx(medians[name].std(), rel=0.3), name
    npt.assert_allclose(medians["close"], drawn[0].last_close, rtol=1e-4)
    assert errors["close"] == 0.0


def test_half_of_mirrored_paths_rise_without_error(make_forecast) -> None:
    found = mirrored_forecast(make_forecast)
    assert found.prob_up(error=True).to_numpy().tolist() == [[0.5, 0.0]]
    above = found.prob_up(found.last_close * 1.02, error=True)
    drawn = [mirrored_forecast(make_forecast, seed).prob_up(found.last_close * 1.02).iloc[0] for seed in range(300)]
    assert above["error"].iloc[0] == pytest.approx(np.std(drawn), rel=0.25)
    assert found.distinct_paths == 100


# -- what surfaces show -----------------------------------------------------------------------------------------------


def test_surfaces_say_in_words_that_no_direction_is_given(make_forecast, tmp_path: Path) -> None:
    none, own = mirrored_forecast(make_forecast), make_forecast(paths=40, horizon=1)
    assert Shown(none).direction == MIRRORED
    assert Shown(own).direction is None
    assert ("Direction", "none given") in facts(none)
    assert "P(up)" not in next_bars(none)[0]
    assert "P(up)" in next_bars(own)[0]
    assert MIRRORED.split(";")[0] in page(none)
    assert "P(up)" not in page(none).split('id="chart"')[1].split("<footer>")[0]
    assert NO_DIRECTION in page(own)
    assert summary(none)[["prob_up", "prob_up_error"]].isna().all().all()
    assert list(summary(none).columns) == list(summary(own).columns)
    content = document(none)
    assert (content["prob_up"], content["prob_up_error"]) == ([None], [None])
    assert content["direction"] == MIRRORED
    assert document(own)["direction"] is None
    assert record(none)["direction"] == MIRRORED
    saved = json.loads(none.save(tmp_path / "none.json").read_text())
    assert saved["direction"] == MIRRORED


def test_every_way_to_paths_mirrors_them(bars: pd.DataFrame) -> None:
    """Evaluation, calibration and the settings of a forecaster go the way of ``forecast``."""
    none, own = calibrated(direction="none"), calibrated()
    values = bars[["open", "high", "low", "close", "volume", "amount"]].to_numpy()
    times = bars["timestamp"].dt.tz_localize(None).to_numpy()
    context = Context("A", times[:-4], values[:-4], times[-4:])
    (found,) = none.sample_paths([context], ForecastSpec(horizon=4, num_samples=9))
    assert are_mirrors(np.log(found[..., 3] / context.last_close))
    (model,) = own.sample_paths([context], ForecastSpec(horizon=4, num_samples=9))
    closes = np.log(model[..., 3] / context.last_close)[None]
    npt.assert_allclose(np.log(found[..., 3] / context.last_close)[None], mirrored_closes(closes), atol=1e-6)
    for wrapped in (Configured(own, "own", direction="none"), Configured(none, "none")):
        npt.assert_array_equal(wrapped.sample_paths([context], ForecastSpec(horizon=4, num_samples=9))[0], found)
    paper = Configured(none, "none").with_settings(**SAMPLING)
    assert not are_mirrors(
        np.log(paper.sample_paths([context], ForecastSpec(horizon=4))[0][..., 3] / context.last_close)
    )
