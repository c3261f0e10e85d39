"""The views of a forecast against plain pandas and numpy, and its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos.errors import ConfigError, KronosError, MissingExtraError
from kronos.files import replacing, to_json
from kronos.inference import export
from kronos.inference.forecast import Forecast

FEATURES = ["open", "high", "low", "close", "volume", "amount"]


def assert_valid(bars: pd.DataFrame) -> None:
    body = bars[["open", "close"]]
    assert (bars["high"] >= body.max(axis=1)).all()
    assert (bars["low"] <= body.min(axis=1)).all()
    assert (bars[["volume", "amount"]] >= 0).all().all()
    assert np.isfinite(bars.to_numpy()).all()


# -- what it holds ----------------------------------------------------------------------------------------


def test_is_immutable(make_forecast) -> None:
    forecast = make_forecast()
    with pytest.raises(ValueError, match="read-only"):
        forecast.samples[0, 0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        forecast.symbol = "other"


def test_does_not_share_the_callers_array(make_forecast) -> None:
    mine = np.ones((2, 3, 6), dtype=np.float32)
    forecast = Forecast(mine, pd.date_range("2024-01-01", periods=3))
    mine[:] = 7
    assert (forecast.samples == 1).all()


@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 5), (0, 3, 6), (2, 0, 6)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="shape"):
        Forecast(np.ones(shape, dtype=np.float32), pd.date_range("2024-01-01", periods=3))


def test_refuses_another_number_of_timestamps() -> None:
    with pytest.raises(ConfigError, match="3 bars came with 4"):
        Forecast(np.ones((2, 3, 6), dtype=np.float32), pd.date_range("2024-01-01", periods=4))


def test_repr_names_series_and_model(make_forecast) -> None:
    assert repr(make_forecast(paths=7, horizon=3)).startswith("Forecast(ACME, 3 bars 2024-")


# -- bars -------------------------------------------------------------------------------------------------


def test_mean_and_median_are_those_of_pandas(make_forecast) -> None:
    forecast = make_forecast()
    by_time = forecast.to_frame().astype(dict.fromkeys(FEATURES, float)).groupby("timestamp")[FEATURES]
    pd.testing.assert_frame_equal(forecast.mean(), by_time.mean(), check_freq=False, rtol=1e-12)
    pd.testing.assert_frame_equal(forecast.median(), by_time.median(), check_freq=False, rtol=1e-12)


def test_quantile_has_the_shape_and_values_of_pandas(make_forecast) -> None:
    forecast = make_forecast()
    by_time = forecast.to_frame().astype(dict.fromkeys(FEATURES, float)).groupby("timestamp")[FEATURES]
    levels = [0.05, 0.3, 0.5, 1.0]
    got = forecast.quantile(levels)
    assert got.index.names == ["timestamp", "quantile"]
    npt.assert_allclose(got.to_numpy(), by_time.quantile(levels).to_numpy(), rtol=1e-12)
    pd.testing.assert_frame_equal(got.xs(0.3, level="quantile"), forecast.quantile(0.3), check_freq=False)


@given(seed=st.integers(0, 10_000), paths=st.integers(1, 9), level=st.floats(0, 1))
def test_views_of_valid_paths_are_valid_bars(seed: int, paths: int, level: float) -> None:
    """Float by float, no tolerance: many ties and wide ranges are where rounding would show."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 6)
    parts = np.sort(scale * rng.lognormal(0, 2, (paths, 5, 4)).round(1), axis=-1)
    swap = rng.random((paths, 5)) < 0.5
    opened, close = np.where(swap, parts[..., 1], parts[..., 2]), np.where(swap, parts[..., 2], parts[..., 1])
    volume = rng.lognormal(0, 2, (2, paths, 5))
    bars = np.stack([opened, parts[..., 3], parts[..., 0], close, *volume], axis=-1)
    forecast = Forecast(bars.astype(np.float32), pd.date_range("2024-01-01", periods=5))
    for view in (forecast.mean(), forecast.median(), forecast.quantile(level)):
        assert_valid(view)


def test_one_path_is_its_own_mean_and_median(make_forecast) -> None:
    forecast = make_forecast(paths=1)
    npt.assert_array_equal(forecast.mean().to_numpy(), forecast.samples[0])
    npt.assert_array_equal(forecast.median().to_numpy(), forecast.samples[0])


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([0.5, 1.2], "found 1.2"),
        ([-0.1], "found -0.1"),
        ([float("nan")], "found nan"),
        ([], "At least one"),
        ([0.5, 0.5], "twice"),
    ],
)
def test_refuses_impossible_levels(make_forecast, levels: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_forecast().quantile(levels)


def test_to_frame_keeps_every_number_with_its_time_and_path(make_forecast) -> None:
    forecast = make_forecast(paths=3, horizon=4)
    frame = forecast.to_frame()
    assert list(frame.columns) == ["timestamp", "path", *FEATURES]
    row = frame[(frame["path"] == 2) & (frame["timestamp"] == forecast.timestamps[1])]
    npt.assert_array_equal(row[FEATURES].to_numpy()[0], forecast.samples[2, 1])


# -- chances and risk -------------------------------------------------------------------------------------


@pytest.fixture
def known() -> Forecast:
    """Four paths of two bars from a last close of 100; closes (90, 80), (100, 100), (110, 121), (120, 90)."""
    close = np.array([[90, 80], [100, 100], [110, 121], [120, 90]], dtype=np.float32)
    samples = np.repeat(close[..., None], 6, axis=-1)
    history = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=1), **dict.fromkeys(FEATURES, 100.0)})
    return Forecast(samples, pd.date_range("2024-01-02", periods=2), history=history)


def test_prob_up_counts_strict_rises(known: Forecast) -> None:
    assert known.prob_up().tolist() == [0.5, 0.25]
    assert known.prob_up(95).tolist() == [0.75, 0.5]
    assert known.prob_up().index.equals(known.timestamps)


def test_value_at_risk_is_a_loss_of_the_last_close(known: Forecast) -> None:
    # Losses at the end: 0.20, 0, -0.21, 0.10; at the first bar: 0.10, 0, -0.10, -0.20.
    assert known.value_at_risk(2 / 3) == pytest.approx(0.10)
    assert known.value_at_risk(2 / 3, step=1) == pytest.approx(0.0, abs=1e-12)
    assert known.expected_shortfall(0.5) == pytest.approx(0.15)
    assert known.expected_shortfall(0.99) == pytest.approx(0.20)


def test_expected_shortfall_is_never_below_value_at_risk(make_forecast) -> None:
    forecast = make_forecast(paths=200)
    for level in (0.5, 0.9, 0.95, 0.99):
        assert forecast.expected_shortfall(level) >= forecast.value_at_risk(level)


def test_realized_volatility_starts_at_the_last_close(known: Forecast) -> None:
    volatility = known.realized_volatility()
    first, second = np.log(1.1), np.log(1.1)
    npt.assert_allclose(volatility[2], [first, np.hypot(first, second)], rtol=1e-6)
    assert (volatility[1] == 0).all()
    assert volatility.shape == (2, 4)


def test_scaling_prices_changes_no_chance_and_no_risk(make_forecast) -> None:
    forecast = make_forecast()
    scaled = dataclasses.replace(
        forecast,
        samples=forecast.samples * 4,
        history=forecast.history.assign(close=forecast.history["close"] * 4),
    )
    npt.assert_array_equal(scaled.prob_up(), forecast.prob_up())
    assert scaled.value_at_risk(0.9) == pytest.approx(forecast.value_at_risk(0.9))


def test_without_history_the_reference_must_be_given(make_forecast) -> None:
    forecast = make_forecast(history=0)
    assert forecast.prob_up(100).between(0, 1).all()
    with pytest.raises(ConfigError, match="no history"):
        forecast.prob_up()
    with pytest.raises(ConfigError, match="no history"):
        forecast.value_at_risk()


@pytest.mark.parametrize(
    ("level", "step", "message"), [(1.0, None, "between 0 and 1"), (0.9, 0, "from 1 to 2"), (0.9, 3, "it is 3")]
)
def test_refuses_impossible_risk_questions(known: Forecast, level: float, step: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        known.value_at_risk(level, step)


# -- files ------------------------------------------------------------------------------------------------


def test_csv_holds_one_row_a_bar(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast()
    assert forecast.save(tmp_path / "out.csv", quantile_levels=[0.1, 0.5]) == tmp_path / "out.csv"
    table = pd.read_csv(tmp_path / "out.csv", parse_dates=["timestamp"])
    assert list(table.columns[:5]) == [
        "timestamp", "prob_up", "prob_up_error", "close_median_error", "open_mean"
    ]  # fmt: skip
    assert list(table["timestamp"]) == list(forecast.timestamps)
    npt.assert_allclose(table["close_q0.5"], forecast.median()["close"], rtol=1e-8)
    npt.assert_allclose(table["prob_up"], forecast.prob_up())


def test_paths_come_back_exactly_from_csv_and_parquet(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast(frequency="5min")
    for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)):
        forecast.save(tmp_path / name, paths=True)
        back = read(tmp_path / name)[FEATURES].to_numpy(dtype=np.float32).reshape(forecast.samples.shape)
        npt.assert_array_equal(back, forecast.samples)


def test_parquet_carries_the_metadata(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast()
    back = pd.read_parquet(forecast.save(tmp_path / "out.parquet"))
    assert back.attrs["metadata"]["model"] == "test"
    assert back.attrs["symbol"] == "ACME"


def test_json_is_one_strict_document(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast(paths=5, horizon=3)
    path = forecast.save(tmp_path / "out.json", quantile_levels=[0.25, 0.75], paths=True)
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["last_close"] == forecast.last_close
    assert content["timestamps"][0] == forecast.timestamps[0].isoformat()
    assert content["metadata"]["settings"] == {"top_p": 0.9}
    assert list(content["quantiles"]) == ["0.25", "0.75"]
    npt.assert_allclose(content["mean"]["close"], forecast.mean()["close"])
    npt.assert_array_equal(np.array(content["paths"], dtype=np.float32), forecast.samples)


@pytest.mark.parametrize("name", ["out.xlsx", "out", "missing/out.csv", "folder.csv"])
def test_refuses_before_writing(make_forecast, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"\.parquet|there is no folder|is a folder"):
        make_forecast().save(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(make_forecast, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("precious")

    class Unprintable:
        def __str__(self) -> str:
            raise KronosError("broken")

    forecast = dataclasses.replace(make_forecast(), metadata={"odd": Unprintable()})
    with pytest.raises(KronosError, match="broken"):
        forecast.save(target)

    def half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert target.read_text() == "precious"


def test_png_without_matplotlib_names_the_extra(make_forecast, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install 'matplotlib"):
        make_forecast().save(tmp_path / "out.png")


def test_to_json_knows_what_metadata_may_hold() -> None:
    value = {
        "time": pd.Timestamp("2024-01-02", tz="UTC"),
        "none": pd.NaT,
        "inf": np.float32("inf"),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "array": np.arange(2),
        "path": Path("a"),
        "nested": [{"x": (1, None)}],
        "frame": pd.DataFrame({"a": [1.5]}),
    }
    assert json.loads(json.dumps(to_json(value), allow_nan=False)) == {
        "time": "2024-01-02T00:00:00+00:00",
        "none": None,
        "inf": None,
        "count": 3,
        "flag": True,
        "array": [0, 1],
        "path": "a",
        "nested": [{"x": [1, None]}],
        "frame": [{"index": 0, "a": 1.5}],
    }
