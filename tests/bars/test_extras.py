"""The extras of the package: what an error names can be installed, and what is installed is used."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from kronos.cli import EXTRAS as BY_PACKAGE

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
TOOLS = {"dev", "docs", "all"}  # for who works on the project; nothing in src imports them
SERVICES = {"tracking"}  # other people's trackers, which accelerate imports by name
LIBRARIES = {"gluonts", "sktime", "darts", "fev", "nautilus"}  # that take our forecasts; some want an older pandas
FEATURES = sorted(set(EXTRAS) - TOOLS - SERVICES)
MODULES = {  # where the module has another name
    "chronos-forecasting": "chronos",
    "markdown-it-py": "markdown_it",
    "prometheus-client": "prometheus_client",
    "pyqlib": "qlib",
    "pyyaml": "yaml",
}
BY_OTHERS = {"tensorboard", "python-multipart", "mlflow"}  # imported by accelerate, by fastapi and by Qlib
SOURCES = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "src").rglob("*.py"))]


def distribution(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found, requirement
    return found[0].lower()


def written_out(node: ast.expr) -> list[str]:
    """The extras that an expression may stand for."""
    if isinstance(node, ast.IfExp):
        return written_out(node.body) + written_out(node.orelse)
    if isinstance(node, ast.Subscript):  # the table of the command line
        return list(BY_PACKAGE.values())
    if isinstance(node, ast.Name):  # that of the adapters
        return sorted(LIBRARIES)
    return [str(node.value)] if isinstance(node, ast.Constant) else []


def test_extras_that_errors_name() -> None:
    """``MissingExtraError(package, extra, purpose)``: the extra is there; a package told by its name is in it."""
    named: list[tuple[str | None, str]] = []
    for node in (node for tree in SOURCES for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MissingExtraError":
            package = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            extras = written_out(node.args[1])
            assert extras, f"line {node.lineno}: the extra is not written out"
            named += [(package, extra) for extra in extras]
    assert len(named) >= 6
    for package, extra in named:
        assert extra in EXTRAS
        if package is not None:
            assert package in map(distribution, EXTRAS[extra]), f"'{extra}' does not bring {package}"


@pytest.mark.parametrize("extra", FEATURES)
def test_what_an_extra_brings_is_imported(extra: str) -> None:
    used: set[str] = set()
    for node in (node for tree in SOURCES for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "_package"):  # imported by name
                used.add(str(node.args[0].value))
    for requirement in EXTRAS[extra]:
        name = distribution(requirement)
        if name in BY_OTHERS:
            continue
        assert MODULES.get(name, name) in used, f"nothing in src imports {name}"


def test_all_brings_every_extra() -> None:
    assert set(re.findall(r"[a-z]+", EXTRAS["all"][0].split("[")[1])) == set(FEATURES) - LIBRARIES


def test_what_tests_import_comes_with_dev() -> None:
    """A fresh clone skips no test for want of a package, and every one of them is of a tested version."""
    wanted = {"backtesting", "ccxt", "duckdb", "lightgbm", "polars", "scoringrules", "utilsforecast"}
    assert wanted <= set(map(distribution, EXTRAS["dev"]))
    assert "darts" in re.findall(r"\w+", EXTRAS["dev"][0])
    wanted.add("darts")
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted <= pinned
