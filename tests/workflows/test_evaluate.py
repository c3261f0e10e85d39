"""``kronos.evaluate`` called from Python: tables, forecasters that are loaded already, and what comes back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from tests.evaluation.conftest import random_bars
from tests.evaluation.forecasters import Stranger

import kronos
from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.windows import Series
from kronos.workflows.evaluate import load_markets

SMALL = {"context": 40, "horizon": 4, "windows": 3, "num_samples": 20}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two symbols."""
    return pd.concat([random_bars(120, seed).assign(symbol=f"S{seed}") for seed in range(2)], ignore_index=True)


def test_a_table_and_a_forecaster(table: pd.DataFrame, tmp_path: Path) -> None:
    found = kronos.evaluate(table, Stranger(), baselines="ewma", tasks="price", **SMALL)
    assert [one["name"] for one in found.summary["forecasters"]] == ["stranger", "ewma", "rw-resampled"]
    assert list(found.summary["markets"]) == ["bars"]
    assert {one["model"] for one in found.verdicts} == {"stranger"}
    assert len(found.table) == 3 * 2 * 3 * 4
    assert [path.name for path in found.save(tmp_path / "r")] == ["metrics.parquet", "summary.json", "report.html"]
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["verdicts"] == found.verdicts


@pytest.mark.parametrize("few", [{"windows": 1}, {"num_samples": 1}, {"baselines": "last-close,drift"}])
def test_few_bars_or_paths_raise_no_warning(table: pd.DataFrame, few: dict[str, object]) -> None:
    """A symbol of a single bar among the others, one cutoff, one path, points alone."""
    alone = table.head(1).assign(symbol="ALONE")
    words = SMALL | {"baselines": "ewma"} | few
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = kronos.evaluate(pd.concat([table, alone]), Stranger(), **words)
    assert found.summary["markets"]["bars"]["refused"]["no bar at the cutoff"] == words["windows"]


def test_markets_by_name_go_on_where_they_stopped(table: pd.DataFrame, tmp_path: Path) -> None:
    one = table[table["symbol"] == "S0"].drop(columns="symbol")
    one.to_csv(tmp_path / "one.csv", index=False)
    markets = {"many_1h": table, "one_1h": tmp_path / "one.csv"}
    words = {"baselines": ["rw-resampled"], "tasks": ["price"], "out": tmp_path / "report", **SMALL}
    first, again = (kronos.evaluate(markets, **words) for _ in range(2))
    assert set(first.summary["data"]) == {"many_1h", "one_1h"}
    assert first.summary["data"] == again.summary["data"]
    assert first.summary["runtime"]["stored"] == 0
    assert again.summary["runtime"]["stored"] == again.summary["runtime"]["scores"] > 0
    pd.testing.assert_frame_equal(first.table, again.table)


def test_a_folder_means_all_its_bars_to_any_depth(table: pd.DataFrame, tmp_path: Path) -> None:
    one = table[table["symbol"] == "S0"].drop(columns="symbol")
    for place in ("a.csv", "deep/er/b.tsv.gz", ".hidden/c.csv", "notes.md"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        one.to_csv(path, index=False, sep="\t" if ".tsv" in place else ",")
    markets, digests = load_markets(tmp_path)
    assert set(markets) == set(digests) == {"a", "b"}
    assert all(isinstance(series, Series) for market in markets.values() for series in market.values())


def test_what_contradicts_itself_is_refused(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="paper fixes them"):
        kronos.evaluate(table, settings="paper", temperature=1.0)
    with pytest.raises(ConfigError, match="no model states"):
        kronos.evaluate(table, baselines="none", after="training")
    with pytest.raises(TypeError, match="horizons"):
        kronos.evaluate(table, horizons=4)
    monkeypatch.setattr("kronos.workflows.evaluate.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="qlib"):
        kronos.evaluate(table, tasks="investment")
