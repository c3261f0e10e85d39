"""Whatever the library notes about bars and forecasts, the studio can say in both languages."""

from __future__ import annotations

import ast
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

import kronos
from kronos.bars.calendar import future_times
from kronos.bars.reading import content, tables
from kronos.inference import export
from kronos.inference.certainty import beyond_notes, few_paths_note
from kronos.serve import documents

PACKAGE = Path(kronos.__file__).parent
SCRIPTS = PACKAGE / "serve" / "static" / "js"


def templates(node: ast.AST) -> Iterator[str]:
    """The texts that an expression can be, with 7 wherever a value stands."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from map("".join, product(*(list(templates(part)) for part in node.values)))
    elif isinstance(node, ast.FormattedValue):
        yield from list(templates(node.value)) or ["7"]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):  # 's' * (count > 1)
        yield from ("", *templates(node.left))
    elif isinstance(node, ast.BinOp):
        yield from (first + last for first in templates(node.left) for last in templates(node.right))
    elif isinstance(node, ast.IfExp):
        yield from templates(node.body)
        yield from templates(node.orelse)


def notes_of_readers() -> set[str]:
    """Every note that the code of ``bars.reading`` writes down."""
    found = {*tables._SEPARATED.values(), *(name for name, _ in content._PACKERS.values()), "dates are day first"}
    for path in sorted((PACKAGE / "bars" / "reading").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note":
                found |= set(templates(node.args[0])) - {"dates are 7"}
    return found


def notes_of_forecasts() -> set[str]:
    """Those of ``assemble_forecast``, of too few paths, of what lies beyond a checkpoint, and of calendars."""
    found = {few_paths_note(1), few_paths_note(9), "adjust=splits,cut: nothing was found to adjust"}
    for context, horizon in ((512, 24), (512, 48), (256, 4096)):
        found |= set(beyond_notes("kronos-nano", context, horizon, 2048, {"context": 256, "horizon": 24}))
    tree = ast.parse((PACKAGE / "inference" / "assemble.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        added = isinstance(node, ast.Call) and ast.unparse(node.func) in ("notes.append", "notes.insert")
        found |= set(templates(node.args[-1])) if added else set()
    daily, hourly = (pd.date_range("2024-01-02", periods=n, freq=freq) for n, freq in ((40, "D"), (200, "h")))
    business = pd.bdate_range("2023-07-03", "2023-09-28")
    london = pd.date_range("2024-01-02 08:00", periods=9, freq="h", tz="Europe/London")
    for times, horizon in (
        (daily, 5),
        (daily[:3], 5),
        (hourly, 5),
        (business, 1),
        (business, 10),
        (business.delete([5, 9]), 3),
        (business[::3], 3),
        (london.append(london + pd.Timedelta(days=1)), 5),
        (pd.date_range("2020-01-31", periods=30, freq="ME"), 3),
    ):
        for calendar in (None, "XNYS"):
            try:
                found |= set(future_times(times, horizon, calendar).notes)
            except kronos.KronosError:
                continue
    return found


def told(note: str) -> tuple[str, set[str]] | None:
    """The key of the studio's sentence for a note, and what can be filled in."""
    script = (SCRIPTS / "report.js").read_text(encoding="utf-8")
    for pattern, key in re.findall(r"/(\^?[^\n]+)/,\s+\"(note\.[\w.]+)\"", script):
        if found := re.search(pattern.replace("(?<", "(?P<"), note):
            return key, set(found.groupdict())
    return (f"note.{note}", set()) if f'"note.{note}": [' in words() else None


def words() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(SCRIPTS.glob("words*.js")))


@pytest.mark.parametrize("notes", [notes_of_readers, notes_of_forecasts])
def test_every_note_is_said_in_both_languages(notes: object) -> None:
    found = sorted(notes())  # type: ignore[operator]
    assert len(found) > 10
    dumb = [note for note in found if told(note) is None]
    assert not dumb, "give them a pattern in report.js (NOTES) and words in words_reading.js"
    for note in found:
        key, filled = told(note) or ("", set())
        pair = re.search(rf'"{re.escape(key)}": \[\s*"(.+?)",\s*"(.+?)",?\s*\]', words())
        assert pair, note
        assert re.search("[\u4e00-\u9fff]", pair[2]), note
        assert set(re.findall(r"{(\w+)}", pair[0])) <= filled, note


def test_every_sentence_stands_once_and_is_found_by_one_pattern() -> None:
    keys = Counter(re.findall(r'^  "(.+?)": \[', words(), re.MULTILINE))
    assert len(keys) > 300
    patterns = Counter(re.findall(r'/, "(note\.[\w.]+)"\]', (SCRIPTS / "report.js").read_text(encoding="utf-8")))
    assert len(patterns) > 40
    assert [key for key, count in (*keys.items(), *patterns.items()) if count > 1] == []


def test_a_default_level_that_the_studio_draws_anyway_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "DEFAULT_LEVELS", (0.1, 0.5, 0.9))
    assert runpy.run_path(documents.__file__)["LEVELS"] == (0.1, 0.5, 0.9)
