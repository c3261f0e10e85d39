"""The script for a GPU that is at hand for a few minutes, all of it at toy sizes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from benchmarks import gpu, gpu_training, results

from kronos.bars.arrays import BarArrays

ROOT = Path(__file__).parents[1]


def test_every_stage_leaves_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--state", str(tmp_path / "state")]
    output = tmp_path / "out"
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OUT": str(output)}, capture_output=True, text=True, check=False
    )
    summary = json.loads((output / "summary.json").read_text())
    assert {name: stage["state"] for name, stage in summary["stages"].items()} == dict.fromkeys(gpu.STAGES, "done"), (
        run.stdout + run.stderr + "".join(log.read_text() for log in output.glob("*.log"))
    )
    rows = json.loads((output / "decode.json").read_text())["rows"]
    assert all(row[way]["ms_a_forecast"] > 0 for row in rows for way in ("graphs", "plain", "oracle"))
    assert json.loads((output / "rates.json").read_text())["rates"][0]["bars_per_second"] > 0
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    gpu.main(["keep", "--output", str(output)])
    cpu = {"preset": "mini", "series": 1, "samples": 1, "oracle_seconds": 2.0, "engine_seconds": 0.1, "ratio": 20.0}
    results.keep("table", {"mini 1x1": cpu | {"clock": "cpu", "threads": 1}})
    told = "\n".join(results.forecast_rows())
    assert all(f"{rows[0][way]['ms_a_forecast']:,.3g} ms" in told for way in ("graphs", "oracle"))
    assert "GPU: " in told
    assert "not measured" not in told
    trained = output / "train" / "model"
    assert (trained / "state.safetensors").stat().st_size < 60e6
    # what came back is gone on from elsewhere, and has nothing left to do
    (tmp_path / "elsewhere").mkdir()
    (output / "train").rename(tmp_path / "elsewhere" / "resume")
    again = [*command[:-1], str(tmp_path / "elsewhere"), "--stages", "train", "--output", str(tmp_path / "again")]
    subprocess.run(again, cwd=ROOT, check=True, capture_output=True)
    records = json.loads((tmp_path / "again" / "train.json").read_text())["records"]
    first, *rest = records
    assert first["step"] == first["resumed_from"] > 0
    assert ["lr" in record for record in rest] == [False]  # its weights are validated anew, nothing else


def test_a_failing_stage_stops_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--stages", "rates", "tests", "--output", str(tmp_path)]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    stages = json.loads((tmp_path / "summary.json").read_text())["stages"]
    assert run.returncode == 1
    assert [stage["state"] for stage in stages.values()] == ["failed", "failed"]
    assert "no CUDA device" in (tmp_path / "rates.log").read_text()


def test_parts_of_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = pd.date_range("2024-01-01", periods=300, freq="h")
    close = pd.Series(range(300), dtype=float) % 7 + 100
    bars = pd.DataFrame({"timestamp": times, "open": close, "high": close + 1, "low": close - 1, "close": close})
    bars = bars.assign(volume=1.0, amount=close)
    (tmp_path / "data").mkdir()
    table = pd.concat([bars.assign(symbol=name) for name in "ABC"])
    table.to_parquet(tmp_path / "data" / "walks_1h.parquet")
    size = (tmp_path / "data" / "walks_1h.parquet").stat().st_size
    monkeypatch.setattr(gpu_training, "PART_BYTES", int(1.2 * size))
    parts = gpu_training.pack([tmp_path / "data"], tmp_path / "packed")
    assert len(parts) == 2
    gpu_training.load(parts, tmp_path / "state")
    arrays = BarArrays.open(gpu_training.arrays_of(tmp_path / "state"))
    assert [(segment.group, segment.symbol, len(segment)) for segment in arrays.segments] == [
        ("walks_1h", name, 300) for name in "ABC"
    ]
    written = (tmp_path / "state" / "arrays" / "index.json").stat().st_mtime_ns
    assert gpu_training.arrays_of(tmp_path / "state") == tmp_path / "state" / "arrays"
    assert (tmp_path / "state" / "arrays" / "index.json").stat().st_mtime_ns == written
