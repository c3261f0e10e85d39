"""Published fine-tuning configs: a name means what it means there, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kronos.errors import ConfigError
from kronos.training.config import RunConfig
from kronos.training.published import SAID, SAME, fresh_stages, notes, skipped_stages, skips_existing, translate

#: Every setting of ``finetune/config.py``.
NAMES = (
    "qlib_data_path", "instrument", "dataset_begin_time", "dataset_end_time", "lookback_window", "predict_window",
    "max_context", "feature_list", "time_feature_list", "train_time_range", "val_time_range", "test_time_range",
    "backtest_time_range", "dataset_path", "clip", "epochs", "log_interval", "batch_size", "n_train_iter",
    "n_val_iter", "tokenizer_learning_rate", "predictor_learning_rate", "accumulation_steps", "adam_beta1",
    "adam_beta2", "adam_weight_decay", "seed", "use_comet", "comet_config", "comet_tag", "comet_name", "save_path",
    "tokenizer_save_folder_name", "predictor_save_folder_name", "backtest_save_folder_name", "backtest_result_path",
    "pretrained_tokenizer_path", "pretrained_predictor_path", "finetuned_tokenizer_path", "finetuned_predictor_path",
    "backtest_n_symbol_hold", "backtest_n_symbol_drop", "backtest_hold_thresh", "inference_T", "inference_top_p",
    "inference_top_k", "inference_sample_count", "backtest_batch_size", "backtest_benchmark",
)  # fmt: skip
CSV = {
    "data": {
        "data_path": "bars.csv", "lookback_window": 64, "predict_window": 8, "max_context": 512, "clip": 5.0,
        "train_ratio": 0.9, "val_ratio": 0.1, "test_ratio": 0.0,
    },
    "training": {
        "tokenizer_epochs": 2, "basemodel_epochs": 1, "batch_size": 32, "log_interval": 50, "num_workers": 6,
        "seed": 42, "tokenizer_learning_rate": 2e-4, "predictor_learning_rate": 1e-6, "adam_beta1": 0.9,
        "adam_beta2": 0.95, "adam_weight_decay": 0.1, "accumulation_steps": 4,
    },
    "model_paths": {
        "pretrained_tokenizer": "t", "pretrained_predictor": "m", "exp_name": "hk", "base_path": "runs",
        "base_save_path": "", "finetuned_tokenizer": "", "tokenizer_save_name": "tokenizer",
        "basemodel_save_name": "basemodel",
    },
    "experiment": {
        "name": "n", "description": "d", "use_comet": False, "train_tokenizer": True, "train_basemodel": True,
        "skip_existing": False,
    },
    "device": {"use_cuda": True, "device_id": 0},
}  # fmt: skip


def config(**values: Any) -> RunConfig:
    return RunConfig.from_dict({"out": "runs/x", "data": {"bars": "a.csv"}, **values})


def test_validation_is_counted_in_samples() -> None:
    assert config(batch_size=50, n_val_iter=400 * 50).validation_batches == 400
    assert config(batch_size=50, n_val_iter=401).validation_batches == 9  # the last, short one too


def test_accumulation_splits_the_tokenizers_batch() -> None:
    run = config(batch_size=50, accumulation_steps=5)
    tokenizer, model = run.optim_of("tokenizer"), run.optim_of("model")
    assert (tokenizer.batch_size, tokenizer.accumulation) == (10, 5)
    assert (model.batch_size, model.accumulation) == (50, 1)
    with pytest.raises(ConfigError, match="accumulation_steps"):
        config(batch_size=50, accumulation_steps=7)  # which leaves a window out of each batch there


def test_a_folder_of_pickles_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset_path.*pickle"):
        RunConfig.from_dict({"save_path": "here", "dataset_path": "./data/processed_datasets"})


def test_betas_are_the_predictors() -> None:
    run = config(adam_beta1=0.8, adam_beta2=0.9)
    assert (run.optim_of("model").betas, run.optim_of("tokenizer").betas) == ((0.8, 0.9), (0.9, 0.999))


def test_every_name_is_known() -> None:
    from kronos.training.published import KNOWN

    assert not set(NAMES) - set(KNOWN)


def test_the_csv_file_whole() -> None:
    run = RunConfig.from_dict(CSV)
    assert (run.data.bars, run.data.window, run.data.boundary, run.seed) == (("bars.csv",), 73, (64, 64), 42)
    assert (str(run.out), run.tokenizer, run.model) == ("runs/hk", "t", "m")
    assert (run.optim_of("tokenizer").batch_size, run.optim_of("tokenizer").accumulation) == (8, 4)
    assert (run.optim_of("model").lr, run.optim_of("model").batch_size) == (1e-6, 32)
    assert run.optim_of("model").schedule == "one_cycle"


def test_python_is_read_and_not_run(tmp_path: Path) -> None:
    from kronos.training.config import read_settings

    file = tmp_path / "config.py"
    file.write_text(
        "import os\nclass Config:\n    def __init__(self):\n        self.batch_size = 4\n"
        "        self.n_train_iter = 20 * self.batch_size\n        self.save_path = 'runs'\n"
        "        self.finetuned_tokenizer_path = f'{self.save_path}/t'\n"
        "        self.backtest_benchmark = self._look_up('x')\n        self._look_up = os.remove('gone')\n"
    )
    found = {"batch_size": 4, "n_train_iter": 80, "save_path": "runs", "finetuned_tokenizer_path": "runs/t"}
    assert read_settings(file) == found
    file.write_text("seed = [os.getpid()]\n")
    with pytest.raises(ConfigError, match=r"line 1: seed = \[os.getpid\(\)\] is not read"):
        read_settings(file)


def test_epochs_of_so_many_samples() -> None:
    run = config(batch_size=4, n_train_iter=42, epochs=3)
    assert (run.optim_of("tokenizer").steps, run.optim_of("model").steps, run.validate_every) == (30, 30, 10)


def test_shares_with_nothing_to_judge_on() -> None:
    run = RunConfig.from_dict(CSV)
    assert (run.data.later_share, run.data.judged_share, run.passes) == (0.1, 0.0, {"tokenizer": 2, "model": 1})
    with pytest.raises(ConfigError, match="add up to 1"):
        RunConfig.from_dict({**CSV, "data": {**CSV["data"], "test_ratio": 0.2}})


def with_experiment(**choices: Any) -> dict[str, Any]:
    return {**CSV, "experiment": {**CSV["experiment"], **choices}}


def test_ranges_are_the_runs_periods() -> None:
    ranges = {
        "train_time_range": ["2011-01-01", "2022-12-31"],
        "val_time_range": ["2022-09-01", "2024-06-30"],  # begins with its context
        "test_time_range": ["2024-04-01", "2025-06-05"],
    }
    dates = config(**ranges).data.dates
    assert dates is not None
    assert [str(day) for period in (dates.training, dates.validation, dates.judged or ()) for day in period] == [
        *("2011-01-01", "2022-12-31", "2022-09-01", "2024-06-30", "2024-04-01", "2025-06-05")
    ]
    with pytest.raises(ConfigError, match=r"data\.dates\.validation is missing"):
        config(train_time_range=ranges["train_time_range"])
    with pytest.raises(ConfigError, match="must end one after the other"):
        config(**{**ranges, "val_time_range": ["2010-09-01", "2014-06-30"]})
    with pytest.raises(ConfigError, match="does not go forward"):
        config(**{**ranges, "val_time_range": ["2024-06-30", "2022-09-01"]})


def test_readers_are_threads() -> None:
    assert [config(num_workers=readers).workers for readers in (6, 0)] == [6, 1]
    assert RunConfig.from_dict(CSV).workers == 6
    with pytest.raises(ConfigError, match="num_workers is -1"):
        config(num_workers=-1)


def test_what_is_not_pretrained_begins_at_random() -> None:
    assert fresh_stages(CSV) == []
    assert fresh_stages(with_experiment(pre_trained=None)) == []
    assert fresh_stages(with_experiment(pre_trained=False)) == ["tokenizer", "model"]
    assert fresh_stages(with_experiment(pre_trained=False, pre_trained_tokenizer=True)) == ["model"]
    assert fresh_stages(with_experiment(pre_trained_predictor=False)) == ["model"]
    assert RunConfig.from_dict(with_experiment(pre_trained=False)).model == "m"
    assert "another random one" in notes(with_experiment(pre_trained=False))[-1]


def test_what_exists_is_skipped_where_asked() -> None:
    assert not skips_existing(CSV)
    assert skips_existing(with_experiment(skip_existing=True))
    assert skips_existing({"skip_existing": True})


def test_what_the_csv_file_leaves_out_means_what_it_means_there() -> None:
    few = {"data": {"data_path": "bars.csv"}, "model_paths": {"exp_name": "x", "pretrained_predictor": "m"}}
    run = RunConfig.from_dict(few)
    assert (run.data.window, run.data.boundary, run.seed, run.workers) == (561, (512, 512), 100, 6)
    assert (run.data.later_share, run.data.judged_share) == (0.1, 0.0)
    assert (run.passes, run.log_every) == ({"tokenizer": 30, "model": 30}, 50)
    model = run.optim_of("model")
    assert (model.batch_size, model.lr, model.betas, model.weight_decay) == (160, 4e-5, (0.9, 0.95), 0.1)
    ours = RunConfig.from_dict({**few, "optim": {"batch_size": 4, "schedule": "cosine"}})
    assert (ours.optim.batch_size, ours.optim.schedule) == (4, "cosine")  # laid over it by --set


@pytest.mark.parametrize(("name", "path"), SAME.items())
def test_values_that_mean_the_same(name: str, path: str) -> None:
    value = {"float": 0.003, "int": 7, "range": ["2020-01-01", "2020-02-01"], "text": "mine"}
    numbers, ranges = ("rate", "decay", "clip"), "_time_range" in name
    kind = (
        "range"
        if ranges
        else "int"
        if name == "log_interval"
        else "float"
        if any(n in name for n in numbers)
        else "text"
    )
    out: Any = translate({name: value[kind]})
    for part in path.split("."):
        out = out[part]
    assert out == value[kind]


def test_comet() -> None:
    names = {"project_name": "theirs", "workspace": "ours", "api_key": "YOUR_COMET_API_KEY"}
    run = config(use_comet=True, comet_config=names, comet_name="a", comet_tag="b")
    assert (run.tracking, run.comet.project, run.comet.workspace) == (("comet",), "theirs", "ours")
    assert (run.comet.name, run.comet.tag) == ("a", "b")
    assert config(use_comet=False, comet_config={**names, "api_key": "k3y"}).tracking is None
    with pytest.raises(ConfigError, match="set COMET_API_KEY"):
        config(use_comet=True, comet_config={**names, "api_key": "k3y"})


def test_features_are_all_or_refused() -> None:
    bars, times = ["open", "high", "low", "close", "vol", "amt"], ["minute", "hour", "weekday", "day", "month"]
    config(feature_list=bars, time_feature_list=times)
    with pytest.raises(ConfigError, match="a bar has open, high, low, close, volume, amount here, all six"):
        config(feature_list=bars[:4])
    with pytest.raises(ConfigError, match="set time_features"):
        config(time_feature_list=times[:2])


def test_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config(use_cuda=False, device_id=0).device == "cpu"
    for there, device in ((True, "cuda:1"), (False, "auto")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert config(use_cuda=True, device_id=1).device == device


def test_stages_that_are_left_out() -> None:
    assert skipped_stages(CSV) == []
    assert skipped_stages(with_experiment(train_tokenizer=False, train_basemodel=False)) == ["tokenizer", "model"]
    paths = {**CSV["model_paths"], "finetuned_tokenizer": "trained"}
    kept = RunConfig.from_dict({**with_experiment(train_tokenizer=False), "model_paths": paths})
    assert (kept.tokenizer, RunConfig.from_dict({**CSV, "model_paths": paths}).tokenizer) == ("trained", "t")


def test_a_place_may_hold_the_experiments_name() -> None:
    paths = {**CSV["model_paths"], "base_save_path": "kept/{exp_name}/here"}
    assert str(RunConfig.from_dict({**CSV, "model_paths": paths}).out) == "kept/hk/here"


@pytest.mark.parametrize("name", SAID)
def test_every_name_without_influence_is_told(name: str) -> None:
    assert f"{name}: {SAID[name]}" in notes({"model_paths": {}, name: "x"})


def test_names_without_influence_are_told() -> None:
    told = " ".join(notes(CSV))
    for name in ("max_context", "exp_name", "tokenizer_save_name"):
        assert name in told
    with pytest.raises(ConfigError, match="training has speed"):
        RunConfig.from_dict({**CSV, "training": {**CSV["training"], "speed": 9}})
