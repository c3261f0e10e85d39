"""The benchmark's own parts: random walks that are random walks, and a command that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kronos.evaluation import metrics
from kronos.evaluation.statistics import slope
from kronos.protocol import CLOSE

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def test_random_walks_are_valid_bars_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.quality_data import random_walks

    walks = random_walks(2000, 64, 8, seed=1)
    bars = np.stack([np.concatenate([w.context.values, w.truth]) for w in walks])
    assert metrics.invalid_bars(bars).sum() == 0
    moves = np.diff(np.log(bars[..., CLOSE]), axis=1)
    scaled = moves / moves.std(axis=1, keepdims=True)
    assert abs((scaled[:, 1:] * scaled[:, :-1]).mean()) < 4 / np.sqrt(scaled[:, 1:].size)
    assert (scaled**4).mean() > 4.0  # heavier tails than the normal's 3
    past = np.log(bars[:, 63, CLOSE] / bars[:, 55, CLOSE])
    ahead = np.log(bars[:, -1, CLOSE] / bars[:, 63, CLOSE])
    assert abs(slope(past / past.std(), ahead / ahead.std())) < 4 / np.sqrt(2000)


def test_shares_are_equal_as_far_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.quality_data import equal_shares

    assert equal_shares({"a": 100, "b": 4, "c": 0, "d": 100}, 64) == {"c": 0, "b": 4, "a": 30, "d": 30}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_command_prints_one_json_document(tmp_path: Path) -> None:
    """On a folder with one small file, so that it stays quick."""
    (tmp_path / "fx_4h.parquet").symlink_to(DATA / "fx_4h.parquet")
    command = [sys.executable, "-m", "benchmarks.quality", "--model", "none", "--data", str(tmp_path), "--json"]
    command += ["--windows", "20", "--walks", "20", "--samples", "30", "--baselines", "ewma,last-close"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    document = json.loads(done.stdout)
    assert document["windows"] == 20
    assert document["forecasters"]["rw-resampled"]["crps_ratio"]["value"] == 1.0
    assert document["forecasters"]["ewma"]["invalid_bars"] == 0.0
    assert "NaN" not in json.dumps(document["forecasters"]["ewma"]["coverage_90"]["value"])
    assert "Warning" not in done.stderr


def test_the_packaged_samples_are_judged_where_there_are_no_files(tmp_path: Path) -> None:
    """Their groups have no bar size in the name."""
    command = [
        "-m",
        "benchmarks.quality",
        "--model",
        "none",
        "--baselines",
        "har",
        "--windows",
        "9",
        "--walks",
        "3",
        "--samples",
        "20",
        "--json",
        "--data",
    ]
    found = subprocess.run(
        [sys.executable, *command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)["forecasters"]["har"]["by_file"]
    assert {row["market"] for row in rows} == {"sp500", "nasdaq", "eurusd"}
