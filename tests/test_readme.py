"""What the READMEs and docs tell people to type, typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kronos.bars import sample_path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    (shown,) = blocks(README, "text")  # what it printed; another machine may draw another token
    said, printed = (set(re.findall(r"[a-z_]+|\d{4}-\d\d-\d\d", text)) for text in (shown, done.stdout))
    assert {"expected", "profit"} <= said <= printed
    assert (tmp_path / "forecast.html").stat().st_size > 1_000_000  # plotly.js inside: it opens offline


def commands() -> list[str]:
    lines = [line for block in blocks(README, "") for line in block.splitlines()]
    return [line.removeprefix(".venv/bin/kronos ") for line in lines if line.startswith(".venv/bin/kronos ")]


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_readme_run(command: str, tmp_path: Path) -> None:
    import pandas as pd

    pd.read_parquet(sample_path("sp500")).tail(400).to_csv(tmp_path / "my_bars.csv", index=False)
    kronos = [sys.executable, "-c", "import sys; from kronos.cli import main; sys.exit(main())"]
    done = subprocess.run(
        kronos + shlex.split(command), cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"-o (\S+)", command):
        assert (tmp_path / name).is_file()


def test_every_link_of_the_docs_leads_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        ROOT / "README.zh-CN.md",
        ROOT / "ARCHITECTURE.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
