"""``forecast`` and its kin: what they promise, whatever the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny

from kronos.bars import sample_bars
from kronos.bars.schema import FEATURES
from kronos.errors import CalendarError, Cancelled, CapacityError, CheckpointError, ConfigError, DataError
from kronos.inference import engine as engines
from kronos.inference.assemble import entries_of, past_bars, repair_bars, widen
from kronos.inference.forecast import Forecast
from kronos.inference.pair import bars_read
from kronos.inference.predictor import KronosPredictor
from kronos.model import MODEL_PRESETS, Kronos, KronosConfig
from kronos.model.checkpoint import family_member
from kronos.model.config import check_width

PRICES = list(FEATURES[:4])


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return sample_bars("sp500").iloc[-90:].reset_index(drop=True)


@pytest.fixture(scope="module")
def ours() -> KronosPredictor:
    return tiny.predictor(tiny.consistent())


@pytest.fixture(scope="module")
def published() -> KronosPredictor:
    return tiny.predictor(tiny.published())


@pytest.fixture(params=["ours", "published"])
def predictor(request: pytest.FixtureRequest) -> KronosPredictor:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def assert_valid(samples: np.ndarray) -> None:
    opened, high, low, close, volume, amount = np.moveaxis(samples, -1, 0)
    assert np.isfinite(samples).all()
    assert (low > 0).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert (volume >= 0).all()
    assert (amount >= 0).all()


def test_a_forecast_is_whole(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    forecast = predictor.forecast(bars, horizon=7, num_samples=5, seed=3, calendar="XNYS")
    assert isinstance(forecast, Forecast)
    assert forecast.samples.shape == (5, 7, 6)
    assert forecast.samples.dtype == np.float32
    assert_valid(forecast.samples)
    last = bars["timestamp"].iloc[-1]
    assert forecast.timestamps[0] > last
    assert forecast.last_close == bars["close"].iloc[-1]
    about = forecast.metadata
    assert about["seed"] == 3
    assert about["cutoff"] == last.isoformat()
    assert about["calendar"] == "XNYS"
    assert about["settings"]["num_samples"] == 5
    assert about["context_length"] == 64  # as it is asked for; the first one's move needs one bar more
    assert about["estimated_timestamps"] == 0
    assert ("repaired_bars" in about) == (not predictor.transform.takes_moves)


def test_the_same_paths_everywhere(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    alone = predictor.forecast(bars, 6, 4, seed=5)
    more = predictor.forecast(bars, 9, 7, seed=5)
    np.testing.assert_allclose(more.samples[:4, :6], alone.samples, rtol=2e-5)
    others = {"SHORT": bars.iloc[-20:], "THIS": bars, "OTHER": sample_bars("eurusd").iloc[-70:]}
    many = dict(predictor.forecast_many(others, 6, 4, seed=5))
    assert list(many) == list(others)
    np.testing.assert_allclose(many["THIS"].samples, alone.samples, rtol=2e-5)
    assert many["SHORT"].symbol == "SHORT"
    short = predictor.forecast(bars.iloc[-20:], 6, 4, seed=5)
    np.testing.assert_allclose(many["SHORT"].samples, short.samples, rtol=2e-5)
    assert not np.allclose(predictor.forecast(bars, 6, 4, seed=6).samples, alone.samples)


def test_forecast_and_predict_sample_alike(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    forecast = ours.forecast(bars, 6, 4, temperature=0.9, top_p=0.8, seed=2, window_stride=1)
    frame = ours.predict(bars, bars["timestamp"], forecast.timestamps, 6, T=0.9, top_p=0.8, sample_count=4, seed=2)
    np.testing.assert_allclose(forecast.samples.mean(0), frame, rtol=2e-5)


def test_a_long_table_and_its_order(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    parts = [bars.assign(symbol=name).iloc[-length:] for name, length in (("ZZ", 40), ("AA", 64), ("MM", 25))]
    found = list(ours.forecast_many(pd.concat(parts), 3, 2))
    assert [name for name, _ in found] == ["ZZ", "AA", "MM"]
    assert [len(f.history) for _, f in found] == [40, 64, 25]


@pytest.mark.parametrize("scale", [1e-6, 0.37, 1e5])
def test_scaling_scales(ours: KronosPredictor, bars: pd.DataFrame, scale: float) -> None:
    scaled = bars.copy()
    scaled[list(FEATURES)] *= scale
    first, second = ours.forecast(bars, 8, 6).samples, ours.forecast(scaled, 8, 6).samples
    np.testing.assert_allclose(second, first * np.float32(scale), rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 30, 150])
def test_every_bar_is_valid_at_any_horizon(predictor: KronosPredictor, bars: pd.DataFrame, horizon: int) -> None:
    forecast = predictor.forecast(bars, horizon, 3, temperature=2.0, top_p=1.0)
    assert forecast.samples.shape == (3, horizon, 6)
    assert_valid(forecast.samples)


def test_only_the_context_counts(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    changed = bars.copy()
    changed.loc[:10, PRICES] *= 3
    first = ours.forecast(bars, 4, 3, context_length=40)
    np.testing.assert_array_equal(first.samples, ours.forecast(changed, 4, 3, context_length=40).samples)
    assert len(first.history) == 41


def test_greedy_paths_are_one(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    samples = ours.forecast(bars, 5, 4, temperature=0).samples
    np.testing.assert_allclose(samples[1:], np.broadcast_to(samples[:1], (3, 5, 6)), rtol=1e-6)


def test_the_future_may_be_given(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    start = bars["timestamp"].iloc[-1]
    times = pd.date_range(start, periods=5, freq="7D")[1:]
    forecast = ours.forecast(bars, 4, 2, future=times)
    assert list(forecast.timestamps) == list(times)
    assert forecast.metadata["calendar"] == "given"
    for wrong, message in (
        (times[:3], "3 timestamps for a horizon of 4"),
        (times[::-1], "must increase"),
        (times - pd.Timedelta("30D"), "start after the last bar"),
        (times.tz_localize("UTC"), "time zone"),
        (["a"] * 4, "no timestamp"),
    ):
        with pytest.raises(DataError, match=message):
            ours.forecast(bars, 4, 2, future=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 1_000_000}, "from 1 to 100,000"),
        ({"horizon": 2.5}, "horizon"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": -3}, "num_samples"),
        ({"temperature": -0.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"context_length": 65}, "context_length is 65; it must be a whole number from 2 to 64"),
        ({"context_length": 1}, "context_length"),
        ({"window_stride": 64}, "window_stride"),
    ],
)
def test_settings_out_of_range(
    ours: KronosPredictor, bars: pd.DataFrame, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ours.forecast(bars, **options)
    with pytest.raises(ConfigError, match=message):
        ours.forecast_many({"A": bars}, **options)  # at the call, not at the first result


def test_bars_that_cannot_be_used(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="has 1 bar; this model needs at least"):
        predictor.forecast(bars.iloc[:1])
    with pytest.raises(DataError, match="a price is missing"):
        predictor.forecast(bars.assign(close=bars["close"].mask(bars.index == 9)))
    with pytest.raises(DataError):
        predictor.forecast(bars.iloc[:0])
    two = pd.concat([bars.assign(symbol="A"), bars.assign(symbol="B")])
    with pytest.raises(DataError, match="2 symbols"):
        predictor.forecast(two)
    with pytest.raises(DataError, match="a symbol in a column or in its index"):
        predictor.forecast_many(bars.drop(columns="symbol"))
    with pytest.raises(DataError, match="empty"):
        predictor.forecast_many({})
    with pytest.raises(DataError, match="series 'B'"):
        list(predictor.forecast_many({"A": bars, "B": bars.iloc[:1]}, 2, 2))
    with pytest.raises(CalendarError):
        predictor.forecast(bars, calendar="XMOON")
    with pytest.raises(CalendarError, match="series 'A'"):
        list(predictor.forecast_many({"A": bars}, 2, 2, calendar="XMOON"))


def test_progress_and_cancel(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    heard: list[tuple[int, int]] = []
    ours.forecast(bars, 5, 2, progress=lambda done, total: heard.append((done, total)))
    assert len(heard) == 6  # every bar, and the decoding of all
    assert sorted(heard) == heard
    assert heard[-1] == (10, 10)
    assert heard[-2] < (10, 10)
    heard.clear()
    list(ours.forecast_many({"A": bars, "B": bars}, 5, 2, progress=lambda done, total: heard.append((done, total))))
    assert heard[-1] == (20, 20)
    with pytest.raises(Cancelled):
        ours.forecast(bars, 5, 2, cancel=lambda: True)


def calibrated(**calibration: Any) -> KronosPredictor:
    model, tokenizer = tiny.consistent()
    other = Kronos(dataclasses.replace(model.config, calibration=calibration)).eval()
    other.load_state_dict(model.state_dict())
    return tiny.predictor((other, tokenizer))


def test_settings_come_from_the_checkpoint(
    ours: KronosPredictor, published: KronosPredictor, bars: pd.DataFrame
) -> None:
    def settings(predictor: KronosPredictor, **options: Any) -> dict[str, Any]:
        return dict(predictor.forecast(bars, 1, 1, **options).metadata["settings"])

    fitted = calibrated(temperature=0.7, top_k=9)
    assert settings(fitted) | {"temperature": 0.7, "top_k": 9, "top_p": 1.0} == settings(fitted)
    assert settings(fitted, temperature=1.5)["temperature"] == 1.5
    assert settings(ours)["top_p"] == 1.0
    assert settings(published)["top_p"] == 0.9


def test_the_calibrated_width(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    wide = calibrated(width={"horizon": [1, 4], "factor": [1.5, 2.0]})
    plain, widened = ours.forecast(bars, 8, 5), wide.forecast(bars, 8, 5)
    assert_valid(widened.samples)
    moves = [np.log(f.samples[..., :4].astype(np.float64) / f.last_close) for f in (plain, widened)]
    for bar, factor in ((0, 1.5), (1, 1.75), (3, 2.0), (7, 2.0)):
        np.testing.assert_allclose(moves[1][:, bar], factor * moves[0][:, bar], atol=2e-6)
    np.testing.assert_array_equal(plain.samples[..., 4:], widened.samples[..., 4:])
    raw = [p.predict(bars, bars["timestamp"], plain.timestamps, 8, seed=0) for p in (ours, wide)]
    pd.testing.assert_frame_equal(*raw)


@pytest.mark.parametrize(
    "width",
    [{}, {"horizon": [1], "factor": [1, 2]}, {"horizon": [2, 1], "factor": [1, 1]}, {"horizon": [1], "factor": [0]}],
)
def test_a_width_that_makes_no_sense(width: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="width"):
        check_width(width)


def test_widening_by_one_changes_nothing() -> None:
    bars = np.exp(np.random.default_rng(0).normal(size=(3, 4, 6)))
    np.testing.assert_allclose(widen(bars, 1.7, np.ones(4)), bars, rtol=1e-12)


def test_repair_changes_only_what_is_wrong() -> None:
    valid = np.array([[[10, 12, 9, 11, 5, 50], [11, 11, 11, 11, 0, 0]]], dtype=float)
    same, count = repair_bars(valid, 10.0)
    np.testing.assert_array_equal(same, valid)
    assert count == 0
    wrong = np.array([[[10, 9, 11, 12, -5, 50], [-1, 3, 2, 2.5, 1, -1]]], dtype=float)
    mended, count = repair_bars(wrong, 10.0)
    np.testing.assert_array_equal(mended, [[[10, 12, 9, 12, 0, 50], [0.01, 3, 0.01, 2.5, 1, 0]]])
    assert count == 2
    again, count = repair_bars(mended, 10.0)
    np.testing.assert_array_equal(again, mended)
    assert count == 0
    assert wrong[0, 0, 4] == -5  # the caller's array is left alone


def test_generate(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    market = ours.generate(None, length=100, num_paths=2, seed=1)
    assert market.samples.shape == (2, 100, 6)
    assert_valid(market.samples)
    own = ours.generate(bars, 10, 3, 1)
    np.testing.assert_allclose(own.samples, ours.forecast(bars, 10, 3, seed=1).samples)


def test_embed(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    states = predictor.embed(bars)
    assert states.shape == (64, predictor.model.config.d_model)
    assert np.isnan(states[:31]).all()
    assert np.isfinite(states[31:]).all()
    predictor.model.train()
    np.testing.assert_array_equal(predictor.embed(bars), states)
    assert predictor.model.training
    predictor.model.eval()


def test_embed_looks_back_only(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    states = predictor.embed(bars)
    changed = bars.copy()
    changed.loc[70:, PRICES] *= 1.5
    changed.loc[70:, "volume"] *= 7
    other, kept = predictor.embed(changed), 70 - (90 - 64)
    np.testing.assert_allclose(other[:kept], states[:kept], rtol=1e-4, atol=1e-5)
    assert not np.allclose(other[kept:], states[kept:])
    assert np.isfinite(predictor.embed(bars, context_length=64)[:, 0]).sum() == 1
    assert np.isfinite(predictor.embed(bars.head(3))[-1]).all()
    with pytest.raises(ConfigError, match="context_length"):
        predictor.embed(bars, context_length=65)


def still(bars: pd.DataFrame, drift: float, reach: float) -> pd.DataFrame:
    """Closes that grow by ``drift`` a bar, within bars that reach ``reach`` to both sides."""
    close = 50 * np.exp(drift * np.arange(len(bars)))
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * (1 + reach), np.minimum(opened, close) * (1 - reach)
    return bars.assign(open=opened, high=high, low=low, close=close)


@pytest.mark.parametrize(("drift", "reach"), [(0.0, 0.0), (0.0, 0.01), (0.001, 0.0), (0.001, 0.01)])
def test_closes_that_stand_are_warned_of(ours: KronosPredictor, bars: pd.DataFrame, drift: float, reach: float) -> None:
    notes = ours.forecast(still(bars, drift, reach), 3, 100, calendar="XNYS").metadata["warnings"]
    assert "far too certain" in notes[-1]
    assert all("no distribution" in note for note in notes[:-1])  # the paths may be the same but for rounding


def test_closes_that_barely_vary_in_wide_bars_are_warned_of(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    table = still(bars, 0.001, 0.01)
    table["close"] *= 1 + 0.0003 * (-1.0) ** np.arange(len(table))
    assert "far too certain" in ours.forecast(table, 3, 100, calendar="XNYS").metadata["warnings"][0]
    assert ours.forecast(bars, 3, 100, calendar="XNYS").metadata["warnings"] == []


def test_score_looks_back_only(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    nats = predictor.score(bars)
    assert nats.shape == (90,)
    assert np.isnan(nats[:32]).all()
    assert (nats[32:] > 0).all()
    changed = bars.copy()
    changed.loc[70:, PRICES] *= 1.5
    other = predictor.score(changed)
    np.testing.assert_allclose(other[:70], nats[:70], rtol=1e-5)
    assert not np.allclose(other[70:], nats[70:])
    assert np.isnan(predictor.score(bars, context_length=10)).sum() == 10
    with pytest.raises(ConfigError, match="context_length"):
        predictor.score(bars, context_length=64)


def test_loading(bars: pd.DataFrame, tmp_path: Any) -> None:
    loaded = KronosPredictor.from_pretrained(tiny.REFERENCE, device="cpu")
    assert loaded.name == "reference_tiny"
    assert loaded.max_context == 512
    assert loaded.forecast(bars, 2, 2).metadata["model"] == "reference_tiny"
    model, tokenizer = tiny.consistent()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    own = KronosPredictor.from_pretrained(tmp_path, device="cpu")
    assert own.max_context == 64
    assert own.tokenizer.config.bar_transform == "returns"
    with pytest.raises(CheckpointError, match="unknown model"):
        KronosPredictor.from_pretrained("gigantic")


@pytest.mark.parametrize(("size", "length"), [("mini", 2048), ("small", 512), ("base", 512)])
def test_a_copy_in_a_folder_reads_as_many_bars_as_the_hubs(size: str, length: int) -> None:
    stored = {k: v for k, v in MODEL_PRESETS[size].to_dict().items() if k != "max_context"}  # as published
    config = KronosConfig.from_dict(stored)
    assert bars_read(config, None) == bars_read(config, family_member(size)) == length
    assert bars_read(dataclasses.replace(config, max_context=300), None) == 300
    assert bars_read(dataclasses.replace(config, consistent=True), None) == 512
    assert bars_read(dataclasses.replace(config, n_layers=5), None) == 512


def test_pairs_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"6\+6 bits, the tokenizer writes 4\+6"):
        KronosPredictor(tiny.published()[0], tiny.odd_pair()[1])
    with pytest.raises(ConfigError, match="cannot be used here"):
        KronosPredictor(*tiny.published(), device="cuda:99")
    with pytest.raises(ConfigError, match="max_context"):
        KronosPredictor(*tiny.published(), device="cpu", max_context=1)
    with pytest.raises(ConfigError, match="clip"):
        KronosPredictor(*tiny.published(), device="cpu", clip=0)


def test_each_of_many_may_be_given_its_future(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    tables = {"A": bars.tail(40), "B": bars.head(50)}
    future = {name: pd.date_range("2030-01-01", periods=3, freq=f"{n + 1}D") for n, name in enumerate(tables)}
    for name, found in ours.forecast_many(tables, 3, 4, future=future):
        alone = ours.forecast(tables[name], 3, 4, future=future[name])
        assert list(found.timestamps) == list(future[name])
        assert np.allclose(found.samples, alone.samples, rtol=1e-4)
    with pytest.raises(DataError, match="no timestamps for series 'B'"):
        ours.forecast_many(tables, 3, 4, future={"A": future["A"]})
    with pytest.raises(DataError, match="'C', which is none"):
        ours.forecast_many(tables, 3, 4, future=future | {"C": future["A"]})
    with pytest.raises(DataError, match="mapping"):
        ours.forecast_many(tables, 3, 4, future=future["A"])


def test_many_series_need_bounded_memory(
    ours: KronosPredictor, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = dict.fromkeys("ABCDE", bars)
    monkeypatch.setattr(engines, "_memory_limit", lambda: 4 * 2 * engines.outcome_bytes(1000, 3000))
    assert engines.series_at_once(1000, 3000) == 2
    assert engines.series_at_once(1000, 30_000) == 1
    assert engines.series_at_once(1, 1) == 512
    monkeypatch.setattr(engines, "_memory_limit", lambda: 0)
    with pytest.raises(CapacityError, match="series 'A': a forecast of 2 paths"):
        next(ours.forecast_many(tables, 2, 2))


def test_many_series_come_one_part_after_the_other(
    ours: KronosPredictor, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(engines, "_MOST_SERIES", 2)
    found = ours.forecast_many(dict.fromkeys("ABC", bars), 3, 2, progress=lambda done, total: heard.append(done))
    next(found)
    assert heard[-1] == 12  # of 18: the third series waits
    assert [name for name, _ in found] == ["B", "C"]
    assert heard[-1] == 18


def test_a_longer_horizon_keeps_the_earlier_bars(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    short, long = (ours.forecast(bars, horizon, 3, calendar="XNYS").samples for horizon in (6, 12))
    np.testing.assert_allclose(long[:, :6], short, rtol=1e-4)


def test_many_symbols_however_a_table_names_them(bars: pd.DataFrame) -> None:
    """A column of another name, and an index of symbol and time: as ``read_bars`` takes them."""
    two = pd.concat([bars.assign(symbol="A"), bars.head(50).assign(symbol="B")], ignore_index=True)
    two.attrs = {}
    indexed = two.set_index(["symbol", "timestamp"])
    unnamed = indexed.rename_axis([None, None])
    for table in (two, two.rename(columns={"symbol": "Ticker"}), indexed, unnamed, indexed.swaplevel()):
        entries = entries_of(table, None)
        assert [name for name, _, _ in entries] == ["A", "B"]
        assert [len(past_bars(rows, 2, None, name).bars) for name, rows, _ in entries] == [90, 50]


# -- breaks in the context --------------------------------------------------------------------------------------------


def split_bars(bars: pd.DataFrame, ratio: float = 4.0, row: int = 60) -> pd.DataFrame:
    broken = bars.copy()
    broken.loc[: row - 1, PRICES] *= ratio
    broken.loc[: row - 1, "volume"] /= ratio
    return broken


def test_a_break_in_the_context_is_told_and_mended_on_request(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    whole, day = predictor.forecast(bars, 5, 24), f"{bars['timestamp'][60]:%Y-%m-%d}"
    broken = split_bars(bars)
    asis = predictor.forecast(broken, 5, 24)
    assert asis.metadata["warnings"][0].startswith(f"the price breaks on {day}")
    assert "4 for 1" in asis.metadata["warnings"][0]
    assert not np.allclose(asis.samples, whole.samples)
    for adjust in ("splits", f"{day}=4"):
        mended = predictor.forecast(broken, 5, 24, adjust=adjust)
        np.testing.assert_allclose(mended.samples, whole.samples, rtol=1e-4)
        assert mended.metadata["warnings"][0].startswith(f"prices before {day} divided by 4, as asked")
        assert mended.last_close == asis.last_close
    cut = predictor.forecast(broken, 5, 24, adjust="cut")
    np.testing.assert_allclose(cut.samples, predictor.forecast(bars[60:], 5, 24).samples, rtol=1e-4)
    assert not any("break" in note for note in whole.metadata["warnings"])


def test_a_break_before_the_context_is_none(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    broken = split_bars(bars, row=10)
    assert not any("break" in note for note in ours.forecast(broken, 5, 24).metadata["warnings"])
    np.testing.assert_array_equal(ours.forecast(broken, 5, 24).samples, ours.forecast(bars, 5, 24).samples)


def test_too_few_bars_behind_the_break(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"2 bars lie behind the last break.*at least 3.*adjust='cut'"):
        ours.forecast(split_bars(bars, row=88), 5, 24, adjust="cut")


def test_breaks_of_many_series(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    series = {"CALM": bars, "SPLIT": split_bars(bars)}
    found = dict(ours.forecast_many(series, 5, 24, adjust="splits"))
    np.testing.assert_allclose(found["SPLIT"].samples, found["CALM"].samples, rtol=1e-4)
    with pytest.raises(ConfigError, match="A factor belongs to one series"):
        ours.forecast_many(series, 5, 24, adjust="2018-12-14=4")


def test_a_context_of_filler_warns(ours: KronosPredictor, bars: pd.DataFrame) -> None:
    filled = bars.copy()
    filled.loc[50:70, PRICES] = filled["close"][49]
    filled.loc[50:70, ["volume", "amount"]] = 0.0
    [note] = [note for note in ours.forecast(filled, 5, 24).metadata["warnings"] if "filler" in note]
    assert note.startswith("32% of the context repeats the close before")
