"""``kronos finetune``: from one file to a pair that forecasts, a chart, and a verdict that can say no."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos.bars import sample_bars
from kronos.files import LEFTOVERS
from kronos.model.checkpoint import read_config
from kronos.workflows.verdict import in_words, ratio

QUICK = [
    *("--set", "stages.tokenizer.steps=3", "--set", "stages.model.steps=4", "--set", "validate_every=2"),
    *("--set", "validation_batches=1", "--set", "dtype=float32", "--set", "batch_size=4", "--device", "cpu"),
    *("--set", "threads=1", "--set", "tracking=[]", "--set", "forecasts={windows: 8, samples: 4}"),
]


@pytest.fixture(autouse=True)
def few_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kronos.workflows.verdict.WINDOWS", 8)
    monkeypatch.setattr("kronos.workflows.verdict.SAMPLES", 8)


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "spx.csv"
    sample_bars("sp500").tail(700).drop(columns="symbol").to_csv(path, index=False)
    return path


def test_from_one_file_to_a_verdict(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    result = run("finetune", csv, "--model", tiny, "--out", out, *QUICK)
    assert result.status == 0, result.stderr
    assert "etter than" in result.stdout
    assert "later than everything the run reads" in result.stderr
    report = json.loads((out / "finetune.json").read_text())
    assert report["verdict"]["crps_to_start"]["ratio"] > 0
    assert report["verdict"]["better"] is (report["verdict"]["crps_to_start"]["high"] < 1)
    assert set(report["stages"]) == {"tokenizer", "model"}
    page = (out / "losses.html").read_text()
    assert "Model (nats)" in page
    picture = (out / "losses.png").read_bytes()
    assert picture.startswith(b"\x89PNG")

    # nothing that was judged was read: the arrays end before the first judged bar
    from kronos.bars.arrays import BarArrays

    known = BarArrays.open(out / "arrays").times.max()
    assert np.datetime64(int(known), "s") < np.datetime64(report["verdict"]["first"])
    assert len(BarArrays.open(out / "arrays").times) == 595

    forecast = run("forecast", csv, "--model", out, "--horizon", 3, "--samples", 4)
    assert forecast.status == 0, forecast.stderr

    again = run("finetune", csv, "--model", tiny, "--out", out, *QUICK, "--resume")
    assert again.status == 1
    assert "finished run" in again.stderr


def test_the_weights_that_forecast_better_are_kept(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    """Whichever way it goes, the folder holds what the report says, by forecasts of the validation period."""
    from safetensors.torch import load_file

    before = load_file(tiny / "model" / "model.safetensors")
    kept = set()
    for rate in ("0.003", "0.3"):
        out = tmp_path / rate
        more = ["--skip-tokenizer", "--set", f"predictor_learning_rate={rate}", "--json"]
        result = run("finetune", csv, "--model", tiny, "--out", out, *QUICK, *more)
        assert result.status == 0, result.stderr
        chosen = json.loads(result.stdout)["chosen"]
        after = load_file(out / "model" / "model.safetensors")
        same = all((before[key] == after[key]).all() for key in before)
        assert same is (chosen["kept"] == "start") is (chosen["crps_to_start"]["high"] >= 1)
        kept.add(chosen["kept"])
        stated = read_config(out / "model" / "config.json").get("training_cutoff")
        first = np.datetime64(json.loads(result.stdout)["verdict"]["first"])
        assert stated is None if same else np.datetime64(stated["1d"]) < first
    assert kept == {"start", "fine-tuned"}


def test_a_run_that_was_stopped_goes_on(run, csv: Path, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    asked = ["finetune", csv, "--model", tiny, "--out", tmp_path / "o", *QUICK, "--json"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kronos.workflows.verdict.judge", stop)
        assert run(*asked).status == 130
    page = run("models", "info", tmp_path / "o").stdout
    assert "unfinished: no verdict was reached; go on with --resume" in page
    assert "No model card" not in page
    again = run(*asked)
    assert again.status == 1
    assert "--resume" in again.stderr
    resumed = run(*asked, "--resume")
    assert resumed.status == 0, resumed.stderr
    assert "model: goes on from step 4 of 4, the last that was saved" in resumed.stderr
    whole = run(*asked[:4], "--out", tmp_path / "whole", *QUICK, "--json")
    assert "unfinished" not in run("models", "info", tmp_path / "o").stdout
    ours, theirs = json.loads(resumed.stdout), json.loads(whole.stdout)
    assert ours["verdict"]["crps_to_start"] == theirs["verdict"]["crps_to_start"]
    assert ours["stages"] == theirs["stages"]


@pytest.mark.parametrize("skip", [[], ["--skip-tokenizer"]])
def test_a_run_that_was_stopped_while_it_put_the_start_back_goes_on(
    run, csv: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skip: list[str]
) -> None:
    """At any moment of it: the new weights are still there, and the verdict is that of a run that never stopped."""
    from safetensors.torch import load_file

    import kronos.training.finetune as module

    hurt = ["--set", "predictor_learning_rate=0.003", *skip, "--json"]
    whole = run("finetune", csv, "--model", tiny, "--out", tmp_path / "whole", *QUICK, *hurt)
    assert json.loads(whole.stdout)["chosen"]["kept"] == "start"
    asked = ["finetune", csv, "--model", tiny, "--out", tmp_path / "o", *QUICK, *hurt]
    copy, calls = module._copy, []

    def stop(source: Path, target: Path) -> None:
        if target.parent.name == "o" and source.parent == tiny:
            calls.append(target)
            if target.name == "model":  # the tokenizer is the start's again, the model is not
                raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy", stop)
        assert run(*asked).status == 130
    assert calls
    resumed = run(*asked, "--resume")
    assert resumed.status == 0, resumed.stderr
    for key in ("verdict", "chosen"):
        ours, theirs = (json.loads(done.stdout)[key] for done in (resumed, whole))
        assert ours["crps_to_start"] == theirs["crps_to_start"]
    for part in ("unproven/model", "unproven/tokenizer", "model", "tokenizer"):
        ours, theirs = (load_file(tmp_path / name / part / "model.safetensors") for name in ("o", "whole"))
        assert all((ours[key] == theirs[key]).all() for key in theirs), part
    assert not list((tmp_path / "o").rglob(LEFTOVERS))


def test_settings_of_both_stages_reach_both(tiny: Path, csv: Path, tmp_path: Path) -> None:
    from kronos.training.finetune import plan_finetune

    given = {"optim": {"steps": 7, "lr": 1e-3}, "stages": {"model": {"lr": 2e-3}}}
    config = plan_finetune([str(csv)], str(tiny), tmp_path / "o", given=given).config
    for stage, rate, clip in (("tokenizer", 1e-3, 2.0), ("model", 2e-3, 3.0)):
        optim = config.optim_of(stage)
        assert (optim.steps, optim.lr, optim.clip_norm) == (7, rate, clip)


def test_what_the_bars_of_a_published_start_may_have_been_is_not_forgotten(run, csv: Path, tmp_path: Path) -> None:
    """Its own dates are stated nowhere, and the marker of our training would hide that it is published."""
    from kronos.model.checkpoint import PUBLISHED_CUTOFF

    reference = Path(__file__).parents[1] / "data" / "reference_tiny"
    asked = ["finetune", csv, "--model", reference, "--skip-model", "--out", tmp_path / "o", *QUICK, "--json"]
    result = run(*asked)
    assert result.status == 0, result.stderr
    new = tmp_path / "o" if json.loads(result.stdout)["chosen"]["kept"] == "fine-tuned" else tmp_path / "o" / "unproven"
    stated = read_config(new / "model" / "config.json")["training_cutoff"]
    assert stated["start"] == PUBLISHED_CUTOFF
    assert set(stated) == {"1d", "start"}


def test_adapters_of_a_published_checkpoint_on_bars_with_defects(run, csv: Path, tmp_path: Path) -> None:
    """LoRA on the published layout: what is kept has its keys and config, what was not proven is set aside."""
    from safetensors.torch import load_file

    reference = Path(__file__).parents[1] / "data" / "reference_tiny"
    bars = pd.read_csv(csv)
    bars.loc[300, "high"] = bars.loc[300, "low"] - 1
    bars.to_csv(tmp_path / "bad.csv", index=False)
    asked = ["finetune", tmp_path / "bad.csv", "--model", reference, "--lora", 2, *QUICK]
    refused = run(*asked, "--out", tmp_path / "refused")
    assert refused.status == 1
    assert "high" in refused.stderr
    out = tmp_path / "o"
    result = run(*asked, "--freeze-tokenizer", "--out", out, "--on-defect", "drop")
    assert result.status == 0, result.stderr
    report = json.loads((out / "finetune.json").read_text())
    assert set(report["stages"]) == {"model"}
    new = out if report["chosen"]["kept"] == "fine-tuned" else out / "unproven"
    published = load_file(reference / "model" / "model.safetensors")
    assert {k: v.shape for k, v in load_file(new / "model" / "model.safetensors").items()} == {
        key: value.shape for key, value in published.items()
    }
    known = read_config(reference / "model" / "config.json")
    config = read_config(new / "model" / "config.json")
    assert {key: config[key] for key in known} == known
    assert set(config) - set(known) <= {"consistent", "training_cutoff"}
    card = run("models", "info", out, "--card").stdout
    for words in ("Fine-tuned from", "CRPS ratio", "LoRA of rank 2", "Known limits", "data hash"):
        assert words in card, words


@pytest.mark.parametrize(("skip", "kept"), [("--skip-tokenizer", "tokenizer"), ("--skip-model", "model")])
def test_a_stage_may_be_skipped(run, csv: Path, tiny: Path, tmp_path: Path, skip: str, kept: str) -> None:
    from safetensors.torch import load_file

    result = run("finetune", csv, "--model", tiny, "--out", tmp_path / "o", skip, *QUICK, "--json")
    assert result.status == 0, result.stderr
    assert kept not in json.loads(result.stdout)["stages"]
    before, after = (load_file(folder / kept / "model.safetensors") for folder in (tiny, tmp_path / "o"))
    assert all((before[key] == after[key]).all() for key in before)


def test_training_that_only_hurts_keeps_the_start_and_says_so(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    """At an absurd rate no validation beats the one before the first step: the same weights, so a ratio of one."""
    hurt = ["--set", "predictor_learning_rate=5.0", "--skip-tokenizer", "--set", "choose_by=loss"]
    plain = run("finetune", csv, "--model", tiny, "--out", tmp_path / "p", *QUICK, *hurt)
    assert f"is {tiny}, unchanged; go on with: kronos forecast BARS --model {tiny}" in plain.stdout
    for name, words in (
        ("p", "The weights are those of"),
        ("p/unproven", "The weights are new ones that were not shown"),
    ):
        told = " ".join(run("models", "info", tmp_path / name).stdout.split())
        assert f"verdict {words}" in told, told
    result = run("finetune", csv, "--model", tiny, "--out", tmp_path / "o", *QUICK, *hurt, "--json")
    assert result.status == 0, result.stderr
    verdict = json.loads(result.stdout)["verdict"]
    assert verdict["crps_to_start"]["ratio"] == 1.0
    assert verdict["better"] is False
    assert verdict["words"].startswith(("Not better", "Not shown"))


def test_many_symbols_and_unseen_ones(run, tiny: Path, tmp_path: Path) -> None:
    from kronos.training.data import held_apart

    base = sample_bars("sp500").tail(400).reset_index(drop=True)
    rng = np.random.default_rng(0)
    parts = []
    for name in ("AAPL", "MSFT", "QQQ", "SPY"):
        part = base.assign(symbol=name)
        part[["open", "high", "low", "close"]] *= rng.uniform(0.5, 2)
        parts.append(part)
    (tmp_path / "bars").mkdir()
    pd.concat(parts).to_parquet(tmp_path / "bars" / "long.parquet", index=False)
    asked = ["--model", tiny, "--out", tmp_path / "o", "--unseen-symbols", "--skip-tokenizer", *QUICK, "--json"]
    result = run("finetune", tmp_path / "bars", *asked)
    assert result.status == 0, result.stderr
    assert held_apart("AAPL")
    assert json.loads(result.stdout)["training_bars"] < 3 * 340


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--skip-tokenizer", "--skip-model"], "nothing to do"),
        (["--preset", "weekly"], "daily, intraday"),
        (["--set", "epochs=0"], "epochs is 0"),
        (["--set", "epochs=many"], "epochs is 'many'"),
        (["--set", "optim.lr=-1"], "optim.lr"),
        (["--set", "data.bars=x.csv"], "command line"),
        (["--set", "data.boundary=x"], "data.boundary"),
        (["--set", "data.judged_share=half"], "data.judged_share is 'half'; it must be a number"),
        (["--set", "data=3"], "data is 3; it must be a section of settings"),
        (["--set", "optim=7"], "optim is 7; it must be a section of settings"),
        (["--set", "out=elsewhere"], "--out"),
        (["--set", "tokenizer=kronos-nano"], "--model"),
        (["--set", "pretrained_predictor_path=kronos-nano"], "--model"),
        (["--unseen-symbols"], "1 of 1, so none is left to train on"),
        (["--set", "nonsense=1"], "nonsense"),
        (["--set", "model.max_steps=2"], "there is no setting model.max_steps in a fine-tuning run"),
        (["--set", "model.max_steps=2"], "stages.model.steps"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_cannot_be_done_is_told_at_once(run, csv: Path, tiny: Path, tmp_path: Path, options, words) -> None:
    result = run("finetune", csv, "--model", tiny, "--out", tmp_path / "o", *options)
    assert result.status == 1, result.stdout
    assert words in result.stderr
    errors = result.stderr[result.stderr.index("Error:") :]
    assert len(errors.splitlines()) <= 2
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "o" / "finetune.json").exists()


def published_file(folder: Path, tiny: Path, csv: Path, **choices: str) -> Path:
    """A file as ``finetune_csv`` reads it, with few bars."""
    pd.read_csv(csv).tail(160).to_csv(folder / "bars.csv", index=False)
    experiment = {"train_tokenizer": "true", "train_basemodel": "true", "skip_existing": "false", **choices}
    (folder / "theirs.yaml").write_text(
        f"data: {{data_path: {folder / 'bars.csv'}, lookback_window: 24, predict_window: 8, max_context: 64,\n"
        "  clip: 5.0, train_ratio: 0.8, val_ratio: 0.2, test_ratio: 0.0}\n"
        "training: {tokenizer_epochs: 1, basemodel_epochs: 1, batch_size: 32, log_interval: 1, num_workers: 0,\n"
        "  seed: 42, tokenizer_learning_rate: 0.0002, predictor_learning_rate: 0.000001, adam_beta1: 0.9,\n"
        "  adam_beta2: 0.95, adam_weight_decay: 0.1, accumulation_steps: 2}\n"
        f"model_paths: {{pretrained_tokenizer: {tiny / 'tokenizer'}, pretrained_predictor: {tiny / 'model'},\n"
        f"  exp_name: mine, base_path: {folder / 'tuned'}, base_save_path: '', finetuned_tokenizer: '',\n"
        "  tokenizer_save_name: tokenizer, basemodel_save_name: basemodel}\n"
        "experiment: {name: n, description: d, use_comet: false"
        + "".join(f", {name}: {value}" for name, value in experiment.items())
        + "}\ndevice: {use_cuda: false, device_id: 0}\n"
    )
    return folder / "theirs.yaml"


LIGHT = ["--set", "threads=1", "--set", "dtype=float32", "--set", "tracking=[]"]


def test_a_published_file_runs_to_its_end(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    """As ``finetune_csv`` reads it; nothing is kept to judge on, which the report says."""
    result = run("finetune", "--config", published_file(tmp_path, tiny, csv), *LIGHT)
    assert result.status == 0, result.stderr
    out = tmp_path / "tuned" / "mine"
    report = json.loads((out / "finetune.json").read_text())
    assert report["verdict"]["words"].startswith("Not judged")
    assert report["chosen"]["kept"] == "start"
    again = f"kronos forecast BARS --model {tiny / 'model'} --tokenizer {tiny / 'tokenizer'}"
    assert f"The pair in {out} is {tiny / 'model'}, unchanged; go on with: {again}" in result.stdout
    assert set(report["stages"]) == {"tokenizer", "model"}
    forecast = run("forecast", csv, "--model", out, "--horizon", 2, "--samples", 2)
    assert forecast.status == 0, forecast.stderr


def test_what_exists_is_skipped(run, csv: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped is gone on with, one that is over left as it is; without the setting both are refused."""
    file, out = published_file(tmp_path, tiny, csv), tmp_path / "tuned" / "mine"
    skipping = published_file(tmp_path, tiny, csv, skip_existing="true")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kronos.workflows.verdict.judge", stop)
        assert run("finetune", "--config", skipping, *LIGHT).status == 130
    trained = (out / "model" / "state.safetensors").stat().st_mtime_ns
    gone_on = run("finetune", "--config", skipping, *LIGHT, "--json")
    assert gone_on.status == 0, gone_on.stderr
    assert (out / "model" / "state.safetensors").stat().st_mtime_ns == trained
    over = run("finetune", "--config", skipping, *LIGHT, "--json")
    assert (over.status, over.stdout) == (0, gone_on.stdout)
    assert "finished run, which is left as it is" in over.stderr
    file = published_file(tmp_path, tiny, csv)
    assert run("finetune", "--config", file, *LIGHT, "--skip-existing").status == 0
    assert run("finetune", "--config", file, *LIGHT).status == 1


def test_what_the_published_trainer_wrote_is_not_trained_over(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned" / "mine"
    (out / "basemodel" / "best_model").mkdir(parents=True)
    result = run("finetune", "--config", published_file(tmp_path, tiny, csv, skip_existing="true"), *LIGHT)
    assert result.status == 1
    assert f"go on from it: --model {out}" in " ".join(result.stderr.split())


def test_a_model_that_is_not_pretrained_begins_at_random(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    """In the shape of the checkpoint that is named, trained on the tokenizer of this run, which may be pretrained."""
    from safetensors.torch import load_file

    file = published_file(tmp_path, tiny, csv, pre_trained="false", pre_trained_tokenizer="true")
    result = run("finetune", "--config", file, *LIGHT, "--json")
    assert result.status == 0, result.stderr
    assert "Random weights to begin with: model" in result.stderr
    start = tmp_path / "tuned" / "mine" / "start"
    assert json.loads(result.stdout)["start"] == str(start)
    theirs, ours = (load_file(folder / "model" / "model.safetensors") for folder in (tiny, start))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert not (ours["head.proj_s1.weight"] == theirs["head.proj_s1.weight"]).any()
    kept, same = (load_file(folder / "tokenizer" / "model.safetensors") for folder in (tiny, start))
    assert all((kept[name] == same[name]).all() for name in kept)
    refused = run("train", "model", "--config", file)
    assert refused.status == 1
    assert "pre_trained is false: name the shape of a new model" in refused.stderr


def test_periods_by_dates(run, csv: Path, tiny: Path, tmp_path: Path) -> None:
    """The ranges of ``finetune/config.py``: what is trained on, validated by and judged on lies in them."""
    times = pd.to_datetime(pd.read_csv(csv)["timestamp"])
    ends = [f"{times.iloc[place]:%Y-%m-%d}" for place in (50, 399, 400 - 24, 519, 520 - 24, 639)]
    ranges = zip(("train", "val", "test"), ends[::2], ends[1::2], strict=True)
    words = [word for name, *pair in ranges for word in ("--set", f"{name}_time_range=[{', '.join(pair)}]")]
    out = tmp_path / "o"
    windows = ["--set", "lookback_window=24", "--set", "predict_window=8", "--set", "data.embargo=0"]
    result = run("finetune", csv, "--model", tiny, "--out", out, *QUICK, *words, *windows, "--json")
    assert result.status == 0, result.stderr
    verdict = json.loads(result.stdout)["verdict"]
    assert ends[3] < verdict["first"][:10] <= verdict["last"][:10] <= ends[5]

    from kronos.bars.arrays import BarArrays

    arrays = BarArrays.open(out / "arrays")
    first, last = (str(np.datetime64(int(time), "s"))[:10] for time in (arrays.times[0], arrays.times[-1]))
    assert (first, last) == (ends[0], ends[3])
    assert f"{399 - 50 + 1:,} bars of 1 series to train on" in result.stderr
    early = "data.dates={training: [1803-01-01, 1803-06-30], validation: [1803-07-01, 1803-12-31]}"
    none = run("finetune", csv, "--model", tiny, "--out", tmp_path / "p", *QUICK, "--set", early)
    assert none.status == 1
    assert "no bar lies in the periods of data.dates, 1803-01-01 to 1803-12-31" in " ".join(none.stderr.split())


@pytest.mark.parametrize("rows", [30, 60, 120])
def test_too_few_bars(run, csv: Path, tiny: Path, tmp_path: Path, rows: int) -> None:
    pd.read_csv(csv).tail(rows).to_csv(tmp_path / "few.csv", index=False)
    result = run("finetune", tmp_path / "few.csv", "--model", tiny, "--out", tmp_path / "o", *QUICK)
    assert result.status == 1
    assert "more bars" in result.stderr


def scores(tuned: float, blocks: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    times = pd.date_range("2020-01-01", periods=blocks, freq="30D")
    rows = []
    for name, level in (("fine-tuned", tuned), ("start", 1.0)):
        noise = np.random.default_rng(1).normal(1, 0.2, blocks) * level + rng.normal(0, 0.01, blocks)
        columns = {"forecaster": name, "window_id": range(blocks), "cutoff": times, "group": "1d", "crps": noise}
        rows.append(pd.DataFrame({**columns, "span": pd.Timedelta("20D")}))
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("tuned", "blocks", "words"),
    [
        (0.9, 30, "Better than nano"),
        (1.0, 30, "Not better than nano, as far"),
        (1.1, 30, "Not better than nano, but worse"),
        (0.9, 3, "Not shown"),
    ],
)
def test_the_verdict_says_what_the_interval_says(tuned: float, blocks: int, words: str) -> None:
    found = ratio(scores(tuned, blocks), "start", seed=0)
    assert in_words(found, "nano", "x").startswith(words)
    assert found["ratio"] == pytest.approx(tuned, abs=0.02)
