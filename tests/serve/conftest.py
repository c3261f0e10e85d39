"""One server for the tests that do not mind each other, with a tiny model of random weights beside the packaged one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kronos.bars import sample_bars

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("psutil")

from serving import Live


def save_tiny(folder: Path) -> None:
    """A pair of random weights: real code, little work."""
    from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig

    small: dict[str, Any] = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 4, "s2_bits": 4}
    still: dict[str, Any] = dict.fromkeys(("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"), 0.0)
    weights: dict[str, Any] = {"beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4}
    tokenizer = TokenizerConfig(
        d_in=6, n_enc_layers=2, n_dec_layers=2, bar_transform="returns", **small, **still, **weights
    )
    model = KronosConfig(
        n_layers=1, token_dropout_p=0.0, learn_te=True, consistent=True, max_context=64, **small, **still
    )
    KronosTokenizer.init(tokenizer).save_pretrained(folder / "tokenizer")
    Kronos.init(model).save_pretrained(folder / "model")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's folder."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def new_data(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Callable[[], Path]:
    """Makes data folders that hold the tiny model."""

    def make() -> Path:
        import shutil

        data = tmp_path_factory.mktemp("server") / "data"
        shutil.copytree(tiny, data / "models" / "tiny")
        return data

    return make


@pytest.fixture(scope="session")
def live(new_data: Callable[[], Path]) -> Iterator[Live]:
    """A server, ready, with some bars in its folder."""
    data = new_data()
    bars = data / "bars"
    bars.mkdir()
    table = sample_bars("sp500").tail(300).drop(columns="symbol")
    table.to_csv(bars / "plain.csv", index=False)
    both = pd.concat([table.assign(symbol="AAA"), table.assign(symbol="BBB", close=table["close"])])
    both.to_parquet(bars / "two.parquet", index=False)
    server = Live(data)
    try:
        yield server.ready()
    finally:
        server.stop()


@pytest.fixture
def own_server(new_data: Callable[[], Path]) -> Iterator[Callable[..., Live]]:
    """Starts servers of this test alone."""
    started: list[Live] = []

    def start(*words: str, data: Path | None = None) -> Live:
        started.append(Live(data or new_data(), *words))
        return started[-1].ready()

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)  # nobody needs what it may still compute
