"""The shipped recipes hold, and every setting is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.training.config import DataSettings, LossSettings, OptimSettings, RunConfig

ROOT = Path(__file__).parents[2]
# research files, from provider to report, are tested with the backtest
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("qlib_"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_recipes_hold(path: Path) -> None:
    assert RunConfig.from_yaml(path).out


def test_the_recipe_has_the_shape_of_the_packaged_checkpoint() -> None:
    config = RunConfig.from_yaml(ROOT / "configs" / "nano.yaml")
    for ours, packaged, later in (
        (
            TokenizerConfig.from_dict(config.tokenizer),
            KronosTokenizer.from_pretrained("kronos-nano").config,
            {"bar_transform", "code_entropy", "move_gain"},
        ),
        (
            KronosConfig.from_dict(config.model),
            Kronos.from_pretrained("kronos-nano").config,
            {"time_features", "calibration", "training_cutoff", "ffn_dropout_p", "resid_dropout_p"},
        ),
    ):
        differ = {k for k, v in vars(ours).items() if v != vars(packaged)[k]}
        assert differ <= later  # what later parts of the recipe change


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
