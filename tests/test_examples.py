"""Every example runs as it stands, in an empty folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kronos.bars import sample_bars

EXAMPLES = Path(__file__).parents[1] / "examples"
LISTED = (EXAMPLES / "README.md").read_text(encoding="utf-8")
#: What a script must have said at its end.
SAYS = {
    "forecast_one_file.py": "6 % higher before 3 % lower: ",
    "many_symbols.py": "vol ahead",
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
def test_fine_tuning_ends_with_a_verdict(tmp_path: Path) -> None:
    short = (
        "stages.tokenizer.steps=2 stages.model.steps=2 validate_every=2 validation_batches=1 batch_size=4 tracking=[]"
    )
    words = [word for setting in short.split() for word in ("--set", setting)]
    words += ["--set", "forecasts={windows: 8, samples: 20}", "--device", "cpu"]
    sample_bars("sp500").tail(500).to_csv(tmp_path / "few.csv", index=False)
    said = run([sys.executable, str(EXAMPLES / "finetune_on_csv.py"), "few.csv", *words], tmp_path)
    assert "Forecast with it: kronos forecast few.csv --model runs" in said
    assert (tmp_path / "runs" / "mine" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_qlib_pipeline_ends_with_a_report(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", str(EXAMPLES / "qlib_pipeline.py"), "--finetune"]
    said = run(words, tmp_path)
    asked = re.findall(r"^\$ kronos (\w+ \w+|backtest)", said, re.MULTILINE)
    assert asked == ["qlib export", "qlib prepare", "train tokenizer", "train model", "qlib signals", "backtest"]
    assert "260 signals on 26 dates" in said
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["settings"]["signals"]["model"] == "run/finetuned"
    assert set(summary["strategies"]) == {"mean", "prob_up", "mean_neutral", "prob_up_neutral", "momentum", "random"}
    assert all(one["rank_ic"]["n"] == 24 for one in summary["studies"].values())
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.slow
def test_the_client_asks_a_running_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from kronos.cli import main; sys.exit(main())", "serve"]
    with subprocess.Popen(
        [*command, "--port", "0", "--data-dir", str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1].rstrip("/")
        bars = tmp_path / "bars.csv"
        sample_bars("nasdaq").tail(300).to_csv(bars, index=False)
        try:
            said = run([sys.executable, str(EXAMPLES / "rest_client.py"), str(bars), address], tmp_path)
        finally:
            server.terminate()
    lines = said.splitlines()
    assert len(lines) == 16
    assert lines[12].startswith("volatility a year ")
    assert lines[-1].startswith("No direction is given")


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
    assert kept == set(re.findall(r"^\| `([^`]+)`", LISTED, re.MULTILINE))
