"""Sampled calls of ``predict``: new paths at each call, from torch's global state, as published."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from kronos import published
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos, KronosTokenizer

BARS = pd.read_csv(tiny.REFERENCE / "bars.csv", parse_dates=["timestamps"])
COLUMNS = ["open", "high", "low", "close", "volume", "amount"]


def arguments(context: int = 60, horizon: int = 6) -> tuple[pd.DataFrame, pd.Series, pd.Series, int]:
    times = BARS["timestamps"]
    return BARS[COLUMNS][:context], times[:context], times[context : context + horizon], horizon


@pytest.fixture
def predictor() -> KronosPredictor:
    return tiny.predictor(tiny.published(), 128)


def by_the_loop(
    series: tuple[pd.DataFrame, pd.Series, pd.Series, int],
    copies: int,
    paths: int,
    max_context: int = 128,
    pair: tuple[Kronos, KronosTokenizer] | None = None,
    **limits: int,
) -> np.ndarray:
    """(B, H, 6) by the formulae: float32 moments of a column-major table, the loop, and back."""
    frame, past, future, horizon = series
    x = np.asfortranarray(frame.to_numpy(), dtype=np.float32)
    mean, scale = x.mean(axis=0), x.std(axis=0) + np.float32(1e-5)
    model, tokenizer = pair or tiny.published()
    place = model.head.proj_s1.weight.device
    z = torch.from_numpy(np.ascontiguousarray((x - mean) / scale)).to(place).expand(copies, -1, -1)
    times = [published.calc_time_stamps(series).to_numpy() for series in (past, future)]
    stamps = [torch.tensor(each, device=place).expand(copies, -1, -1) for each in times]
    sampling = {"T": 1.0, "top_k": 0, "top_p": 0.9, **limits}
    found = published.auto_regressive_inference(
        tokenizer, model, z, *stamps, max_context, horizon, 5, **sampling, sample_count=paths
    )
    return found[:, -horizon:] * scale + mean


@pytest.mark.parametrize(("context", "horizon", "copies", "paths"), [(60, 6, 1, 1), (60, 6, 3, 2), (125, 6, 2, 2)])
def test_sampled_numbers_are_the_loops(
    predictor: KronosPredictor, context: int, horizon: int, copies: int, paths: int
) -> None:
    frame, past, future, _ = arguments(context, horizon)
    torch.manual_seed(11)
    wanted = by_the_loop(arguments(context, horizon), copies, paths)
    state = torch.get_rng_state()
    torch.manual_seed(11)
    found = predictor.predict_batch(
        [frame] * copies, [past] * copies, [future] * copies, horizon, sample_count=paths, verbose=False
    )
    scale = np.abs(wanted).mean(axis=(0, 1))  # a volume may happen to be nearly nothing
    np.testing.assert_allclose(np.stack(found) / scale, wanted / scale, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)  # what is drawn next is what is drawn next there


AT_HAND = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
DEVICES = ["cpu"] + [
    pytest.param(name, marks=[pytest.mark.gpu, pytest.mark.skipif(not there(), reason=f"no {name}")])
    for name, there in AT_HAND.items()
]


@pytest.mark.parametrize("device", DEVICES)
def test_draws_are_the_loops_on_the_device(device: str) -> None:
    """Its own generator, in the published order; arithmetic rounds otherwise, so a token may stand on the edge."""
    state = {"cpu": torch.get_rng_state, "cuda": torch.cuda.get_rng_state, "mps": torch.mps.get_rng_state}[device]
    pair = tuple(copy.deepcopy(half).to(device) for half in tiny.published())
    frame, past, future, horizon = arguments()
    torch.manual_seed(11)
    wanted = by_the_loop(arguments(), 20, 1, pair=pair)  # type: ignore[arg-type]
    left = state()
    torch.manual_seed(11)
    predictor = KronosPredictor(*pair, device=device, max_context=128)
    found = predictor.predict_batch([frame] * 20, [past] * 20, [future] * 20, horizon, verbose=False)
    same = np.isclose(np.stack(found), wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).mean()).all(axis=(1, 2))
    assert same.mean() >= 0.8
    assert torch.equal(state(), left)


@pytest.mark.parametrize("limits", [{"top_k": 1}, {"top_k": 5}, {"top_p": 0}, {"top_k": 0, "top_p": 1.0, "T": 0.7}])
def test_limits_are_the_loops(predictor: KronosPredictor, limits: dict[str, float]) -> None:
    """A top_k switches top_p off, a top_p of 0 is greedy, and greedy calls draw too."""
    torch.manual_seed(2)
    wanted = by_the_loop(arguments(), 1, 2, **limits)[0]  # type: ignore[arg-type]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    found = predictor.predict(*arguments(), **limits, sample_count=2, verbose=False)  # type: ignore[arg-type]
    scale = np.abs(wanted).mean(axis=0)
    np.testing.assert_allclose(found / scale, wanted / scale, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_fit_into_memory_is_divided(predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, past, future, horizon = arguments()
    series = [frame] * 3, [past] * 3, [future] * 3
    whole = predictor.predict_batch(*series, horizon, top_k=1, sample_count=2, verbose=False)
    monkeypatch.setattr("kronos.inference.engine.DecodeEngine._memory", lambda self: 1)
    parts = predictor.predict_batch(*series, horizon, top_k=1, sample_count=2, verbose=False)
    for one, other in zip(whole, parts, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-3)  # a volume may happen to be nearly nothing


def test_series_of_unequal_length_draw_too(predictor: KronosPredictor) -> None:
    calls = [arguments(context) for context in (60, 40, 60)]
    frames, past, future, _ = (list(parts) for parts in zip(*calls, strict=True))
    found = predictor.predict_batch(frames, past, future, 6, verbose=False)
    assert [list(one.index) for one in found] == [list(times) for times in future]
    assert not found[0].equals(found[2])


def test_calls_draw_anew(predictor: KronosPredictor) -> None:
    torch.manual_seed(0)
    first, second = predictor.predict(*arguments()), predictor.predict(*arguments())
    assert not first.equals(second)
    torch.manual_seed(0)
    pd.testing.assert_frame_equal(predictor.predict(*arguments()), first)


def test_copies_in_a_batch_are_distinct(predictor: KronosPredictor) -> None:
    frame, past, future, horizon = arguments()
    found = predictor.predict_batch([frame] * 30, [past] * 30, [future] * 30, horizon)
    assert len({float(one["close"].iloc[-1]) for one in found}) > 20


def test_a_seed_still_decides_alone(predictor: KronosPredictor) -> None:
    state = torch.get_rng_state()
    first = predictor.predict(*arguments(), seed=3)
    torch.manual_seed(99)
    pd.testing.assert_frame_equal(predictor.predict(*arguments(), seed=3), first)
    torch.set_rng_state(state)


def test_forecast_leaves_torchs_state_alone(predictor: KronosPredictor) -> None:
    state = torch.get_rng_state()
    predictor.forecast(BARS.rename(columns={"timestamps": "timestamp"})[:60], 4, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_results_are_float32(predictor: KronosPredictor) -> None:
    assert {str(kind) for kind in predictor.predict(*arguments(), seed=0).dtypes} == {"float32"}


def test_verbose_shows_progress(predictor: KronosPredictor) -> None:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        predictor.predict(*arguments(), verbose=True)
    assert "6/6" in told.getvalue()


def test_no_limit(predictor: KronosPredictor) -> None:
    off = predictor.predict(*arguments(), top_p=1.0, seed=0)
    pd.testing.assert_frame_equal(predictor.predict(*arguments(), top_p=None, seed=0), off)  # type: ignore[arg-type]
    top = predictor.predict(*arguments(), top_k=None, top_p=None, seed=0)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(top, off)
    with pytest.raises(ValueError, match="top_p"):
        predictor.predict(*arguments(), top_p=1.5, seed=0)


# -- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bars", [512, 2048])
def test_quiet_series_have_the_moments_of_column_major_tables(bars: int) -> None:
    """numpy adds a column that lies in one piece pairwise, and one that is spread over rows one by one."""
    from kronos.bars.transform import get_transform

    steps = np.random.default_rng(4).normal(scale=1e-5, size=(bars, 6)).cumsum(axis=0)
    values = 1.1 + steps  # as of a currency, by the minute
    state = get_transform("zscore", 1.0).fit(values)
    x = np.asfortranarray(values, dtype=np.float32)
    np.testing.assert_array_equal(state.mean, x.mean(axis=0))
    np.testing.assert_array_equal(state.scale, x.std(axis=0) + np.float32(1e-5))


def quiet(bars: int, horizon: int) -> tuple[pd.DataFrame, pd.Series, pd.Series, int]:
    """A currency by the minute: one pip at a time around 1.1, traded volumes that are small counts."""
    draw = np.random.default_rng(bars)
    close = (1.1 + draw.normal(scale=5e-5, size=bars).cumsum()).round(5)
    open_ = np.concatenate(([1.1], close[:-1]))
    high, low = np.maximum(open_, close) + 2e-5, np.minimum(open_, close) - 3e-5
    volume = draw.integers(20, 90, bars).astype(float)
    frame = pd.DataFrame({"open": open_, "high": high.round(5), "low": low.round(5), "close": close, "volume": volume})
    frame["amount"] = frame["volume"] * frame["close"]
    times = pd.Series(pd.date_range("2024-03-04", periods=bars + horizon, freq="min"))
    return frame, times[:bars], times[bars:], horizon


@pytest.mark.parametrize("bars", [512, 2048])
def test_quiet_series_have_the_forecasts_of_the_loop(bars: int) -> None:
    series = quiet(bars, 4)
    wanted = by_the_loop(series, 1, 1, max_context=bars, top_k=1)[0]
    found = tiny.predictor(tiny.published(), bars).predict(*series, top_k=1, verbose=False)
    np.testing.assert_allclose(found / np.abs(wanted), np.sign(wanted), rtol=1e-5)


def test_an_absent_amount_is_made_in_the_tables_precision(predictor: KronosPredictor) -> None:
    frame, past, future, horizon = arguments()
    without = frame.drop(columns="amount").astype(np.float32)
    made = without.assign(amount=without["volume"] * without[["open", "high", "low", "close"]].mean(axis=1))
    found, wanted = (predictor.predict(one, past, future, horizon, top_k=1, verbose=False) for one in (without, made))
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
