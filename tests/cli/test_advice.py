"""What messages advise exists: every option that an error or a note names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import kronos
from kronos.cli import app

SOURCES = sorted(Path(kronos.__file__).parent.rglob("*.py"))


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module that is not a docstring, parts of f-strings joined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described | inside:
            yield node.lineno, node.value if not node.value.startswith("<!doctype") else ""


def commands(command: Any, name: str = "kronos") -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in COMMANDS.items()
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_every_option_that_a_message_names_exists(path: Path) -> None:
    known = {"--help"}.union(*OPTIONS.values())
    for line, text in messages(path):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in known, f"{path}:{line} names {option}, which no command has"
        for words, rest in re.findall(r"kronos ((?:[a-z]+ ?)+)((?:[^'.;]*?--[a-z-]+)*)", text):
            names = [name for name in COMMANDS if name in f"kronos {words}"]
            for option in re.findall(r"--[a-z][a-z-]+", rest):
                assert any(option in OPTIONS[name] for name in names), f"{path}:{line}: {words}has no {option}"


class TestWhereTheCallerStands:
    """The advice is something that this very call, or one that it names, takes."""

    def test_a_table_handed_to_forecast_names_the_call_that_takes_the_option(self) -> None:
        from kronos.bars import sample_bars
        from kronos.inference.assemble import past_bars

        table = sample_bars("sp500").tail(40)
        table.iloc[5, table.columns.get_loc("close")] = -1.0
        with pytest.raises(kronos.DataError, match=r"with read_bars\(\.\.\., on_defect='drop'\)\.$"):
            past_bars(table, 2)
        assert len(past_bars(kronos.read_bars(table, on_defect="drop"), 2).bars) == 39

    def test_a_command_that_reads_bars_takes_the_options_of_reading(self) -> None:
        """Every command that takes ``--symbol`` of a file refuses defects, and advises to drop them."""
        reading = {name: options for name, options in OPTIONS.items() if "--dayfirst" in options}
        silent = {"kronos bars inspect"}  # lists defects, refuses none
        assert {name for name, options in reading.items() if "--on-defect" not in options} == silent

    def test_resample_drops_what_it_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from kronos.bars import sample_bars
        from kronos.cli import main

        table = sample_bars("sp500").tail(40)
        table.iloc[5, table.columns.get_loc("close")] = -1.0
        table.to_csv(tmp_path / "bars.csv", index=False)
        command = ["bars", "resample", f"{tmp_path}/bars.csv", "--to", "1w", "-o", f"{tmp_path}/weeks.csv"]
        assert main(command) == 1
        assert "--on-defect drop" in capsys.readouterr().err
        assert main([*command, "--on-defect", "drop"]) == 0

    def test_a_symbol_that_is_not_there(self) -> None:
        from kronos.bars.reading.read import no_symbol

        names = ["AAPL", "MSFT", *(f"S{number:03}" for number in range(600))]
        assert no_symbol("APPL", names) == (
            "there is no symbol 'APPL'; there are 602 (AAPL, MSFT, S000, S001, S002, S003 …); like it: AAPL."
        )
        assert no_symbol("aapl", names[:2]) == "there is no symbol 'aapl'; there are 2 (AAPL, MSFT); like it: AAPL."
        assert no_symbol("XYZ", ["AAPL"]) == "there is no symbol 'XYZ'; there is 1 (AAPL)."
