"""Recipes: parts that go on from each other's weights, settings that they share, and a stop between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import MODEL, TOKENIZER, tiny_settings

from kronos import train_recipe
from kronos.errors import ConfigError
from kronos.model import Kronos, KronosTokenizer
from kronos.training.config import read_recipe


@pytest.fixture
def recipe(tmp_path: Path, arrays_folder: Path) -> Path:
    """Both stages; then the tokenizer with another transform; then the network on its tokens."""
    settings: dict[str, Any] = tiny_settings(tmp_path / "run", arrays_folder)
    del settings["tokenizer"], settings["model"]
    settings["optim"]["steps"] = 2
    settings["parts"] = [
        {"name": "first", "tokenizer": TOKENIZER, "model": MODEL, "data": {"window": 48}},
        {"name": "codes", "train": "tokenizer", "tokenizer": {"start": "first", "bar_transform": "running"}},
        {"name": "last", "train": "model", "tokenizer": "codes", "model": "first", "seed": 1},
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(_plain(settings)))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def test_parts_share_settings_and_name_each_other(recipe: Path, tmp_path: Path) -> None:
    first, codes, last = read_recipe(recipe, ["optim.lr=1e-4"])
    assert (first.stages, codes.stages, last.stages) == (("tokenizer", "model"), ("tokenizer",), ("model",))
    assert [part.config.out for part in (first, codes, last)] == [
        tmp_path / "run" / n for n in ("first", "codes", "last")
    ]
    assert (first.config.data.window, codes.config.data.window) == (48, 40)
    assert {part.config.optim.lr for part in (first, codes, last)} == {1e-4}
    assert codes.config.tokenizer == {"start": str(first.config.out), "bar_transform": "running"}
    assert (last.config.tokenizer, last.config.model) == (str(codes.config.out), str(first.config.out))


def test_a_recipe_ends_with_the_pair_of_its_last_parts(recipe: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    out = train_recipe(recipe, note=notes.append)
    assert out == tmp_path / "run"
    assert KronosTokenizer.from_pretrained(out).config.bar_transform == "running"
    assert isinstance(Kronos.from_pretrained(out), Kronos)
    for kind, part in (("tokenizer", "codes"), ("model", "last")):
        ours, theirs = (load_file(folder / kind / "model.safetensors") for folder in (out, out / part))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert [note for note in notes if note.startswith("Part")] == [
        *("Part first, tokenizer:", "Part first, model:", "Part codes, tokenizer:", "Part last, model:")
    ]


def test_a_recipe_that_was_stopped_goes_on(recipe: Path, tmp_path: Path) -> None:
    """Between two parts: what is done stays as it is, bit for bit, and the rest follows."""
    whole = train_recipe(recipe, overrides=[f"out={tmp_path / 'whole'}"])
    train_recipe(recipe, part="first")
    with pytest.raises(ConfigError, match="--resume"):
        train_recipe(recipe)
    resumed = train_recipe(recipe, resume=True)
    for path in ("tokenizer", "model", "first/model", "first/tokenizer"):
        ours, theirs = (load_file(folder / path / "model.safetensors") for folder in (whole, resumed))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parts": []}, "needs a list of parts"),
        ({"parts": [{"train": "model"}]}, "needs a list of parts"),
        ({"parts": [{"name": "a", "train": "both"}]}, "part a: train is"),
        ({"parts": [{"name": "a", "nonsense": 1}]}, "part a: .*nonsense"),
    ],
)
def test_what_is_no_recipe_is_told(recipe: Path, change: dict[str, Any], words: str) -> None:
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **change}))
    with pytest.raises(ConfigError, match=words):
        read_recipe(recipe)


def test_a_part_that_is_not_there(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="choose of first, codes, last"):
        train_recipe(recipe, part="second")
