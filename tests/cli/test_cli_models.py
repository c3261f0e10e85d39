"""``kronos models``: what is at hand, and what one checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path


def test_list_names_the_family(run) -> None:
    result = run("models", "list")
    assert result.status == 0
    for name in ("kronos-nano", "kronos-mini", "kronos-small", "kronos-base"):
        assert name in result.stdout


def test_list_as_json_holds_the_same(run) -> None:
    models = json.loads(run("models", "list", "--json").stdout)
    by_name = {model["name"]: model for model in models}
    assert by_name["kronos-nano"]["source"] == "embedded"
    assert by_name["kronos-mini"]["context_length"] == 2048
    assert all(model["parameters"] > 0 for model in models)


def test_info_of_a_folder(run, tiny: Path) -> None:
    result = run("models", "info", tiny)
    assert result.status == 0
    facts = json.loads(run("models", "info", tiny, "--json").stdout)
    assert "card" in facts


def test_info_is_for_reading(run) -> None:
    """Shapes, dates and licence in words, then the card: sources, recipe, seeds, data hash, metrics, limits."""
    result = run("models", "info", "kronos-nano")
    assert result.status == 0
    for words in ("6 layers", "reads bars as", "512 bars", "trained up to", "mit", "Sources", "licence", "Cut-off"):
        assert words in result.stdout, words
    for words in ("Seeds", "hash", "CRPS", "Known limits"):
        assert words in result.stdout, words
    for raw in ("{'", '{"', "d_model", "None"):
        assert raw not in result.stdout
    assert not result.stdout.lstrip().startswith("---")


def test_info_of_an_unknown_model_is_refused(run) -> None:
    result = run("models", "info", "kronos-gigantic")
    assert result.status == 1
    assert "kronos-gigantic" in result.stderr
    assert result.stdout == ""
