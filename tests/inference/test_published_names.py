"""The published names and what scripts do with them, apart from ``predict``: see ``test_published_predict``."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from kronos import published
from kronos.errors import ConfigError, DataError
from kronos.inference import published as published_calls
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos, KronosTokenizer

DIVISIBLE = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]])
BARS = pd.read_csv(tiny.REFERENCE / "bars.csv", parse_dates=["timestamps"])


def windows(context: int, horizon: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(2, context, 6, generator=torch.Generator().manual_seed(0))
    stamps = torch.tensor(published.calc_time_stamps(BARS["timestamps"][: context + horizon]).to_numpy())
    stamps = stamps.expand(2, -1, -1)
    return x, stamps[:, :context], stamps[:, context:]


def test_every_name_is_there() -> None:
    assert published.get_model_class("kronos") is published.Kronos is Kronos
    assert published.get_model_class("kronos_tokenizer") is published.KronosTokenizer is KronosTokenizer
    assert published.model_dict["kronos_predictor"] is published.KronosPredictor is KronosPredictor
    with pytest.raises(NotImplementedError, match="choose one of kronos_tokenizer"):
        published.get_model_class("gpt")


CALLS = {
    Kronos.forward: "s1_ids s2_ids stamp padding_mask use_teacher_forcing s1_targets",
    Kronos.decode_s1: "s1_ids s2_ids stamp padding_mask",
    Kronos.decode_s2: "context s1_ids padding_mask",
    KronosTokenizer.forward: "x",
    KronosTokenizer.encode: "x half",
    KronosTokenizer.decode: "x half",
    KronosTokenizer.indices_to_bits: "x half",
    KronosPredictor.__init__: "model tokenizer device max_context clip",
    KronosPredictor.predict: "df x_timestamp y_timestamp pred_len T top_k top_p sample_count verbose",
    KronosPredictor.predict_batch: (
        "df_list x_timestamp_list y_timestamp_list pred_len T top_k top_p sample_count verbose"
    ),
    published_calls.generate: "x x_stamp y_stamp pred_len T top_k top_p sample_count verbose",
    published.top_k_top_p_filtering: "logits top_k top_p filter_value min_tokens_to_keep",
    published.sample_from_logits: "logits temperature top_k top_p sample_logits",
    published.auto_regressive_inference: (
        "tokenizer model x x_stamp y_stamp max_context pred_len clip T top_k top_p sample_count verbose"
    ),
    published.calc_time_stamps: "x_timestamp",
    published.get_model_class: "model_name",
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_arguments_have_the_published_names_and_order(call: Callable[..., object]) -> None:
    names = [name for name in inspect.signature(call).parameters if name not in ("self", "predictor")]
    assert names[: len(CALLS[call].split())] == CALLS[call].split()


def test_time_stamps_keep_the_index() -> None:
    times = pd.Series(pd.to_datetime(["2024-03-04 09:35", "2024-12-29 00:00"]), index=[7, 8])
    found = published.calc_time_stamps(times)
    assert list(found.columns) == ["minute", "hour", "weekday", "day", "month"]
    assert found.loc[7].tolist() == [35, 9, 0, 4, 3]
    assert found.loc[8].tolist() == [0, 0, 6, 29, 12]
    assert published.calc_time_stamps(pd.DatetimeIndex(times)).to_numpy().tolist() == found.to_numpy().tolist()


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"top_k": 2}, 2),
        ({"top_k": 2, "top_p": 0.1}, 2),  # a top_k switches top_p off there
        ({"top_p": 0.6}, 1),  # the likeliest holds .636
        ({"top_p": 0.7}, 2),  # the token that crosses the limit is kept
        ({"top_p": 0.0}, 1),
        ({"top_p": 0.0, "min_tokens_to_keep": 3}, 4),  # as published: one more than it says
        ({"top_k": 1, "min_tokens_to_keep": 3}, 3),
        ({"top_k": 99}, 5),
        ({}, 5),
    ],
)
def test_filtering(limits: dict[str, float], kept: int) -> None:
    logits = DIVISIBLE.clone()
    found = published.top_k_top_p_filtering(logits, **limits)  # type: ignore[arg-type]
    assert found is logits
    assert int(torch.isfinite(found).sum()) == kept


def test_samples_follow_torch() -> None:
    logits = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(7)
    found = published.sample_from_logits(logits, temperature=0.5)
    torch.manual_seed(7)
    assert torch.equal(found, torch.multinomial((logits / 0.5).softmax(-1), 1))
    assert not torch.equal(found, published.sample_from_logits(logits, temperature=0.5))
    likeliest = published.sample_from_logits(logits, sample_logits=False)
    assert torch.equal(likeliest, logits.argmax(-1, keepdim=True))
    assert torch.equal(published.sample_from_logits(logits, 0), likeliest)
    assert torch.equal(published.sample_from_logits(logits, top_k=1), likeliest)


@pytest.mark.parametrize("max_context", [128, 44, 30])
def test_the_loop(max_context: int) -> None:
    """Each bar: a coarse token of the last state of the window, then a fine one; all rows drawn at once."""
    (model, tokenizer), (x, past, future) = tiny.published(), windows(40, 6)
    torch.manual_seed(3)
    found = published.auto_regressive_inference(
        tokenizer, model, 9 * x, past, future, max_context, 6, clip=5, T=0.8, top_k=0, top_p=1.0, sample_count=3
    )
    state = torch.get_rng_state()
    torch.manual_seed(3)
    rows = torch.arange(2).repeat_interleave(3)
    with torch.no_grad():
        s1, s2 = (ids[rows] for ids in tokenizer.encode((9 * x).clip(-5, 5), half=True))
        stamps = torch.cat((past, future), 1)[rows]
        for known in range(40, 46):
            seen = slice(max(0, known - max_context), known)
            logits, hidden = model.decode_s1(s1[:, seen], s2[:, seen], stamps[:, seen])
            coarse = torch.multinomial((logits[:, -1] / 0.8).softmax(-1), 1)
            fine = torch.multinomial((model.decode_s2(hidden, coarse)[:, -1] / 0.8).softmax(-1), 1)
            s1, s2 = torch.cat((s1, coarse), 1), torch.cat((s2, fine), 1)
        bars = tokenizer.decode((s1[:, -max_context:], s2[:, -max_context:]), half=True)
    assert found.shape == (2, min(46, max_context), 6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, bars.numpy().reshape(2, 3, -1, 6).mean(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loop_shows_progress() -> None:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        for verbose in (False, True):
            published.auto_regressive_inference(
                *reversed(tiny.published()), *windows(20, 2), 64, 2, top_p=1.0, verbose=verbose
            )
            assert ("2/2" in told.getvalue()) is verbose


# -- what classes are asked for by scripts ----------------------------------------------------------------------------


def test_generate_takes_arrays() -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    x, past, future = (part.numpy() for part in windows(40, 6))
    torch.manual_seed(1)
    found = predictor.generate(x, past, future, 6, 1.0, 0, 0.9, 2, False)  # type: ignore[arg-type, call-arg]
    torch.manual_seed(1)
    model, tokenizer = tiny.published()
    wanted = published.auto_regressive_inference(tokenizer, model, *windows(40, 6), 128, 6, 5, 1.0, 0, 0.9, 2)
    np.testing.assert_allclose(found, wanted[:, -6:], rtol=1e-5, atol=1e-6)


def test_column_names() -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    assert predictor.price_cols == ["open", "high", "low", "close"]
    assert (predictor.vol_col, predictor.amt_vol) == ("volume", "amount")
    assert predictor.time_cols == ["minute", "hour", "weekday", "day", "month"]


def test_settings_are_attributes() -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    assert (str(predictor.device), predictor.max_context, predictor.clip) == ("cpu", 128, 5)
    frame, times = BARS[["open", "high", "low", "close"]][:60], BARS["timestamps"]
    call = frame, times[:60], times[60:64], 4
    before = predictor.predict(*call, top_k=1)
    predictor.clip = 0.5
    clipped = predictor.predict(*call, top_k=1)
    assert not clipped.equals(before)
    predictor.clip, predictor.max_context = 5.0, 20
    with pytest.warns(UserWarning, match="the model reads 20"):
        assert not predictor.predict(*call, top_k=1).equals(before)


def test_a_table_kept_row_by_row_is_added_up_column_by_column() -> None:
    values = BARS[["open", "high", "low", "close", "volume", "amount"]][:60].to_numpy(np.float32)
    times = BARS["timestamps"]
    tables = [pd.DataFrame(order(values), columns=["open", "high", "low", "close", "volume", "amount"])
              for order in (np.ascontiguousarray, np.asfortranarray)]  # fmt: skip
    predictor = tiny.predictor(tiny.published(), 128)
    rows, columns = (predictor.predict(table, times[:60], times[60:64], 4, top_k=1) for table in tables)
    pd.testing.assert_frame_equal(rows, columns, check_exact=True)


def test_insides_are_not_offered() -> None:
    for name in ("BSQuantizer", "RMSNorm", "TransformerBlock", "TemporalEmbedding"):
        assert not hasattr(published, name)


@pytest.mark.parametrize("half", ["model", "tokenizer"])
def test_a_replaced_half_counts(half: str) -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    frame, times = BARS[["open", "high", "low", "close"]][:40], BARS["timestamps"]
    before = predictor.predict(frame, times[:40], times[40:46], 6, top_k=1)
    other = (Kronos if half == "model" else KronosTokenizer).from_pretrained(tiny.REFERENCE)
    with torch.no_grad():
        (other.head.proj_s1 if half == "model" else other.head).weight.mul_(-1)
    setattr(predictor, half, other)
    assert not predictor.predict(frame, times[:40], times[40:46], 6, top_k=1).equals(before)


def test_a_replaced_half_must_fit() -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    with pytest.raises(ConfigError, match="trained together"):
        predictor.tokenizer = tiny.odd_pair()[1]
    assert predictor.tokenizer is tiny.published()[1]
    predictor.model = Kronos.from_pretrained(tiny.REFERENCE)
    assert predictor.name == "custom"


@pytest.mark.parametrize("wrong", ["x", "x_stamp", "y_stamp"])
def test_arrays_that_do_not_fit_are_refused(wrong: str) -> None:
    predictor = tiny.predictor(tiny.published(), 128)
    given = dict(zip(("x", "x_stamp", "y_stamp"), windows(40, 6), strict=True))
    settings = {"pred_len": 6, "T": 1.0, "top_k": 1, "top_p": None, "sample_count": 1, "verbose": False}
    assert predictor.generate(**given, **settings).shape == (2, 6, 6)  # type: ignore[call-arg, arg-type, attr-defined]
    given[wrong] = given[wrong][:, 1:]
    with pytest.raises(DataError, match=r"generate takes x \(B, T, 6\)"):
        predictor.generate(**given, **settings)  # type: ignore[call-arg, arg-type]


def test_times_that_are_none_are_refused() -> None:
    x, past, future = windows(40, 6)
    with pytest.raises(DataError, match="a value is none"):
        tiny.predictor(tiny.published(), 128).generate(x, past, future + 60, 6, 1.0, 1, 0.9, 1, False)  # type: ignore[arg-type, call-arg]


def test_batches_are_lists() -> None:
    frame, times = BARS[["open", "high", "low", "close"]][:40], BARS["timestamps"]
    with pytest.raises(DataError, match="a map of tables; give a list"):
        tiny.predictor(tiny.published(), 128).predict_batch(map(id, [frame]), [times[:40]], [times[40:46]], 6)  # type: ignore[arg-type]


def test_apples_gpu_is_chosen_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from kronos.inference.pair import usable_device

    for cuda, mps, chosen in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda found=cuda: found)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda found=mps: found)
        assert usable_device(None) == torch.device(chosen)
