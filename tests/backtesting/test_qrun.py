"""Qlib's own tools over the provider that we write: expressions, ``qrun``, and our signals in its records.

Whatever starts Qlib's experiment manager runs in a process of its own, since it stays for the life of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.backtesting.conftest import Result
from tests.backtesting.market import panel_of, random_table, research

from kronos.backtesting.config import UNIVERSE
from kronos.backtesting.provider import Provider, use_provider
from kronos.backtesting.qrun import SignalModel
from kronos.backtesting.signals import read_panel
from kronos.backtesting.simulate import benchmark_returns, simulate
from kronos.errors import ConfigError, DataError

WORKFLOW = Path(__file__).parents[2] / "configs" / "qrun_us.yaml"
EXPRESSIONS = {
    "Ref($close, 1) / $close - 1": lambda bars: bars["close"].shift(1) / bars["close"] - 1,
    "Mean($close, 5)": lambda bars: bars["close"].rolling(5, min_periods=1).mean(),
    "Max($high, 10) - Min($low, 10)": lambda bars: (
        bars["high"].rolling(10, min_periods=1).max() - bars["low"].rolling(10, min_periods=1).min()
    ),
    "If($close > $open, $volume, 0)": lambda bars: bars["volume"].where(bars["close"] > bars["open"], 0.0),
}
RECORDED = """
import json, sys
import qlib, yaml
from qlib.workflow import R

qlib.init(**yaml.safe_load(open(sys.argv[1]))["qlib_init"])
recorder = R.get_recorder(experiment_name="kronos")
tables = {"pred": "pred.pkl", "label": "label.pkl", "report": "portfolio_analysis/report_normal_1day.pkl"}
for name, path in tables.items():
    recorder.load_object(path).to_parquet(name + ".parquet")
print("RECORDED", json.dumps(recorder.list_metrics()))
"""


def test_expressions_are_those_of_the_bars(provider: Provider) -> None:
    """What ``D`` computes of the provider is what pandas computes of the bars."""
    found = use_provider(provider.folder).features(["SP05", "NQ03"], list(EXPRESSIONS))
    bars = provider.bars(["SP05", "NQ03"])
    for symbol, own in bars.groupby("symbol"):
        for expression, compute in EXPRESSIONS.items():
            expected = compute(own.set_index("timestamp").drop(columns="symbol"))
            read = found.loc[symbol][expression].reindex(expected.index)
            np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-7, err_msg=f"{symbol}: {expression}")


def test_a_panel_is_a_model_to_qlib(tmp_path: Path) -> None:
    days = pd.bdate_range("2018-10-01", periods=4)
    panel = panel_of(random_table(days, ["A", "B"], 0), "mean")
    panel.to_frame().to_parquet(tmp_path / "panel.parquet")

    class Data:
        segments = {"test": (str(days[1].date()), days[2]), "later": ("2019-01-01", "2019-02-01")}  # noqa: RUF012

    model = SignalModel(tmp_path / "panel.parquet")
    pd.testing.assert_series_equal(model.predict(Data), panel.loc[days[1] : days[2]])
    with pytest.raises(DataError, match=r"no signal in 'later', 2019-01-01 … 2019-02-01; it has those of 2018-10-01 …"):
        model.predict(Data, "later")
    with pytest.raises(ConfigError, match="has no signal 'last' but mean"):
        SignalModel(tmp_path / "panel.parquet", "last")


def workflow(provider: Provider, **model: Any) -> dict[str, Any]:
    """The shipped file on the market of the tests: other dates, another set, a smaller portfolio."""
    settings = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    settings["qlib_init"] |= {"provider_uri": str(provider.folder), "kernels": 1}
    settings["task"]["model"] |= model
    data = settings["task"]["dataset"]["kwargs"]
    data["handler"]["kwargs"] |= {
        "instruments": "some",
        **{"start_time": "2018-01-02", "end_time": "2018-12-31"},
        **{"fit_start_time": "2018-01-02", "fit_end_time": "2018-07-31"},
    }
    data["segments"] = {
        "train": ["2018-01-02", "2018-07-31"],
        "valid": ["2018-08-06", "2018-09-26"],
        "test": ["2018-10-01", "2018-12-27"],
    }
    portfolio = settings["task"]["record"][2]["kwargs"]["config"]
    portfolio["strategy"]["kwargs"] |= {"topk": 8, "n_drop": 3, "hold_thresh": 1}
    portfolio["backtest"] |= {"start_time": "2018-10-01", "end_time": "2018-12-28", "benchmark": "SP08"}
    portfolio["backtest"]["exchange_kwargs"]["trade_unit"] = None  # parts of shares, as in our own backtest
    return dict(settings)


def recorded(settings: dict[str, Any], folder: Path) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
    """What ``qrun`` left with Qlib's recorder: metrics and tables."""
    (folder / "workflow.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    environment = os.environ | {"GIT_PYTHON_REFRESH": "quiet", "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_ALLOW_FILE_STORE", None)
    said = ""
    for words in (["-m", "qlib.cli.run", "workflow.yaml"], ["-c", RECORDED, "workflow.yaml"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said = done.stdout
    line = next(line for line in said.splitlines() if line.startswith("RECORDED "))
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("pred", "label", "report")}
    return json.loads(line.removeprefix("RECORDED ")), tables


@pytest.mark.slow
def test_qrun_learns_from_our_bars(provider: Provider, tmp_path: Path) -> None:
    """LightGBM on Alpha158, its IC and its portfolio, all kept by MLflow."""
    settings = workflow(provider)
    settings["task"]["model"]["kwargs"] |= {"num_leaves": 8, "num_boost_round": 20, "num_threads": 1}
    metrics, tables = recorded(settings, tmp_path)
    sessions = provider.sessions(pd.Timestamp("2018-10-01"), pd.Timestamp("2018-12-27"))
    predicted = tables["pred"]["score"].unstack("instrument")
    assert list(predicted.index) == list(sessions)
    assert list(predicted.columns) == sorted(provider.members("some"))
    assert (predicted.nunique(axis=1) > 1).all()
    closes = provider.table(list(predicted.columns), sessions[0], provider.calendar()[-1])
    label = (closes.shift(-2) / closes.shift(-1) - 1).reindex(sessions)
    np.testing.assert_allclose(tables["label"].iloc[:, 0].unstack("instrument"), label, rtol=1e-4, atol=1e-6)
    for name in ("IC", "Rank IC", "l2.valid", "1day.excess_return_with_cost.annualized_return"):
        assert np.isfinite(metrics[name]), name
    assert (tables["report"]["turnover"].iloc[1:] > 0).any()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".db") == ["mlflow.db"]


@pytest.mark.slow
def test_our_signals_in_qlibs_records(provider: Provider, tmp_path: Path, run: Callable[..., Result]) -> None:
    """SignalRecord and TopkDropoutStrategy over ``kronos qlib signals``: the portfolio is that of our own backtest."""
    config = research(provider, tmp_path / "run", topk=8, n_drop=3).model_copy(update={"instrument": "some"})
    values = config.model_dump(mode="json") | {"signals": {"every": 12, "num_samples": 3}}
    (tmp_path / "research.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = run("qlib", "signals", "--config", tmp_path / "research.yaml")
    assert done.status == 0, done.stderr
    panel = tmp_path / "run" / "signals" / "signals.parquet"

    settings = workflow(provider)
    settings["task"]["model"] = {
        "class": "SignalModel",
        "module_path": "kronos.backtesting.qrun",
        "kwargs": {"panel": str(panel), "signal": "mean"},
    }
    metrics, tables = recorded(settings, tmp_path)
    signal = read_panel(panel)["mean"]
    predicted = tables["pred"]["score"]
    pd.testing.assert_series_equal(predicted, signal.reindex(predicted.index), check_names=False)
    assert predicted.index.get_level_values("datetime").nunique() >= 5
    assert -1 <= metrics["Rank IC"] <= 1

    sessions = provider.sessions(pd.Timestamp("2018-10-01"), pd.Timestamp("2018-12-28"))
    bench = benchmark_returns(provider, UNIVERSE, provider.members("some"), sessions)
    ours = simulate(provider, signal, bench, config.backtest)
    theirs = tables["report"].set_axis(pd.DatetimeIndex(tables["report"].index), axis=0)
    for own, name in (("gross", "return"), ("cost", "cost"), ("turnover", "turnover")):
        np.testing.assert_allclose(theirs[name].reindex(sessions), ours.daily[own], rtol=1e-6, atol=1e-9, err_msg=name)
    assert ours.daily["turnover"].sum() > 1
