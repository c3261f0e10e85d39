"""What messages advise exists: every option that an error or a note names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from kronos.cli.app import app

import kronos

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
