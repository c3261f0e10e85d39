"""``predict`` and ``predict_batch``: the published call and its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import tiny

from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError, DataError
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos, KronosTokenizer

MAX_CONTEXT = 128
VARIANTS = {"full": [], "no_volume": ["volume", "amount"], "no_amount": ["amount"]}

BARS = pd.read_csv(tiny.REFERENCE / "bars.csv", parse_dates=["timestamps"])
EXPECTED = pd.read_csv(tiny.REFERENCE / "greedy_forecasts.csv")
CASES = sorted(EXPECTED.groupby(["variant", "context", "horizon"]).groups)


def arguments(context: int, horizon: int, variant: str = "full") -> tuple[pd.DataFrame, pd.Series, pd.Series, int]:
    frame = BARS.iloc[:context][list(FEATURES)].drop(columns=VARIANTS[variant])
    times = BARS["timestamps"]
    return frame, times[:context], times[context : context + horizon], horizon


@pytest.fixture
def predictor() -> KronosPredictor:
    return tiny.predictor(tiny.published(), MAX_CONTEXT)


def greedy(predictor: KronosPredictor, *args: object) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the context of 200 exceeds the window
        return predictor.predict(*args, T=1.0, top_k=1, top_p=1.0)  # type: ignore[arg-type]


def test_every_case_of_the_reference_is_here() -> None:
    assert len(CASES) == 3 * 3 * 2


@pytest.mark.parametrize(("variant", "context", "horizon"), CASES)
def test_greedy_forecasts_equal_the_published_ones(
    predictor: KronosPredictor, variant: str, context: int, horizon: int
) -> None:
    rows = EXPECTED.query("variant == @variant and context == @context and horizon == @horizon")
    found = greedy(predictor, *arguments(context, horizon, variant))
    assert list(found.columns) == list(FEATURES)
    assert np.array_equal(found.index, pd.DatetimeIndex(rows["timestamps"]))
    scale = rows[list(FEATURES)].abs().mean().clip(lower=1e-9).to_numpy()
    np.testing.assert_allclose(found / scale, rows[list(FEATURES)] / scale, rtol=1e-5, atol=1e-5)


def test_train_flags_change_nothing_and_stay(predictor: KronosPredictor) -> None:
    quiet = predictor.predict(*arguments(64, 8), sample_count=3, seed=0)
    model = Kronos.from_pretrained(tiny.REFERENCE).train()
    tokenizer = KronosTokenizer.from_pretrained(tiny.REFERENCE).train()
    trained = tiny.predictor((model, tokenizer), MAX_CONTEXT)
    pd.testing.assert_frame_equal(trained.predict(*arguments(64, 8), sample_count=3, seed=0), quiet)
    assert model.training
    assert model.transformer[0].training
    assert tokenizer.training


def test_a_batch_equals_one_at_a_time(predictor: KronosPredictor) -> None:
    calls = [arguments(context, 8) for context in (64, 120, 30, 64)]
    calls[3] = (calls[3][0] * 2, *calls[3][1:])
    frames, x, y, _ = (list(parts) for parts in zip(*calls, strict=True))
    together = predictor.predict_batch(frames, x, y, 8, sample_count=4, seed=3)
    for call, found in zip(calls, together, strict=True):
        alone = predictor.predict(*call, sample_count=4, seed=3)
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-3)


def test_the_seed_decides(predictor: KronosPredictor) -> None:
    first = predictor.predict(*arguments(64, 8), seed=1)
    pd.testing.assert_frame_equal(predictor.predict(*arguments(64, 8), seed=1), first)
    assert not predictor.predict(*arguments(64, 8), seed=2).equals(first)


def test_times_may_be_an_index(predictor: KronosPredictor) -> None:
    frame, x, y, horizon = arguments(64, 8)
    found = predictor.predict(frame, pd.DatetimeIndex(x), pd.DatetimeIndex(y), horizon, seed=0)
    pd.testing.assert_frame_equal(found, predictor.predict(frame, x, y, horizon, seed=0), check_names=False)


def test_a_long_context_sets_the_scale_with_a_warning(predictor: KronosPredictor) -> None:
    with pytest.warns(UserWarning, match="200 bars, the model reads 128"):
        predictor.predict(*arguments(200, 8))


def test_our_checkpoints_cut_first() -> None:
    ours = tiny.predictor(tiny.consistent(), 64)
    frame, x, y, horizon = arguments(200, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = ours.predict(frame, x, y, horizon, seed=0)
    short = ours.predict(frame[-65:], x[-65:], y, horizon, seed=0)
    np.testing.assert_allclose(long, short, rtol=1e-6)


Edit = Callable[[pd.DataFrame], object]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.drop(columns=["high"]), "lacks high"),
        (lambda f: f.assign(close=f["close"].mask(f.index == 7)), r"'close' holds nan at position 7 \(1 such"),
        (lambda f: f.assign(open=f["open"].mask(f.index == 3, np.inf)), "'open' holds inf at position 3"),
        (lambda f: f.assign(low="cheap"), "'low' holds 'cheap' at position 0"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f["close"], "Series is one column"),
        (lambda f: [1, 2, 3], "cannot be read as bars"),
        (lambda f: f.iloc[:-1], "64 entries for 63 bars"),
    ],
)
def test_bad_tables(predictor: KronosPredictor, edit: Edit, message: str) -> None:
    frame, x, y, horizon = arguments(64, 8)
    with pytest.raises(DataError, match=message):
        predictor.predict(edit(frame), x, y, horizon)


def test_bad_times(predictor: KronosPredictor) -> None:
    frame, x, y, horizon = arguments(64, 8)
    with pytest.raises(DataError, match="7 entries for pred_len 8"):
        predictor.predict(frame, x, y[:7], horizon)
    with pytest.raises(DataError, match="x_timestamp has no timestamp at position 5"):
        predictor.predict(frame, x.mask(x.index == 5), y, horizon)
    with pytest.raises(DataError, match="no timestamp: "):
        predictor.predict(frame, x, ["soon"] * 8, horizon)


def test_bad_settings(predictor: KronosPredictor) -> None:
    for pred_len in (0, -1, 10**6, 2.5, True):
        with pytest.raises(ConfigError, match="pred_len"):
            predictor.predict(*arguments(64, 8)[:3], pred_len)  # type: ignore[arg-type]
    for name, value in {"T": -1, "top_p": -0.1, "top_k": -2, "sample_count": 0, "seed": -1}.items():
        with pytest.raises(ConfigError):
            predictor.predict(*arguments(64, 8), **{name: value})  # type: ignore[arg-type]


def test_prices_that_have_no_logarithm() -> None:
    ours = tiny.predictor(tiny.consistent(), 64)
    frame, x, y, horizon = arguments(60, 8)
    with pytest.raises(DataError, match=r"'low' holds 0 at position 4; this model needs prices above zero"):
        ours.predict(frame.assign(low=frame["low"].mask(frame.index == 4, 0)), x, y, horizon)
    with pytest.raises(DataError, match="no negative values"):
        ours.predict(frame.assign(volume=-1), x, y, horizon)
    with pytest.raises(DataError, match="at least 2"):
        ours.predict(frame[:1], x[:1], y, horizon)


def test_batches_name_the_series(predictor: KronosPredictor) -> None:
    frame, x, y, horizon = arguments(64, 8)
    with pytest.raises(DataError, match="series 1: column 'open'"):
        predictor.predict_batch([frame, frame * np.nan], [x, x], [y, y], horizon)
    with pytest.raises(DataError, match="2 tables, 1 x_timestamp"):
        predictor.predict_batch([frame, frame], [x], [y, y], horizon)
