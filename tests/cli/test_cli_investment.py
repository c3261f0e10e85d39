"""The investment task traded by Qlib, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("kronos.backtesting")
pytest.importorskip("qlib")


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    """Ten symbols of daily bars."""
    rng, frames = np.random.default_rng(0), []
    for number in range(10):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, 240)))
        opening = np.concatenate([[50.0], close[:-1]])
        high, low = np.maximum(opening, close) * 1.01, np.minimum(opening, close) * 0.99
        frame = pd.DataFrame({"open": opening, "high": high, "low": low, "close": close, "volume": 1e6})
        frame.insert(0, "timestamp", pd.bdate_range("2022-01-03", periods=240))
        frames.append(frame.assign(symbol=f"N{number}"))
    path = tmp_path / "names_1d.parquet"
    pd.concat(frames, ignore_index=True).to_parquet(path)
    return path


@pytest.mark.slow
def test_portfolios_of_a_model_and_baselines(run, tiny: Path, daily: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("evaluate", daily, "--model", tiny, "--baselines", "drift,last-close", "--tasks", "investment")
    done = run(*words, "--windows", 16, "--samples", 10, "-o", tmp_path / "report", "--json")
    assert done.status == 0, done.stderr
    summary = json.loads(done.stdout)
    rows = summary["tasks"]["investment"]["names_1d"]
    assert set(rows) == {tiny.name, "drift", "rw-resampled"}
    for figures in rows.values():
        assert figures["sessions"] > 70
        assert 0 < figures["turnover"] < 1
        assert figures["excess"]["low"] < figures["excess"]["value"] < figures["excess"]["high"]
    assert {c["baseline"] for c in summary["comparisons"]} == {"drift", "rw-resampled"}
    assert "Investment" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
