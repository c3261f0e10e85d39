"""What the published examples do, from loading to the table that they draw, in our own words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from kronos.published import Kronos, KronosPredictor, KronosTokenizer, auto_regressive_inference, calc_time_stamps

LOOKBACK, AHEAD = 60, 12
PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def predictor() -> KronosPredictor:
    tokenizer = KronosTokenizer.from_pretrained(str(tiny.REFERENCE / "tokenizer"))
    model = Kronos.from_pretrained(str(tiny.REFERENCE / "model"))
    return KronosPredictor(model, tokenizer, device="cpu", max_context=512)


def bars() -> pd.DataFrame:
    df = pd.read_csv(tiny.REFERENCE / "bars.csv")
    df["timestamps"] = pd.to_datetime(df["timestamps"])
    return df


@pytest.mark.parametrize("columns", [[*PRICES, "volume", "amount"], PRICES], ids=["whole", "without volume"])
def test_one_series(predictor: KronosPredictor, columns: list[str]) -> None:
    df = bars()
    x_df = df.loc[: LOOKBACK - 1, columns]
    x_timestamp = df.loc[: LOOKBACK - 1, "timestamps"]
    y_timestamp = df.loc[LOOKBACK : LOOKBACK + AHEAD - 1, "timestamps"]
    pred_df = predictor.predict(
        df=x_df, x_timestamp=x_timestamp, y_timestamp=y_timestamp, pred_len=AHEAD, T=1.0, top_p=0.9, sample_count=1,
        verbose=True,
    )  # fmt: skip
    assert list(pred_df.columns) == [*PRICES, "volume", "amount"]
    assert list(pred_df.index) == list(y_timestamp)
    # as it is drawn: beside the bars that came
    kline_df = df.loc[: LOOKBACK + AHEAD - 1]
    pred_df.index = kline_df.index[-pred_df.shape[0] :]
    close = pd.concat([kline_df["close"].rename("Ground Truth"), pred_df["close"].rename("Prediction")], axis=1)
    assert close.shape == (LOOKBACK + AHEAD, 2)
    assert close["Prediction"].notna().sum() == AHEAD


def test_a_batch(predictor: KronosPredictor) -> None:
    df = bars()
    starts = [7 * number for number in range(5)]
    frames = [df.loc[start : start + LOOKBACK - 1, [*PRICES, "volume", "amount"]] for start in starts]
    past = [df.loc[start : start + LOOKBACK - 1, "timestamps"] for start in starts]
    future = [df.loc[start + LOOKBACK : start + LOOKBACK + AHEAD - 1, "timestamps"] for start in starts]
    found = predictor.predict_batch(
        df_list=frames, x_timestamp_list=past, y_timestamp_list=future, pred_len=AHEAD
    )  # fmt: skip
    assert [list(one.index) for one in found] == [list(times) for times in future]
    assert all(np.isfinite(one.to_numpy()).all() for one in found)


def test_signals_of_the_backtest() -> None:
    """Windows of many symbols in one call of the loop: what of a window's last close is to come, in its own units."""
    df = bars()
    tokenizer = KronosTokenizer.from_pretrained(str(tiny.REFERENCE / "tokenizer")).to("cpu").eval()
    model = Kronos.from_pretrained(str(tiny.REFERENCE / "model")).to("cpu").eval()
    values, stamps = df[[*PRICES, "volume", "amount"]].to_numpy(np.float32), calc_time_stamps(df["timestamps"])
    rows = [slice(start, start + LOOKBACK) for start in (0, 9, 18)]
    later = [slice(part.stop, part.stop + AHEAD) for part in rows]
    x = torch.stack([torch.from_numpy((w - w.mean(0)) / (w.std(0) + 1e-5)) for w in (values[part] for part in rows)])
    times = [torch.stack([torch.tensor(stamps[p].to_numpy(), dtype=torch.float32) for p in ps]) for ps in (rows, later)]
    with torch.no_grad():
        preds = auto_regressive_inference(
            tokenizer, model, x, *times, max_context=512, pred_len=AHEAD, clip=5.0, T=0.6, top_k=0, top_p=0.9,
            sample_count=5,
        )[:, -AHEAD:, :]  # fmt: skip
    close = x[:, -1, 3].numpy()
    signals = {"last": preds[:, -1, 3] - close, "mean": np.mean(preds[:, :, 3], axis=1) - close}
    assert {signal.shape for signal in signals.values()} == {(3,)}
    assert preds.dtype == np.float32
