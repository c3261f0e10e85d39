"""Shapes and bars that the tests of training share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.training.run import train

train_tokenizer, train_model = (partial(train, stage) for stage in ("tokenizer", "model"))

SHAPE = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 4, "s2_bits": 4}
STILL = dict.fromkeys(("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"), 0.0)
TOKENIZER = {
    **{"d_in": 6, "n_enc_layers": 2, "n_dec_layers": 2, "bar_transform": "returns", "group_size": 4},
    **{"beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05},
    **SHAPE,
    **STILL,
}
MODEL = {"n_layers": 1, "token_dropout_p": 0.0, "learn_te": True, "consistent": True, **SHAPE, **STILL}


def tiny_settings(out: Path, arrays: Path) -> dict[str, Any]:
    """A run of seconds, on one core, told to nobody."""
    return {
        "out": out,
        "data": {"arrays": arrays, "window": 40, "boundary": [8, 16], "hold_out": "dates"},
        "optim": {"steps": 6, "batch_size": 4, "lr": 3e-3},
        "tokenizer": TOKENIZER,
        "model": MODEL,
        **{"dtype": "float32", "device": "cpu", "validation_batches": 1, "tracking": []},
    }


def learnable(n: int = 900, seed: int = 0) -> pd.DataFrame:
    """Bars whose body alternates with the hour: a network that looks at one bar knows the next."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=n, freq="1h")
    body = np.where(np.arange(n) % 2 == 0, 0.01, -0.01) + rng.normal(0, 0.0005, n)
    close = 30 * np.exp(np.cumsum(body))
    opened = close * np.exp(-body)
    frame = pd.DataFrame({"timestamp": times, "open": opened})
    frame["high"], frame["low"], frame["close"] = np.maximum(opened, close), np.minimum(opened, close), close
    frame["volume"] = np.where(np.arange(n) % 2 == 0, 100.0, 900.0)
    return frame.assign(amount=frame["volume"] * close)
