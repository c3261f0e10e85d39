"""The tools for assistants, over the pipes that an assistant uses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kronos.bars import sample_bars

mcp = pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")


async def talk(folder: Path, model: Path, calls: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], list[Any]]:
    """The names of the tools, and (is an error, text) of every call."""
    from mcp.client.stdio import stdio_client

    code = "import sys; from kronos.cli import main; sys.exit(main())"
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", code, "mcp", "--data-dir", str(folder), "--model", str(model)],
        env=dict(os.environ),
    )
    async with stdio_client(server) as (reading, writing), mcp.ClientSession(reading, writing) as session:
        await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        answers = []
        for name, words in calls:
            found = await session.call_tool(name, words)
            answers.append((found.is_error, found.content[0].text))
        return names, answers


@pytest.mark.slow
def test_an_assistant_inspects_forecasts_and_evaluates(tmp_path: Path, tiny: Path) -> None:
    bars = tmp_path / "bars"
    bars.mkdir()
    sample_bars("sp500").tail(200).to_csv(bars / "mine.csv", index=False)
    sample_bars("sp500").tail(200).to_csv(tmp_path / "secret.csv", index=False)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("inspect", {"bars": "sample:eurusd"}),
        (
            "forecast",
            {"bars": "mine.csv", "horizon": 4, "num_samples": 24, "touch": [2600], "take_profit": 2600, "stop_loss": 9},
        ),
        ("evaluate", {"bars": "mine.csv", "windows": 2, "context": 60, "horizon": 3, "num_samples": 20}),
        ("forecast", {"bars": "../secret.csv"}),
        ("forecast", {"bars": "mine.csv", "horizon": 10_000}),
        ("evaluate", {"bars": "mine.csv", "horizon": 10_000}),
        ("evaluate", {"bars": "mine.csv", "num_samples": 10**6}),
    ]
    names, answers = asyncio.run(talk(bars, tiny, calls))
    assert names == ["inspect", "forecast", "evaluate"]
    assert [error for error, _ in answers] == [False, False, False, True, True, True, True]
    inspected, forecast, evaluated = (json.loads(text) for _, text in answers[:3])
    assert (inspected["frequency"], inspected["source"]) == ("1h", "sample:eurusd")
    assert len(forecast["close_quantiles"]["0.5"]) == len(forecast["prob_up"]) == 4
    assert all(error > 0 for error in forecast["prob_up_error"] + forecast["close_median_error"])
    assert forecast["volatility"]["basis"] == "sessions"
    assert len(forecast["touch"][0]["prob_touch"]) == len(forecast["volatility"]["har"]) == 4
    assert forecast["first_touch"]["loss"]["chance"] == 0
    assert {"tiny", "rw-resampled"} <= evaluated["tasks"]["price"]["bars"].keys()
    assert evaluated["verdicts"]
    assert "outside the folder" in answers[3][1]
    assert all("512" in text for _, text in answers[4:])


def test_wrong_arguments_are_told_in_our_words(tmp_path: Path) -> None:
    from mcp.server.mcpserver.exceptions import ToolError

    from kronos.serve.mcp import Tools, build

    server = build(Tools(tmp_path, "kronos-nano", "cpu"))
    wrong: dict[str, dict[str, Any]] = {
        "horizon is 0; it must be at least 1.": {"bars": "sample:sp500", "horizon": 0},
        "bars is missing.": {},
    }
    for told, words in wrong.items():
        with pytest.raises(ToolError) as caught:
            asyncio.run(server.call_tool("forecast", words))
        assert str(caught.value) == told


def test_prices_that_cannot_be_asked_about_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    from mcp.server.mcpserver.exceptions import ToolError

    from kronos.serve.mcp import Tools, build

    server = build(Tools(tmp_path, "no-such-model", "cpu"))
    wrong: dict[str, dict[str, Any]] = {
        "needs both; give stop_loss": {"take_profit": 2600},
        "A price to touch is a positive number; it is -1.": {"touch": [-1]},
        "both lie above the last close 2506.85": {"take_profit": 2600, "stop_loss": 2700},
    }
    for told, words in wrong.items():
        with pytest.raises(ToolError, match=told):
            asyncio.run(server.call_tool("forecast", {"bars": "sample:sp500", **words}))
