"""The picture of a run's losses: what is circled is what was chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kronos.training.log import figure, loss_curves, save_loss_chart


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Chosen by forecasts: step 2 has them best, step 4 the lowest loss."""
    (tmp_path / "model").mkdir()
    records = [
        {"step": 0, "val_loss": 3.0, "val_crps": 1.1, "kept": True},
        {"step": 1, "loss": 2.9},
        {"step": 2, "val_loss": 2.8, "val_crps": 0.9, "kept": True},
        {"step": 4, "val_loss": 2.5, "val_crps": 1.0, "kept": False},
    ]
    (tmp_path / "model" / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def test_what_was_chosen_is_circled_though_another_loss_is_lower(out: Path) -> None:
    curves = loss_curves(out)
    assert curves["model"]["validation"] == ([0, 2, 4], [3.0, 2.8, 2.5])
    assert curves["model"]["chosen"] == ([2], [2.8])
    circle = next(trace for trace in figure(curves).data if trace.mode == "markers")
    assert (list(circle.x), list(circle.y)) == ([2], [2.8])


def test_page_and_picture_are_written(out: Path) -> None:
    written = save_loss_chart(out)
    assert [path.name for path in written] == ["losses.html", "losses.png"]
    assert "Plotly.newPlot" in written[0].read_text()
    assert written[1].read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_run_has_no_chart(tmp_path: Path) -> None:
    assert save_loss_chart(tmp_path) == []
