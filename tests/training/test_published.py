"""Settings under their published names."""

from __future__ import annotations

from typing import Any

import pytest

from kronos.errors import ConfigError
from kronos.training.config import RunConfig, merge
from kronos.training.published import KNOWN


def config(**values: Any) -> RunConfig:
    return RunConfig.from_dict({"out": "runs/x", "data": {"bars": "a.csv"}, **values})


def test_published_names_mean_ours() -> None:
    run = config(
        **{"lookback_window": 90, "predict_window": 10, "batch_size": 50, "accumulation_steps": 1, "seed": 100},
        **{"tokenizer_learning_rate": 2e-4, "predictor_learning_rate": 4e-5},
        **{"adam_beta1": 0.8, "adam_beta2": 0.9, "adam_weight_decay": 0.2, "n_val_iter": 350},
    )
    assert (run.data.window, run.data.boundary, run.validation_batches, run.seed) == (101, (90, 90), 7, 100)
    for stage, rate in (("tokenizer", 2e-4), ("model", 4e-5)):
        optim = run.optim_of(stage)
        assert (optim.lr, optim.batch_size, optim.accumulation) == (rate, 50, 1)
        assert optim.weight_decay == 0.2
    paths = RunConfig.from_dict({"save_path": "here", "data_path": "there", "pretrained_predictor_path": "m"})
    assert (str(paths.out), paths.data.bars, paths.model) == ("here", ("there",), "m")


def test_ours_beside_them_stay() -> None:
    run = config(batch_size=8, optim={"lr": 0.1}, stages={"model": {"steps": 5}}, predictor_learning_rate=0.2)
    assert (run.optim.lr, run.optim.batch_size) == (0.1, 8)
    assert (run.optim_of("model").steps, run.optim_of("model").lr) == (5, 0.2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": 8, "optim": {"batch_size": 9}}, "both batch_size and optim.batch_size"),
        ({"lookback_window": 90}, "go together"),
        ({"lookback_window": "long", "predict_window": 3}, "whole numbers"),
        ({"adam_beta1": 0.5}, "go together"),
        ({"batch_size": 8, "optim": 3}, "'optim' is 3"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_contradictions(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**values)


def test_the_mapping_is_not_changed() -> None:
    values = {"out": "x", "data": {"bars": "a.csv"}, "optim": {"lr": 0.1}, "batch_size": 8}
    RunConfig.from_dict(values)
    assert values == {"out": "x", "data": {"bars": "a.csv"}, "optim": {"lr": 0.1}, "batch_size": 8}


def test_every_name_is_documented() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    assert not [name for name in KNOWN if f"`{name}`" not in text]


def test_merge() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(base, {"a": {"b": 9}, "e": 4}) == {"a": {"b": 9, "c": 2}, "d": 3, "e": 4}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}
