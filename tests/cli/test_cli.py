"""The command line as a whole: help, exit statuses, Ctrl-C, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kronos import cli
from kronos.cli import common
from kronos.errors import DataError

KRONOS = [sys.executable, "-c", "import sys; from kronos.cli import main; sys.exit(main())"]


def test_help_names_every_command(run) -> None:
    result = run("--help")
    assert result.status == 0
    for command in ("forecast", "models", "train"):
        assert command in result.stdout


def processor_time(*command: str, **env: str) -> float:
    """Seconds of a command, the best of four: a busy machine is not a slow command."""
    times = []
    for _ in range(4):
        before = os.times()
        subprocess.run(command, env=os.environ | env, check=True, capture_output=True, timeout=60)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_help_answers_at_once(tmp_path: Path) -> None:
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as after a first start
    library = processor_time(sys.executable, "-c", "import typer, typer.rich_utils", **compiled)
    assert processor_time(*KRONOS, "--help", **compiled) < 2 * library


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, kronos.cli; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["forecast"],
        ["forecast", "x.csv", "--horizon", "many"],
        ["forecast", "x.csv", "--nonsense"],
        ["forecast", "x.csv", "--quantiles", ".1,half"],
        ["models", "info"],
        ["train", "model"],
    ],
)
def test_usage_errors_have_status_2(run, words: list[str]) -> None:
    result = run(*words)
    assert result.status == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_version(run) -> None:
    assert run("--version").stdout.startswith("kronos 0.")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DataError("bars.csv, row 3: [bold]high[/] is below low"), 1, "row 3: [bold]high[/] is below low"),
        (PermissionError(13, "Permission denied", "out.csv"), 1, "Permission denied ('out.csv')"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_a_line_and_a_status(run, monkeypatch, error: BaseException, status: int, words: str) -> None:
    def load(*_: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("kronos.workflows.forecast.read_bars", load)
    result = run("forecast", "bars.csv")
    assert result.status == status
    assert words in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert result.stdout == ""


def test_an_error_of_ours_keeps_its_traceback(run, monkeypatch) -> None:
    """A bug is not dressed up as the user's mistake."""

    def load(*_: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kronos.workflows.forecast.read_bars", load)
    with pytest.raises(ZeroDivisionError):
        run("forecast", "bars.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["models", "list", "--json"], ["models", "list"]])
def test_a_closed_pipe_is_no_complaint(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run([*KRONOS, *words], stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode in (1, cli.CLOSED)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_running_forecast_with_130(bars_csv: Path, tiny: Path) -> None:
    words = ["forecast", str(bars_csv), "--model", str(tiny), "--horizon", "5000", "--samples", "64"]
    process = subprocess.Popen(
        [*KRONOS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that started the tests in the background has told its children to ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    process.stderr.readline()  # "Read 80 bars": the work has begun
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


def test_progress_is_silent_without_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(common, "PATIENCE", 0.0)
    with common.progress("Working") as report:
        report(1, 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_progress_shows_on_a_terminal_after_a_while(capsys, monkeypatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(common, "console", Console(stderr=True, force_terminal=True))
    with common.progress("Quick") as report:
        report(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(common, "PATIENCE", 0.0)
    with common.progress("Slow") as report:
        report(1, 2, "loss 3.2")
    assert "Slow  loss 3.2" in capsys.readouterr().err


def test_main_is_the_entry_point() -> None:
    from importlib.metadata import entry_points

    (point,) = [point for point in entry_points(group="console_scripts") if point.name == "kronos"]
    assert point.load() is cli.main
