"""The written report: whole, self-contained, and readable by machines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

import pandas as pd
import pytest

from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.glossary import COLUMNS
from kronos.evaluation.report import Evaluation, number, page
from kronos.evaluation.rolling import as_series
from kronos.evaluation.run import Plan, evaluate
from kronos.files import LEFTOVERS

Maker = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def evaluation(make_bars: Maker) -> Evaluation:
    """Baselines on two small markets."""
    bars = pd.concat([make_bars(400, s).assign(symbol=f"<S{s}>") for s in range(5)], ignore_index=True)
    plan = Plan(
        tasks=("price", "return", "volatility", "generation"),
        context=60,
        horizon=6,
        n_windows=9,
        num_samples=25,
        generation_steps=20,
    )
    markets = {"walks_1h": as_series(bars), "walks_4h": as_series(bars)}
    return evaluate(markets, make_baselines(["rw-resampled", "ewma", "last-close"]), plan)


def test_report_is_three_whole_files(evaluation: Evaluation, tmp_path: Path) -> None:
    written = evaluation.save(tmp_path / "new" / "report")
    assert [path.name for path in written] == ["metrics.parquet", "summary.json", "report.html"]
    assert not list((tmp_path / "new" / "report").glob(LEFTOVERS))
    table = pd.read_parquet(written[0])
    assert len(table) == len(evaluation.table)
    summary = json.loads(written[1].read_text(encoding="utf-8"))
    mean = table[(table["forecaster"] == "ewma") & (table["group"] == "walks_1h")]["crps"].mean()
    assert summary["tasks"]["price"]["walks_1h"]["ewma"]["crps"]["value"] == pytest.approx(mean, abs=1e-9)


def test_page_fetches_nothing_and_escapes_names(evaluation: Evaluation, tmp_path: Path) -> None:
    html = evaluation.save(tmp_path)[2].read_text(encoding="utf-8")
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']?https?:""", html)
    body = html.split("</head>")[1]
    assert "<S0>" not in body
    for heading in (
        "Verdict",
        "What was asked",
        "Price",
        "Return",
        "Volatility",
        "Generation",
        "Examples",
        "How to repeat it",
    ):
        assert f"<h2>{heading}</h2>" in body
    assert body.count("plotly-graph-div") == 3 + 2 + 3  # ratio, calibration, PIT, a horizon per market, three examples
    for fact in ("numpy", "Settings", "Versions", "took", "num_samples"):
        assert fact in body


def test_every_title_of_a_column_has_a_line(evaluation: Evaluation) -> None:
    html = page(evaluation)
    for column in (one for task in evaluation.summary["tasks"] for one in COLUMNS[task]):
        assert re.search(rf"<th>{re.escape(escape(column.title))}</th><td class=text>[^<]", html), column.title


def test_numbers_are_shown_with_their_interval_or_a_dash() -> None:
    assert number({"value": 0.51234, "low": 0.5, "high": 0.53}, 3) == "0.512<br><small>0.500 … 0.530</small>"
    assert number({"value": 0.5, "low": float("nan"), "high": float("nan")}, 2) == "0.50"
    assert number(float("nan"), 2) == "–"
    assert number(None, 2) == "–"
    assert number(123456.0, 2) == "1.2e+05"
