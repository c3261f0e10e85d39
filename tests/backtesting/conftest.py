"""The market as a provider, written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.backtesting.market import export_market

from kronos.backtesting.provider import Provider
from kronos.cli import main


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return export_market(tmp_path_factory.mktemp("qlib") / "provider")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``kronos`` with these words; what Qlib writes past Python counts too."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Result:
        status = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
