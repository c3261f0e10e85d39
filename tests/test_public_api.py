"""The public names are what they are said to be, and importing the package costs nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import kronos

HEAVY = ("torch", "pandas", "numpy", "pyarrow", "plotly", "matplotlib", "typer", "rich")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def seconds(code: str) -> float:
    """The best of three, so that a busy machine is not mistaken for a slow import."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(code)
        times.append(time.perf_counter() - start)
    return min(times)


def test_all_is_sorted_and_complete() -> None:
    assert sorted(kronos.__all__) == kronos.__all__
    assert {"Forecast", "Kronos", "KronosPredictor", "KronosTokenizer", "future_timestamps", "read_bars"} < set(
        kronos.__all__
    )


@pytest.mark.parametrize("name", kronos.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert getattr(kronos, name).__name__ == name
    assert name in dir(kronos)


def test_unknown_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Forecaster'"):
        kronos.Forecaster  # noqa: B018


def test_every_error_is_a_kronos_error() -> None:
    errors = [getattr(kronos, name) for name in kronos.__all__ if name.endswith(("Error", "Cancelled"))]
    assert len(errors) == 8
    assert all(issubclass(error, kronos.KronosError) for error in errors)


def test_version_is_that_of_the_distribution() -> None:
    assert kronos.__version__.count(".") == 2


def test_import_loads_nothing_heavy() -> None:
    loaded = run(f"import sys, kronos; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_import_is_quick() -> None:
    assert seconds("import kronos") - seconds("pass") < 0.2


def test_reading_bars_loads_no_torch() -> None:
    assert run("import sys; from kronos import Forecast, read_bars; print('torch' in sys.modules)") == "False"
