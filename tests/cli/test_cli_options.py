"""The options of commands come from the spec and from bundles, each declared once."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer

import kronos
from kronos.cli import common
from kronos.cli.common import CheckpointOptions, Compute, ReadingOptions, with_options
from kronos.cli.evaluate import CalibrationOptions, EvaluationOptions
from kronos.cli.train import FinetuneOptions
from kronos.errors import ConfigError
from kronos.spec import ForecastSpec, settings

LONGER = """
import dataclasses
from dataclasses import dataclass

import kronos.spec


@dataclass(frozen=True, kw_only=True)
class Longer(kronos.spec.ForecastSpec):
    patience: int | None = dataclasses.field(default=None, metadata={"help": "How long to wait.", "low": 3, "high": 9})


kronos.spec.ForecastSpec = Longer
import sys

import kronos.workflows.forecast as workflow
from kronos.cli import main

workflow.forecast_file = lambda source, spec, **_: print(f"patience is {spec.patience}", file=sys.stderr) or sys.exit()
sys.exit(main(sys.argv[1:]))
"""


def with_longer_spec(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LONGER, "forecast", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})


def test_a_new_setting_of_the_spec_is_an_option_at_once() -> None:
    told = with_longer_spec("--help").stdout
    assert re.search(r"--patience .*How long to wait \(a whole number from 3 to 9\)\.", told)
    assert with_longer_spec("x.csv", "--patience", "4").stderr.strip() == "patience is 4"
    refused = with_longer_spec("x.csv", "--patience", "2")
    assert refused.returncode == 1
    assert "patience is 2; it must be a whole number from 3 to 9" in refused.stderr


def test_every_setting_is_an_option_under_its_flag(run) -> None:
    told = run("forecast", "--help").stdout
    for setting in settings(ForecastSpec):
        assert f"--{setting.flag} " in told
    for flag in ("--samples", "--context", "--column", "--monthfirst", "--oldest-first", "--engine", "--gpus", "-o"):
        assert f"{flag} " in told


def test_a_command_is_handed_checked_bundles() -> None:
    seen: list[object] = []
    app = typer.Typer()

    @app.command()
    @with_options
    def command(
        name: Annotated[str, typer.Argument()], spec: ForecastSpec, reading: ReadingOptions, compute: Compute
    ) -> None:
        seen.extend([name, spec, reading.keywords(), compute])

    words = ["x", "--samples", "7", "--column", "close=4", "--monthfirst", "--engine", "ray", "--workers", "2"]
    app(words, standalone_mode=False)
    read = {"columns": {"close": 4}, "dayfirst": False}
    assert seen == ["x", ForecastSpec(num_samples=7), read, Compute(engine="ray", workers=2)]
    with pytest.raises(ConfigError, match="num_samples is 0"):
        app(["x", "--samples", "0"], standalone_mode=False)


def test_what_libraries_print_during_work_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress("Working"):
        sys.stdout.write("a word of Ray's\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a word of Ray's\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--stamp middle", "'middle' is not one of 'start', 'end'."),
        ("--horizon abc", "it is 'abc'; it must be a whole number."),
        ("--temperature warm", "it is 'warm'; it must be a number."),
        ("--partition 0", "it is '0'; it must be at least 1."),
    ],
)
def test_a_refused_value_is_told_in_plain_words(run, words: str, told: str) -> None:
    done = run("forecast", "sample:sp500", *words.split())
    assert done.status == 2
    assert told in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Value error" not in done.stderr
    assert "Input should" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "forecast sample:sp500 --horizon 2 --samples 2",
        "evaluate sample:sp500",
        "calibrate sample:sp500 -o {out}",
        "finetune sample:sp500 -o {out}",
    ],
)
def test_a_tokenizer_may_be_named_beside_the_model(run, tiny: Path, tmp_path: Path, command: str) -> None:
    words = command.format(out=tmp_path / "out").split()
    done = run(*words, "--model", tiny / "model", "--tokenizer", tmp_path / "lost-tokenizer")
    assert done.status == 1
    assert "lost-tokenizer" in done.stderr


def commands(group: Any, *names: str) -> dict[str, set[str]]:
    """Every command by its words, with its options."""
    if hasattr(group, "commands"):
        found = [commands(one, *names, name) for name, one in group.commands.items()]
        return {name: options for part in found for name, options in part.items()}
    return {" ".join(names): {option for parameter in group.params for option in parameter.opts}}


def test_wherever_a_model_is_named_its_tokenizer_may_be() -> None:
    from kronos.cli import app

    named = {name: options for name, options in commands(typer.main.get_command(app)).items() if "--model" in options}
    assert set(named) >= {"forecast", "evaluate", "calibrate", "finetune", "serve", "mcp"}
    assert [name for name, options in named.items() if "--tokenizer" not in options] == []


def test_the_tool_server_is_handed_the_tokenizer(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = pytest.importorskip("kronos.serve.mcp", reason="needs the extra mcp")
    handed: list[object] = []

    def build(found: object) -> SimpleNamespace:
        handed.append(found)
        return SimpleNamespace(run=handed.append)

    monkeypatch.setattr(tools, "build", build)
    monkeypatch.setattr(tools, "Tools", lambda *words: words)
    asked = run("mcp", "--data-dir", tmp_path, "--model", "m", "--tokenizer", "t", "--device", "cpu")
    assert (asked.status, handed) == (0, [(tmp_path, "m", "cpu", "t"), "stdio"])


@pytest.mark.parametrize(
    ("bundle", "function"),
    [
        (CheckpointOptions, kronos.forecast_file),
        (EvaluationOptions, kronos.evaluate),
        (CalibrationOptions, kronos.calibrate),
        (FinetuneOptions, kronos.finetune),
    ],
)
def test_a_command_has_the_defaults_of_its_function(bundle: type, function: object) -> None:
    """Both are written out: help answers before the library is loaded. Lists are written with commas in a command."""

    def plain(value: object) -> object:
        return ",".join(f"{one:g}" if isinstance(one, float) else one for one in value) if value else None  # type: ignore[attr-defined]

    known = inspect.signature(function).parameters
    for field in dataclasses.fields(bundle):
        theirs = known[field.name].default if field.name in known else None
        assert field.default == (plain(theirs) if isinstance(theirs, tuple) else theirs), field.name
