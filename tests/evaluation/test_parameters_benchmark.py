"""The parameter study: what it scores, what it counts, and that an unfinished batch is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks import parameters as study
from tests.evaluation.forecasters import asking

from kronos.evaluation import metrics
from kronos.evaluation.baselines import RandomWalkResampled
from kronos.evaluation.windows import Window
from kronos.protocol import CLOSE


def test_a_shorter_context_is_the_end_of_the_longer_one(window: Window) -> None:
    short = study.shortened(window.context, 32)
    assert len(short.timestamps) == 32
    assert short.cutoff == window.context.cutoff
    assert np.array_equal(short.values, window.context.values[-32:])
    assert np.array_equal(short.future_timestamps, window.context.future_timestamps)


def test_scores_of_few_paths_as_they_are(window: Window) -> None:
    """Against the definition: mean |x - y| minus half the mean |x - x'| over all S² pairs."""
    (paths,) = RandomWalkResampled().sample_paths([window.context], asking(12, 7, 0))
    found = study.scores(window, paths)
    sigma, last = window.context.volatility(), window.context.last_close
    x = (np.log(paths[..., CLOSE] / last) / sigma).T
    y = np.log(window.truth[:, CLOSE] / last) / sigma
    pairs = np.abs(x[:, :, None] - x[:, None, :]).mean(axis=(1, 2)) / 2
    assert found["crps_as_is"] == pytest.approx((np.abs(x - y[:, None]).mean(axis=1) - pairs).mean(), abs=1e-9)
    assert found["crps"] == pytest.approx(metrics.crps(y, x).mean(), abs=1e-9)
    assert found["crps_as_is"] > found["crps"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two finished batches of ten windows and one that stopped: colder is worse by a tenth, covers less by .2."""
    rng, keys = np.random.default_rng(0), []
    for batch in range(3):
        windows = [f"crypto_1h/A@{batch}-{i}" if i < 6 else f"fx_4h/B@{batch}-{i}" for i in range(10)]
        keys += windows
        crps = rng.uniform(1, 2, 10)
        for place, setting in enumerate(study.SETTINGS):
            if batch == 2 and place == 3:
                break
            rows = pd.DataFrame({"window": windows, "what": setting.what, "value": setting.value})
            rows["group"] = rows["window"].str.split("/").str[0]
            rows["crps"] = rows["crps_as_is"] = crps * (1.1 if setting.what == "temperature" else 1.0)
            for level in ("50%", "80%", "90%"):
                rows[f"covered_{level}"] = float(level[:-1]) / 100 - (0.2 if setting.what == "temperature" else 0.0)
            if setting == study.REFERENCE:
                rows = pd.concat([rows, *(rows.assign(what="paths", value=float(n)) for n in study.PATHS)])
            rows.to_parquet(tmp_path / f"part-{batch:03d}-{place:02d}.parquet", index=False)
    (tmp_path / "study.json").write_text(json.dumps({"clusters": {key: key for key in keys}}))
    return tmp_path


def test_settings_are_compared_on_the_same_windows(folder: Path) -> None:
    found = study.table(folder).set_index(["what", "value", "size"])
    colder = found.loc[("temperature", 0.6, "all")]
    assert colder["windows"] == 20  # the third batch lacks settings
    assert colder["ratio"] == pytest.approx(1.1)
    assert colder["low"] == pytest.approx(1.1)
    assert colder["covered_90%"] == pytest.approx(0.7)
    assert found.loc[("temperature", 0.6, "4h"), "windows"] == 8
    assert found.loc[("paths", 30.0, "all"), "ratio"] == pytest.approx(1.0)
    text = study.markdown(study.table(folder))
    assert "| 0.6 | 1.100 [1.100, 1.100] | .300 / .600 / .700 | 1.100, .700 | 1.100, .700 |" in text
    assert "| **1** | 1 | .500 / .800 / .900 |" in text
    assert "20 windows (1h 12, 4h 8) in 20 clusters" in text


def test_an_empty_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the study first"):
        study.table(tmp_path)
