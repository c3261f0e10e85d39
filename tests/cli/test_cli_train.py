"""``kronos train``: run files and overrides; the training itself is tested in its room."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kronos.bars import sample_bars
from kronos.bars.arrays import write_arrays


@pytest.mark.parametrize("stage", ["tokenizer", "model"])
@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, [], "run.yaml"),
        ("[1, 2", [], "run.yaml"),
        ("- a list", [], "run.yaml"),
        ("seed: 1\nnonsense: 2\n", [], "nonsense"),
        ("seed: 1\n", ["--set", "seed"], "--set seed"),
    ],
)
def test_bad_run_files_are_refused(run, tmp_path: Path, monkeypatch, stage, content, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("run.yaml").write_text(content)
    result = run("train", stage, "--config", "run.yaml", *options)
    assert result.status == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_from_bars_to_a_forecast_by_the_command_line_alone(run, tmp_path: Path) -> None:
    """Tokenizer, model, resume, forecast: each stage finds what the one before it left."""
    write_arrays([("sample", name, sample_bars(name).tail(600)) for name in ("sp500", "nasdaq")], tmp_path / "arrays")
    shape = {"d_model": 16, "n_heads": 2, "ff_dim": 32, "s1_bits": 4, "s2_bits": 4}
    still = dict.fromkeys(("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"), 0.0)
    settings = {
        "out": str(tmp_path / "run"),
        "data": {"arrays": str(tmp_path / "arrays"), "window": 40, "boundary": [8, 16]},
        "optim": {"steps": 3, "batch_size": 4},
        "tokenizer": {
            **{"d_in": 6, "n_enc_layers": 2, "n_dec_layers": 2, "bar_transform": "returns", "group_size": 4},
            **{"beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05},
            **shape,
            **still,
        },
        "model": {"n_layers": 1, "token_dropout_p": 0.0, "learn_te": True, "consistent": True, **shape, **still},
        "dtype": "float32",
        "device": "cpu",
        "validation_batches": 1,
        "tracking": [],
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    use = f"tokenizer={tmp_path / 'run' / 'tokenizer'}"

    first = run("train", "tokenizer", "--config", config)
    assert first.status == 0, first.stderr
    assert "Trained 3 steps" in first.stdout
    assert "step 3: validation loss" in first.stderr
    assert run("train", "model", "--config", config, "--set", use).status == 0
    more = run("train", "model", "--config", config, "--set", use, "--set", "optim.steps=5", "--resume")
    assert "Trained 5 steps" in more.stdout, more.stderr

    result = run("forecast", "sample:nasdaq", "--model", tmp_path / "run", "--horizon", 3, "--samples", 4)
    assert result.status == 0, result.stderr
    assert "NASDAQ · next 3 bars" in result.stdout


def test_from_files_of_bars(run, tmp_path: Path, tiny: Path, bars_csv: Path) -> None:
    """No arrays beforehand: the run builds its own."""
    settings = {
        "out": str(tmp_path / "run"),
        "data": {"bars": [str(bars_csv), "sample:nasdaq"], "window": 40, "boundary": [8, 16], "hold_out": "dates"},
        "optim": {"steps": 2},
        "stages": {"tokenizer": {"steps": 1}},
        **{"tokenizer": str(tiny), "model": str(tiny), "device": "cpu", "validation_batches": 1, "threads": 1},
        "tracking": [],
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    result = run("train", "tokenizer", "--config", config, "--set", "batch_size=2")
    assert result.status == 0, result.stderr
    assert "Trained 1 step;" in result.stdout
    assert (tmp_path / "run" / "arrays" / "index.json").is_file()


def test_validation_by_forecasts_of_later_bars(run, tmp_path: Path, tiny: Path) -> None:
    """Asked for in the run file: every validation of the model makes forecasts behind the cutoff, and may choose."""
    from kronos.bars.arrays import BarArrays
    from kronos.training.config import RunConfig
    from kronos.training.data import cutoffs
    from kronos.training.log import read_log
    from kronos.workflows.verdict import validation_windows

    settings = {
        "out": str(tmp_path / "run"),
        "data": {"bars": ["sample:sp500", "sample:eurusd"], "window": 60, "boundary": [8, 24], "hold_out": "dates"},
        "optim": {"steps": 2, "batch_size": 2},
        "forecasts": {"windows": 10, "horizon": 5, "samples": 20},
        "choose_by": "crps",
        **{"tokenizer": str(tiny), "model": str(tiny), "device": "cpu", "validation_batches": 1, "threads": 1},
        **{"tracking": [], "validate_every": 1, "dtype": "float32"},
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    result = run("train", "model", "--config", config)
    assert result.status == 0, result.stderr
    assert "best validation CRPS" in result.stdout
    assert "of a random walk's" in result.stderr
    found = [record for record in read_log(tmp_path / "run" / "model") if "val_crps" in record]
    assert [record["step"] for record in found] == [1, 2]
    assert all(record["val_crps"] > 0 and 0 <= record["val_coverage_90"] <= 1 for record in found)
    windows = validation_windows(RunConfig.from_dict(settings))
    cut = cutoffs(BarArrays.open(tmp_path / "run" / "arrays"))
    assert {window.group for window in windows} == {"1d", "1h"}
    assert all(w.context.future_timestamps[0].astype("datetime64[s]").astype(int) > cut[w.group] for w in windows)
