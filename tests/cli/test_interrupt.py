"""Ctrl-C: the command answers within two seconds, and says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.bars.store import BarStore

PATIENCE = 2.0
QUICK = ["--set", "dtype=float32", "--device", "cpu", "--set", "tracking=[]", "--set", "stages.model.steps=2000"]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hourly bars of four symbols, as a file and as a store beside it."""
    folder, rng, frames = tmp_path_factory.mktemp("walk"), np.random.default_rng(0), []
    for symbol in "ABCD":
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
        frame = pd.DataFrame({"open": close, "high": close * 1.002, "low": close * 0.998, "close": close})
        frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=900, freq="1h"))
        frames.append(frame.assign(symbol=symbol, volume=1.0, amount=np.nan))
    table = pd.concat(frames, ignore_index=True)
    BarStore(folder / "store").write(table)
    table.to_parquet(folder / "walk_1h.parquet")
    return folder


def started(out: Path, words: list[str]) -> bool:
    """Whether a command is in the middle of its work."""
    if words[0] == "evaluate":
        return (out / ".parts").is_dir()
    return out.is_dir() if words[0] != "calibrate" else True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "walk_1h.parquet", "--windows", "60", "--workers", "2"], "the same command goes on from there"),
        (["calibrate", "walk_1h.parquet", "--windows", "4000"], "the same command starts anew"),
        (["finetune", "walk_1h.parquet", *QUICK], "go on with the same command and --resume"),
        (["forecast", "store", "--horizon", "400", "--samples", "500"], "the same command goes on from there"),
    ],
)
def test_the_answer_comes_within_two_seconds(walk: Path, tmp_path: Path, words: list[str], told: str) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kronos.cli", words[0], str(walk / words[1]), *words[2:], "--model", "kronos-nano"]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    run = subprocess.Popen([*command, "-o", str(out)], env=place, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not started(out, words) and run.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(8)  # models are loaded, and the work has begun
    run.send_signal(signal.SIGINT)
    began = time.monotonic()
    try:
        said = run.communicate(timeout=60)[1].decode()
    finally:
        run.kill()
    assert time.monotonic() - began < PATIENCE
    assert run.returncode == 130, said
    assert "Stopped." in said
    assert told in said
    assert "Traceback" not in said
