from __future__ import annotations

import dataclasses

import pytest
import torch

from kronos.bars import schema
from kronos.errors import ConfigError
from kronos.model import MODEL_PRESETS, TOKENIZER_PRESETS, Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.model.config import TIME_FEATURES


@pytest.mark.parametrize(
    ("name", "count"),
    [("mini", 4_108_032), ("small", 24_741_376), ("base", 102_310_592), ("large", 499_246_976)],
)
def test_model_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = Kronos(MODEL_PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("name", ["2k", "base"])
def test_tokenizer_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        tokenizer = KronosTokenizer(TOKENIZER_PRESETS[name])
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == 3_958_042


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("s1_bits", 40),
        ("n_layers", 0),
        ("d_model", 10**9),
        ("d_model", 250),
        ("n_heads", "four"),
        ("ffn_dropout_p", 1.5),
        ("learn_te", "yes"),
        ("max_context", 1),
        ("time_features", None),
        ("time_features", 5),
        ("time_features", ["hour", ["day"]]),
        ("calibration", [1]),
        ("judged", [256, 24]),
        ("judged", {"context": 256}),
        ("calibration", {"temperature": "hot"}),
        ("calibration", {"width": {"horizon": [1, 2], "factor": [1.0]}}),
        ("calibration", {"width": [1]}),
        ("calibration", {"width": {"horizon": [1], "factor": [float("nan")]}}),
        ("training_cutoff", 2024),
        ("training_cutoff", "last summer"),
        ("training_cutoff", {"crypto": None}),
    ],
)
def test_absurd_model_configs_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(MODEL_PRESETS["mini"], **{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("s2_bits", 0), ("quantizer", "vq"), ("bar_transform", "levels"), ("beta", -1.0)]
)
def test_absurd_tokenizer_configs_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(TOKENIZER_PRESETS["2k"], **{field: value})


def test_configs_travel_as_flat_mappings() -> None:
    ours = dataclasses.replace(MODEL_PRESETS["mini"], consistent=True, calibration={"temperature": 0.9})
    assert KronosConfig.from_dict({**ours.to_dict(), "unknown": 1}) == ours
    published = MODEL_PRESETS["small"].to_dict()
    assert "consistent" not in published
    assert "calibration" not in published
    with pytest.raises(ConfigError, match="lacks d_model"):
        KronosConfig.from_dict({k: v for k, v in published.items() if k != "d_model"})
    assert TokenizerConfig.from_dict(TOKENIZER_PRESETS["base"].to_dict()) == TOKENIZER_PRESETS["base"]


def test_model_and_bars_name_the_same_time_features_in_the_same_order() -> None:
    assert TIME_FEATURES == schema.TIME_FEATURES  # neither room imports the other
