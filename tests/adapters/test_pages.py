"""What the adapters' pages show runs as it is written, with the real libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.adapters.conftest import needs

from kronos.bars import sample_bars

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "library"),
    [("gluonts", "gluonts"), ("sktime", "sktime"), ("fev", "fev"), ("nautilus", "nautilus_trader"), ("darts", "darts")],
)
def test_the_python_of_a_page_runs(page: str, library: str, tmp_path: Path) -> None:
    needs(library)
    sample_bars("eurusd").tail(500).to_csv(tmp_path / "EURUSD-1h.csv", index=False)
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.M | re.S)
    assert found
    code = "\n".join(found)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
