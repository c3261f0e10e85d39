"""The wheel, in an empty environment that holds the base dependencies and nothing else, outside the repository."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def closure(requirements: list[str]) -> set[str]:
    """The distributions that a plain ``pip install`` of these brings along."""
    wanted, found = [Requirement(text) for text in requirements], set()
    while wanted:
        requirement = wanted.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        key = f"{name}{sorted(extras)}"
        if key in found:
            continue
        found.add(key)
        for text in metadata.requires(name) or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                inner.marker = None
                wanted.append(inner)
    return {key.partition("[")[0] for key in found}


def link_distribution(name: str, site: Path) -> None:
    """Shows an installed distribution to another environment."""
    for file in metadata.files(name) or ():
        top = file.parts[0]
        source = Path(str(metadata.distribution(name).locate_file(top)))
        if top not in ("..", "__pycache__") and source.exists() and not (site / top).exists():
            (site / top).symlink_to(source)


@pytest.fixture(scope="module")
def kronos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the wheel's own environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 20e6
    home = folder / "environment"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    done = subprocess.run(
        [*install, "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    base = [text for text in metadata.requires("kronos-kline") or () if "extra ==" not in text]
    for name in closure(base):
        link_distribution(name, site)
    return home / "bin" / "kronos"


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, object]:
    """An empty folder, and no sign of the repository or of this environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "HF_"))}
    return {"cwd": tmp_path, "env": {**kept, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}}


def call(words: list[object], outside: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [str(word) for word in words], capture_output=True, text=True, timeout=300, check=False, **outside
    )


def test_it_forecasts_without_a_network(kronos: Path, outside: dict[str, object], tmp_path: Path) -> None:
    done = call([kronos, "forecast", "sample:sp500", "--horizon", 3, "-o", "f.html", "-o", "f.csv"], outside)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.html").stat().st_size > 1_000_000
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 4
    where = call([kronos.parent / "python", "-c", "import kronos; print(kronos.__file__)"], outside).stdout
    assert str(kronos.parents[1]) in where


def test_the_coefficients_of_har_are_in_it(kronos: Path, outside: dict[str, object]) -> None:
    code = "from kronos.volatility import HORIZONS, pooled_har; print(len(pooled_har().coefficients) == len(HORIZONS))"
    assert call([kronos.parent / "python", "-c", code], outside).stdout.strip() == "True"


def test_only_the_base_is_there(kronos: Path, outside: dict[str, object]) -> None:
    names = ("matplotlib", "arch", "accelerate", "qlib", "fastapi", "ray", "mcp", "ccxt", "pytest")
    code = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    assert call([kronos.parent / "python", "-c", code], outside).stdout.strip() == "[]"


def test_it_starts_soon(kronos: Path, outside: dict[str, object]) -> None:
    def seconds(words: list[object]) -> float:
        """Processor time, the least of five: other programs on the machine do not count."""
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert call(words, outside).returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    python = kronos.parent / "python"
    assert seconds([kronos, "--help"]) < 0.5
    assert seconds([python, "-c", "import kronos"]) - seconds([python, "-c", "pass"]) < 0.2


#: Command → what it says to install, which any index has.
NEEDS = {
    "forecast sample:sp500 --horizon 2 --samples 2 -o f.png": "'matplotlib>=",
    "evaluate sample:sp500 --model kronos-nano --baselines all --tasks price -o report": "'arch>=",
    "bars fetch binance:BTC/USDT --timeframe 1h --since 2024-01-01 -o btc.parquet": "'ccxt>=",
}


@pytest.mark.parametrize("command", NEEDS)
def test_a_missing_extra_is_named_with_its_line(command: str, kronos: Path, outside: dict[str, object]) -> None:
    done = call([kronos, *command.split()], outside)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pip install" in line]
    assert NEEDS[command] in line
    assert "kronos" not in line.partition("pip install")[2]
    assert "Traceback" not in done.stderr
