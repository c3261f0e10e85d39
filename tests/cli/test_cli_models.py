"""``kronos models``: what is at hand, and what one checkpoint is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest


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


def test_info_is_a_page_for_reading(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes, dates, licence, metrics and limits, in words and in few lines."""
    monkeypatch.setenv("COLUMNS", "80")
    result = run("models", "info", "kronos-nano")
    assert result.status == 0
    page = re.sub(r"(?ms)^file .*?^ *$", "file\n", result.stdout)  # a long path takes several lines
    assert len(page.splitlines()) <= 48
    for words in ("6 layers", "reads bars as", "512 bars", "trained up to", "2024-07-01", "mit", "CRPS", "no edge in"):
        assert words in result.stdout, words
    for raw in ("{'", '{"', "d_model", "None", "---"):
        assert raw not in result.stdout
    assert "kronos models info kronos-nano --card" in result.stderr


def test_the_whole_card_on_request(run) -> None:
    """Sources, recipe, seeds, data hash, metrics, limits."""
    result = run("models", "info", "kronos-nano", "--card")
    for words in ("6 layers", "us_equity_1d: 2014-09-05", "Sources", "licence", "Cut-off", "Seeds", "hash", "CRPS"):
        assert words in result.stdout, words
    assert "Known limits" in result.stdout
    assert not result.stdout.lstrip().startswith("---")


def test_a_card_of_another_kind_is_shown_whole(run, tiny: Path) -> None:
    assert "No model card lies beside" in run("models", "info", tiny).stdout


def test_info_of_an_unknown_model_is_refused(run) -> None:
    result = run("models", "info", "kronos-gigantic")
    assert result.status == 1
    assert "kronos-gigantic" in result.stderr
    assert "kronos models list" in result.stderr
    assert result.stdout == ""
