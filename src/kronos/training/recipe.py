"""A recipe: one file for several runs, each of which may go on from the weights of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kronos.errors import ConfigError
from kronos.training.config import STAGE_NAMES, RunConfig, merge, override, read_settings, translate


@dataclass(frozen=True)
class RecipePart:
    """One of a recipe's runs: its name, the stages that it trains, its settings."""

    name: str
    stages: tuple[str, ...]
    config: RunConfig


def read_recipe(path: str | Path, overrides: list[str] | None = None) -> list[RecipePart]:
    """The parts of a recipe, in the order in which they run.

    A recipe is a run file with a list of ``parts``. Each has a ``name``, the stages to ``train`` (both, if it does not
    say) and the settings that differ from those of the whole file; its folder is that of its name in ``out``. Where
    ``tokenizer`` or ``model`` is the name of an earlier part, the part goes on from the weights of that one. Overrides
    count in every part.

    Raises:
        ConfigError: the file cannot be read, or a setting does not hold; the message names the part.
    """
    shared = translate(read_settings(path, overrides))
    parts = shared.pop("parts", None)
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) and "name" in part for part in parts):
        raise ConfigError(f"{path} is no recipe: it needs a list of parts, each with a name")
    found: list[RecipePart] = []
    for part in parts:
        try:
            found.append(_part(shared, dict(part), found, overrides))
        except ConfigError as error:
            raise ConfigError(f"{path}, part {part['name']}: {error}") from error
    return found


def _part(
    shared: dict[str, Any], part: dict[str, Any], earlier: list[RecipePart], overrides: list[str] | None
) -> RecipePart:
    name, stages = str(part.pop("name")), part.pop("train", STAGE_NAMES)
    stages = (stages,) if isinstance(stages, str) else tuple(stages)
    if not stages or set(stages) - set(STAGE_NAMES):
        raise ConfigError(f"train is {list(stages)}; choose of {', '.join(STAGE_NAMES)}")
    values = translate(override(merge(shared, translate(part)), overrides))
    values["out"] = Path(str(shared.get("out", "runs"))) / name
    folders = {one.name: str(one.config.out) for one in earlier}
    for stage in STAGE_NAMES:
        named = values.get(stage)
        if isinstance(named, dict) and "start" in named:
            values[stage] = {**named, "start": folders.get(named["start"], named["start"])}
        elif isinstance(named, str):
            values[stage] = folders.get(named, named)
    return RecipePart(name, stages, RunConfig.from_dict(values))
