"""Every example runs as it stands, in an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LISTED = (EXAMPLES / "README.md").read_text(encoding="utf-8")
#: What a script must have said at its end.
SAYS = {
    "forecast_one_file.py": "Wrote forecast.html",
    "many_symbols.py": "EURUSD",
    "without_volume.py": "2019-01-17",
    "published_quick_start.py": "amount",
}


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    assert SAYS[name] in run([sys.executable, "-W", "error", str(EXAMPLES / name)], tmp_path)


@pytest.mark.slow
def test_the_published_quick_start_loads_published_weights(tmp_path: Path) -> None:
    reference = Path(__file__).parent / "data" / "reference_tiny"
    script = EXAMPLES / "published_quick_start.py"
    said = run([sys.executable, str(script), str(reference / "tokenizer"), str(reference / "model")], tmp_path)
    assert "[5 rows x 6 columns]" in said


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    book = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    client.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = json.dumps(book.cells)
    assert "lie inside the 90 % band" in said
    assert "application/vnd.plotly" in said  # the chart came


def test_the_notebook_is_kept_without_outputs() -> None:
    book = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in book["cells"])


def test_every_example_is_listed() -> None:
    kept = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".sh", ".ipynb"}}
    assert kept == {name for name in kept if f"`{name}`" in LISTED}
