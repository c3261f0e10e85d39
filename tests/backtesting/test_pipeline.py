"""The pipeline small and whole, from bars to a report, by the commands of docs/backtesting.md, with Qlib itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.backtesting.conftest import Result
from tests.backtesting.market import market_bars, panel_of, random_table

import kronos
from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.provider import Provider
from kronos.backtesting.signals import read_panel
from kronos.bars import sample_bars, write_bars

Run = Callable[..., Result]
REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"


def settings(folder: Path) -> dict[str, object]:
    return {
        "provider": str(folder / "provider"),
        "out": str(folder / "run"),
        "instrument": "some",
        "calendar": "XNYS",
        "lookback_window": 30,
        "predict_window": 5,
        "train_time_range": ["2017-12-18", "2018-06-29"],
        "val_time_range": ["2018-05-18", "2018-09-14"],
        "test_time_range": ["2018-08-10", "2018-12-31"],
        "backtest_time_range": ["2018-10-01", "2018-12-28"],
        "training": {
            "tokenizer": "kronos-nano",
            "model": "kronos-nano",
            "batch_size": 8,
            "stages": {"tokenizer": {"steps": 3, "lr": 1e-4}, "model": {"steps": 3, "lr": 4e-5}},
            "validation_batches": 2,
            "dtype": "float32",
            "device": "cpu",
        },
        "signals": {"model": str(folder / "run" / "finetuned"), "every": 8, "num_samples": 3},
        "backtest": {
            "signals": ["mean", "prob_up"],
            "neutralise": ["volatility", "market"],
            "topk": 8,
            "n_drop": 3,
            "hold_thresh": 1,
            "groups": 5,
            "random_runs": 1,
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    bars = market_bars()
    write_bars(bars, folder / "bars.parquet")
    (folder / "some.txt").write_text("\n".join(sorted(bars["symbol"].unique())[:30]) + "\n", encoding="utf-8")
    (folder / "research.yaml").write_text(yaml.safe_dump(settings(folder)), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_from_bars_to_a_report(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cwd").mkdir()
    monkeypatch.chdir(folder / "cwd")
    config = ("--config", folder / "research.yaml")

    done = run("qlib", "export", folder / "bars.parquet", "-o", folder / "provider", "--instruments",
               f"some={folder / 'some.txt'}")  # fmt: skip
    assert done.status == 0, done.stderr
    assert "9,879 bars of 38 instruments, 2017-12-18 … 2018-12-31" in done.stdout
    assert "1 suspended days. Sets: all (38), some (30)" in done.stdout

    done = run("qlib", "prepare", *config)
    assert done.status == 0, done.stderr
    assert "sessions purged at its end" in done.stdout
    run_file = folder / "run" / "finetune.yaml"
    for stage in ("tokenizer", "model"):
        assert f"kronos train {stage} --config {run_file}" in done.stdout
        trained = run("train", stage, "--config", run_file)
        assert trained.status == 0, trained.stderr
        assert "Trained 3 steps" in trained.stdout

    done = run("qlib", "signals", *config)
    assert done.status == 0, done.stderr
    assert "240 signals on 8 dates" in done.stdout
    panel = read_panel(folder / "run" / "signals" / "signals.parquet")
    assert panel.notna().all(axis=None)
    assert panel["prob_up"].between(0, 1).all()
    assert (panel["min"] <= panel["max"]).all()

    done = run("backtest", *config, "-o", folder / "report")
    assert done.status == 0, done.stderr
    assert "mean_neutral: " in done.stdout
    assert "backtest loop" not in done.stderr
    assert "signal dates are not known to be out of its sample" in done.stderr
    assert not list((folder / "cwd").iterdir())
    check_report(folder / "report")


def check_report(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    names = ["mean", "prob_up", "mean_neutral", "prob_up_neutral", "momentum", "random"]
    assert list(summary["strategies"]) == list(summary["studies"]) == names
    for figures in summary["strategies"].values():
        assert set(figures) >= {"annual_return", "information_ratio", "sharpe", "max_drawdown", "excess_annual"}
        assert figures["excess_annual"]["low"] <= figures["excess_annual"]["value"] <= figures["excess_annual"]["high"]
    assert {"annual_return", "information_ratio", "sharpe", "max_drawdown"} <= set(summary["definitions"])
    assert [entry["signal"] for entry in summary["verdict"]] == names[:4]
    assert all("after cost" in entry["words"] and "rank IC" in entry["words"] for entry in summary["verdict"])
    for name in ("return", "excess", "drawdown", "turnover", "ic", "groups"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    daily = pd.read_parquet(report / "daily.parquet")
    assert list(daily.index.get_level_values("signal").unique()) == names
    page = (report / "report.html").read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert "cdn" not in body.lower()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', page)
    for heading in (
        "Verdict",
        "Strategies",
        "Months",
        "Signals, without a strategy",
        "What the words mean",
        "Settings",
    ):
        assert f"<h2>{heading}</h2>" in body
    assert body.count("plotly-graph-div") == 7
    assert "Capacity, the account at which" in body


def test_a_given_panel_is_backtested(folder: Path, provider: Provider, run: Run, tmp_path: Path) -> None:
    """Anyone's signals: no model is loaded, nothing is sampled; --json prints one document and nothing else."""
    sessions = provider.sessions(pd.Timestamp("2018-10-01"), pd.Timestamp("2018-12-28"))
    table = random_table(sessions, sorted(provider.members("some")), 0)
    panel_of(table, "mine").to_frame().to_parquet(tmp_path / "panel.parquet")
    words = ("--set", f"provider={provider.folder}", "--set", "backtest.signals=[mine]", "--set",
             "backtest.neutralise=[]", "--set", "backtest.benchmark=SP12")  # fmt: skip
    panel = ("--signals", tmp_path / "panel.parquet")
    refused = run("backtest", "--config", folder / "research.yaml", *words, *panel, "--workers", "2")
    assert refused.status == 1
    assert "is there already" in refused.stderr
    done = run("backtest", "--config", folder / "research.yaml", *words, *panel,
               "-o", tmp_path / "report", "--json")  # fmt: skip
    assert done.status == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["benchmark"] == "SP12"
    assert list(summary["strategies"]) == ["mine", "momentum", "random"]


def test_a_backtest_is_a_function(folder: Path, provider: Provider, tmp_path: Path) -> None:
    """From Python: settings as a mapping, a panel as a table; nothing is written where no folder is named."""
    sessions = provider.sessions(pd.Timestamp("2018-10-01"), pd.Timestamp("2018-12-28"))
    panel = panel_of(random_table(sessions, sorted(provider.members("some")), 0), "mine").to_frame()
    config = {
        **settings(folder),
        "provider": provider.folder,
        "backtest": {"signals": ["mine"], "topk": 8, "n_drop": 3},
    }
    before = sorted(tmp_path.iterdir())
    done = kronos.backtest(config, signals=panel)
    assert list(done.simulations) == ["mine", "momentum", "random"]
    assert done.summary["benchmark"] == "universe"
    assert sorted(tmp_path.iterdir()) == before
    assert callable(kronos.backtest)  # the room that it stands on has another name, kronos.backtesting


def test_the_tokenizer_of_the_signals_is_the_one_that_is_named(
    folder: Path, provider: Provider, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose tokenizer lies elsewhere; each folder as seen from where the command was given."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REFERENCE / "model", tmp_path / "mine")
    shutil.copytree(REFERENCE / "tokenizer", tmp_path / "theirs")
    days = "backtest_time_range=[2018-12-26, 2018-12-28]"
    given = (f"provider={provider.folder}", f"out={tmp_path / 'run'}", "signals.model=mine", days)
    words = [word for setting in given for word in ("--set", setting)]
    alone = run("qlib", "signals", "--config", folder / "research.yaml", *words)
    assert alone.status == 1
    assert "holds a model, and no tokenizer" in " ".join(alone.stderr.split())
    words += ["--set", "signals.tokenizer=theirs"]
    done = run("qlib", "signals", "--config", folder / "research.yaml", *words)
    assert done.status == 0, done.stderr
    assert "30 signals on 1 dates" in done.stdout
    told = ResearchConfig.from_dict(
        {**settings(folder), "signals": {"model": "mine", "tokenizer": "theirs"}}
    ).absolute()
    assert (told.signals.model, told.signals.tokenizer) == (str(tmp_path / "mine"), str(tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("provider=nowhere", "there is no Qlib provider at nowhere; write one with: kronos qlib export"),
        ("instrument=csi300", "has no instrument set 'csi300' but all, some"),
        ("backtest_time_range=[2019-06-01, 2019-12-31]", "backtest_time_range 2019-06-01 … 2019-12-31 lie outside"),
        ("backtest.benchmark=SH000300", "has no benchmark 'SH000300'; name one of its 38 instruments"),
        ("out=elsewhere/run", "has no trained model yet; run kronos qlib prepare and kronos train first"),
        ("backtest.topk=0", "backtest.topk is 0; it must be at least 1"),
    ],
)
def test_errors_come_before_the_work_and_say_what_to_do(
    folder: Path,
    provider: Provider,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ("--config", folder / "research.yaml", "--set", f"provider={provider.folder}", "--set", override)
    done = run("backtest", *config, "--set", "signals.model=elsewhere/run/finetuned")
    assert done.status == 1
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_export_refuses_what_it_cannot_read(folder: Path, run: Run, tmp_path: Path) -> None:
    bars = folder / "bars.parquet"
    assert "not NAME=FILE" in run("qlib", "export", bars, "-o", tmp_path / "p", "--instruments", "x=none").stderr
    assert "two sources hold" in run("qlib", "export", bars, bars, "-o", tmp_path / "p").stderr
    (tmp_path / "empty").mkdir()
    assert "holds no files of bars" in run("qlib", "export", tmp_path / "empty", "-o", tmp_path / "p").stderr
    assert run("bars", "import", "sample:eurusd", "--store", tmp_path / "hourly").status == 0
    assert "without daily bars" in run("qlib", "export", tmp_path / "hourly", "-o", tmp_path / "p").stderr
    factors = tmp_path / "factors.csv"
    factors.write_text("symbol,date\nSP01,2018-01-02\n")
    done = run("qlib", "export", bars, "-o", tmp_path / "p", "--factors", factors)
    assert "cannot be read as factors" in done.stderr
    assert not (tmp_path / "p").exists()


def test_a_bar_store_is_exported(run: Run, tmp_path: Path) -> None:
    assert run("bars", "import", "sample:sp500", "sample:nasdaq", "--store", tmp_path / "store").status == 0
    done = run("qlib", "export", tmp_path / "store", "-o", tmp_path / "p", "--json")
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["sets"] == {"all": 2}
    assert sorted(Provider(tmp_path / "p").members("all")) == ["NASDAQ", "SP500"]


def test_a_folder_of_files_is_exported_by_their_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for name, sample in (("AAA", "sp500"), ("BBB", "nasdaq")):
        write_bars(sample_bars(sample).drop(columns="symbol").tail(50), tmp_path / "files" / f"{name}.csv")
    done = run("qlib", "export", tmp_path / "files", "-o", tmp_path / "p")
    assert done.status == 0, done.stderr
    assert sorted(Provider(tmp_path / "p").members("all")) == ["AAA", "BBB"]
