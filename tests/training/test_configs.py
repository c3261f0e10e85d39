"""The shipped recipes hold, and every setting is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from kronos.model import MODEL_PRESETS, Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.training.config import DataSettings, LossSettings, OptimSettings, RunConfig, read_recipe

ROOT = Path(__file__).parents[2]
SIZES = {"nano": 6.3, "mini": 4.1, "small": 24.7, "base": 102.3, "large": 499.2}  # millions of parameters


def test_pre_training_of_the_family() -> None:
    parts = read_recipe(ROOT / "configs" / "pretrain.yaml", ["data.bars=elsewhere"])
    assert [(part.name, part.stages) for part in parts] == [(size, ("tokenizer", "model")) for size in SIZES]
    for part in parts:
        assert part.config.data.bars == ("elsewhere",)
        stage = part.config.model_copy(update={"tokenizer": "kronos-nano"})
        assert isinstance(stage.model, dict)
        shape = dict(stage.model)
        preset = MODEL_PRESETS.get(str(shape.pop("preset", "")))
        config = KronosConfig.from_dict({**(vars(preset) if preset else {}), **shape})
        with torch.device("meta"):
            parameters = sum(p.numel() for p in Kronos(config).parameters())
        assert parameters / 1e6 == pytest.approx(SIZES[part.name], abs=0.05)


def test_the_recipe_has_the_shape_of_the_packaged_checkpoint() -> None:
    """Whatever a part changes is in the checkpoint, whose pair is that of the last tokenizer and the last network."""
    parts = {part.name: part for part in read_recipe(ROOT / "configs" / "kronos-nano.yaml")}
    assert list(parts) == ["scratch", "anneal", "flips", "codes", "running"]
    scratch, codes = parts["scratch"].config, parts["codes"].config
    assert isinstance(scratch.tokenizer, dict)
    assert isinstance(codes.tokenizer, dict)
    assert codes.tokenizer["start"] == str(scratch.out)
    tokenizer, model = (cls.from_pretrained("kronos-nano").config for cls in (KronosTokenizer, Kronos))
    ours = TokenizerConfig.from_dict({**scratch.tokenizer, **codes.tokenizer})
    assert {k for k, v in vars(ours).items() if v != vars(tokenizer)[k]} == {"move_gain"}  # which the run measures
    assert parts["anneal"].config.time_features == model.time_features
    dropout = {f"{k}_dropout_p": v for k, v in parts["running"].config.dropout.model_dump(exclude_none=True).items()}
    ours = KronosConfig.from_dict({**scratch.model, "time_features": model.time_features, **dropout})
    differ = {k for k, v in vars(ours).items() if v != vars(model)[k]}
    assert differ <= {"calibration", "judged", "training_cutoff"}


@pytest.mark.parametrize("section", [DataSettings, OptimSettings, LossSettings, RunConfig])
def test_every_setting_is_documented(section: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    prefix = {DataSettings: "data.", OptimSettings: "optim.", LossSettings: "loss."}.get(section, "")
    sections = {"data", "optim", "loss", "stages"}
    assert not [
        name
        for name in section.model_fields
        if name not in sections and f"`{prefix}{name}" not in table and f"`{name}`" not in table
    ]
