"""A tiny random checkpoint, a small file of real bars, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from kronos.bars import sample_bars
from kronos.cli import main


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``kronos`` with these words; wide enough that no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Result:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pair ``tokenizer/`` and ``model/``: real code, random weights."""
    from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig

    small = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 4, "s2_bits": 4}
    still = dict.fromkeys(("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"), 0.0)
    weights = {"beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4}
    tokenizer = TokenizerConfig(
        d_in=6, n_enc_layers=2, n_dec_layers=2, bar_transform="returns", **small, **still, **weights
    )
    model = KronosConfig(
        n_layers=1, token_dropout_p=0.0, learn_te=True, consistent=True, max_context=64, **small, **still
    )
    folder = tmp_path_factory.mktemp("tiny")
    KronosTokenizer.init(tokenizer).save_pretrained(folder / "tokenizer")
    Kronos.init(model).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    """The last 80 daily bars of the packaged S&P 500 sample."""
    return sample_bars("sp500").tail(80).reset_index(drop=True).drop(columns="symbol")


@pytest.fixture
def bars_csv(bars: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "bars.csv"
    bars.to_csv(path, index=False)
    return path
