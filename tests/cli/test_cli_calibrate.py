"""``kronos calibrate``: a copy of the checkpoint that uses what was fitted, judged on later windows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.evaluation.rolling import as_series
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import change_config
from kronos.workflows.calibrate import draw, read_temperatures
from kronos.workflows.forecasters import load_forecaster

SMALL = ("--context", 30, "--horizon", 6, "--windows", 60, "--samples", 20, "--temperatures", "0.7,1")


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Two symbols of hourly bars."""
    rng, frames = np.random.default_rng(0), []
    for symbol in ("A", "B"):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, 500)))
        frame = pd.DataFrame({"open": close, "high": close * 1.002, "low": close * 0.998, "close": close})
        frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=500, freq="1h"))
        frames.append(frame.assign(symbol=symbol, volume=1.0))
    path = tmp_path / "walk_1h.parquet"
    pd.concat(frames, ignore_index=True).to_parquet(path)
    return path


@pytest.fixture
def narrow(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint whose own calibration makes its paths five times too narrow.

    Networks of random weights mostly drift as well, and no width mends that: these, of the seed, hardly do.
    """
    for kind in (KronosTokenizer, Kronos):
        random = kind.init(kind.from_pretrained(tiny).config, seed=3)
        random.save_pretrained(tmp_path / "narrow" / kind.kind)
    (tmp_path / "narrow" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# narrow\n")
    width = {"horizon": [1], "factor": [0.2]}
    change_config(tmp_path / "narrow" / "model", calibration={"width": width}, judged={"context": 60, "horizon": 12})
    return tmp_path / "narrow"


def test_the_copy_uses_what_was_fitted(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "calibrated"
    done = run("calibrate", walk, "--model", narrow, "-o", out, *SMALL, "--json")
    assert done.status == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((out / "calibration.json").read_text())
    stored = Kronos.from_pretrained(out).config.calibration
    assert stored == document["calibration"]
    assert stored is not None
    assert stored["temperature"] in (0.7, 1.0)
    assert stored["top_p"] == 1.0
    assert stored["direction"] == document["direction"]["chosen"]
    assert document["direction"]["crps_ratio"].keys() >= {"value", "low", "high"}
    assert document["direction"]["words"] in (out / "README.md").read_text()
    assert document["fitted_on"]["last_cutoff"] < document["judged_on"]["first_cutoff"]
    assert set(document["coverage"]["after"]) == {"50%", "80%", "90%"}
    assert document["data"]["walk_1h"].startswith("sha256:")
    assert document["better"] is True
    assert document["coverage_gain"]["low"] > 0
    assert document["crps_ratio"]["value"] < 1
    assert Kronos.from_pretrained(out).config.judged == {"context": 30, "horizon": 6}
    page = run("models", "info", out).stdout
    assert "Better calibrated" in page
    assert re.search(r"licence +apache-2.0", page)
    assert "30 bars of context, 6 ahead" in page
    assert run("calibrate", walk, "--model", narrow, "-o", out, *SMALL).status == 1  # not written over


def test_a_second_calibration_does_not_stack_up(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for start, out in ((narrow, "first"), (tmp_path / "first", "second")):
        done = run("calibrate", walk, "--model", start, "-o", tmp_path / out, *SMALL, "--keep-rejected")
        assert done.status == 0, done.stderr
        assert "Coverage of" in done.stdout
        assert re.search(r"(No directions are given|directions are kept): CRPS", done.stdout)
    names = ("first", "second/unproven")
    first, second = (Kronos.from_pretrained(tmp_path / name).config.calibration for name in names)
    assert first == second
    assert "No gain shown on later windows" in run("models", "info", tmp_path / "second" / "unproven").stdout


def test_what_is_not_better_is_not_there_to_be_used(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("calibrate", walk, "--model", narrow, "-o", tmp_path / "first", *SMALL).status == 0
    done = run("calibrate", walk, "--model", tmp_path / "first", "-o", tmp_path / "second", *SMALL)
    assert done.status == 0, done.stderr
    assert "No checkpoint was written" in done.stderr
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["calibration.json"]
    assert json.loads((tmp_path / "second" / "calibration.json").read_text())["written"] is None


def test_a_wrong_width_is_mended(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = run("calibrate", walk, "--model", narrow, "-o", tmp_path / "out", *SMALL, "--json")
    coverage = json.loads(done.stdout)["coverage"]
    for level, nominal in (("50%", 0.5), ("80%", 0.8), ("90%", 0.9)):
        before, after = (coverage[side][level]["value"] for side in ("before", "after"))
        assert before < after
        assert abs(after - nominal) < abs(before - nominal)


def test_where_there_is_no_interval_it_is_said(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Minutes of one day are one cluster."""
    table = pd.read_parquet(walk)
    table["timestamp"] = pd.date_range("2024-01-01", periods=500, freq="1min").tolist() * 2
    table.to_parquet(tmp_path / "walk_1m.parquet")
    done = run("calibrate", tmp_path / "walk_1m.parquet", "--model", narrow, "-o", tmp_path / "out", *SMALL)
    assert done.status == 0, done.stderr
    assert "too few dates" in done.stdout
    assert "nan" not in done.stdout.replace(str(tmp_path), "")


def test_bars_of_the_training_are_warned_of(run, narrow: Path, walk: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    narrow.rename(tmp_path / "late")
    change_config(tmp_path / "late" / "model", training_cutoff="2024-06-30")
    done = run("calibrate", walk, "--model", tmp_path / "late", "-o", tmp_path / "out", *SMALL)
    assert "was trained on bars up to 2024-06-30" in done.stderr
    assert "come out too narrow" in done.stderr
    assert load_forecaster(str(tmp_path / "out")).training_cutoff == np.datetime64("2024-06-30")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperatures", "warm"), "0.9,1,1.1"),
        (("--context", 490), "too few"),
        (("--context", 4900), "too short"),
        (("--after", "2025-01-01"), "too few"),
    ],
)
def test_errors_leave_nothing_behind(  # type: ignore[no-untyped-def]
    run, tiny: Path, walk: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    done = run("calibrate", walk, "--model", tiny, "-o", tmp_path / "out", *SMALL, *words)
    assert done.status == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_judged_window_overlaps_a_fitted_truth(walk: Path) -> None:
    markets = {"walk_1h": as_series(pd.read_parquet(walk))}
    fitting, judging = draw(markets, 30, 6, 80, None, 0)
    assert len(fitting) >= 20
    assert len(judging) >= 20
    last_truth = max(w.context.future_timestamps[-1] for w in fitting)
    assert last_truth < min(w.context.future_timestamps[0] for w in judging)


def test_temperatures_are_read() -> None:
    assert read_temperatures("1.1,0.9, 1") == [0.9, 1.0, 1.1]
