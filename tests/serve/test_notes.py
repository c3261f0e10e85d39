"""The studio knows a forecast's notes by their words, and says them in the reader's language."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import kronos
from kronos.bars import sample_bars
from kronos.bars.adjust import mend_breaks
from kronos.bars.calendar import future_times
from kronos.inference.certainty import beyond_notes

SCRIPTS = Path(kronos.__file__).parent / "serve" / "static" / "js"


def told(note: str) -> tuple[str, dict[str, str]]:
    """The key of the studio's sentence for a note, and what is filled in."""
    patterns = re.findall(r"/(\^?[^\n]+)/,\s+\"(note\.[\w.]+)\"", (SCRIPTS / "report.js").read_text(encoding="utf-8"))
    for pattern, key in patterns:
        if found := re.search(pattern.replace("(?<", "(?P<"), note):
            return key, found.groupdict()
    raise AssertionError(f"the studio has no sentence for: {note}")


@pytest.mark.parametrize(("context", "horizon", "key"), [(512, 24, "beyond_context"), (1024, 48, "beyond_judged")])
def test_a_forecast_beyond_judgement_says_how_to_judge_it(context: int, horizon: int, key: str) -> None:
    [note] = beyond_notes("kronos-nano", context, horizon, 2048, {"context": 256, "horizon": 24})
    found, filled = told(note)
    assert found == f"note.{key}"
    assert filled["command"] == f"kronos evaluate BARS --model kronos-nano --context {context} --horizon {horizon}"
    words = (SCRIPTS / "words_findings.js").read_text(encoding="utf-8")
    english, chinese = re.findall(rf'"{found}": \[\s+"(.+)",\s+"(.+)",\s+\]', words)[0]
    for text in (english, chinese):
        assert "{command}" in text
        assert set(re.findall(r"{(\w+)}", text)) <= filled.keys()


def test_dates_that_are_no_sessions_are_counted() -> None:
    days = pd.bdate_range("2023-07-03", "2023-09-28")
    for horizon, key in ((1, "note.rest"), (10, "note.rests")):
        found, filled = told(future_times(days, horizon).notes[-1])
        assert found == key
        assert (filled["calendars"], filled["day"], filled.get("n", "1")) == (
            "XSHG",
            "2023-09-29",
            {1: "1", 10: "6"}[horizon],
        )


@pytest.mark.parametrize(
    ("note", "key"),
    [
        ("2 lines above the table left out: 'a title'", "note.lines"),
        ("1 line below the table left out: 'a source'", "note.lines"),
        ("sheet 'SPY', after 1 without bars", "note.sheet"),
        (
            "3 days at the close before with nothing traded left out: suspended, and filled by the source",
            "note.suspended",
        ),
        ("timestamps are epoch ms, from row 3 on us, each read by its size as UTC", "note.epochs"),
    ],
)
def test_what_was_read_is_told_in_the_readers_language(note: str, key: str) -> None:
    assert told(note)[0] == key


def test_breaks_and_what_was_done_about_them_are_said_in_both_languages() -> None:
    bars = sample_bars("sp500").tail(400).reset_index(drop=True)
    earlier = bars.index < 300
    bars.loc[earlier, ["open", "high", "low", "close"]] *= 4.0
    bars.loc[100:, ["volume", "amount"]] *= 90
    notes = [note for adjust in (None, "splits,volume", "cut") for note in mend_breaks(bars, adjust)[1]]
    bars.loc[200, ["open", "high", "low", "close"]] /= 9.0
    notes += [note for adjust in (None, "splits") for note in mend_breaks(bars, adjust)[1]]
    words = (SCRIPTS / "words_findings.js").read_text(encoding="utf-8")
    keys = set()
    for note in notes:
        key, filled = told(note)
        keys.add(key)
        english, chinese = re.findall(rf'"{key}": \[\s*"(.+?)",\s+"(.+?)",?\s*\]', words)[0]
        for text in (english, chinese):
            assert set(re.findall(r"{(\w+)}", text)) <= filled.keys()
    expected = {"break", "breaks", "volume_step", "divided", "multiplied", "cut", "brought_back"}
    assert {key.removeprefix("note.") for key in keys} >= expected
