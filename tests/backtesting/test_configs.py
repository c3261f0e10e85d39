"""The shipped research files hold, and every setting is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from kronos.backtesting.config import SIGNALS, BacktestSettings, ResearchConfig, SignalSettings
from kronos.backtesting.performance import DEFINITIONS
from kronos.training.config import RunConfig, read_settings

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("qlib_*.yaml"))
DOCS = (ROOT / "docs" / "backtesting.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_research_files_hold(path: Path) -> None:
    config = ResearchConfig.from_dict(read_settings(path))
    assert set(config.backtest.signals) <= set(SIGNALS)
    run = RunConfig.from_dict({"out": "o", "data": {"bars": ["b"]}, **config.training})
    assert (run.optim_of("tokenizer").lr, run.optim_of("model").lr) == (2e-4, 4e-5)
    assert (run.optim_of("tokenizer").clip_norm, run.optim_of("model").clip_norm) == (2.0, 3.0)


def test_the_chinese_file_has_the_published_parameters() -> None:
    config = ResearchConfig.from_dict(read_settings(ROOT / "configs" / "qlib_cn.yaml"))
    assert (config.instrument, config.lookback_window, config.predict_window) == ("csi300", 90, 10)
    assert (config.backtest.topk, config.backtest.n_drop, config.backtest.hold_thresh) == (50, 5, 5)
    assert (config.backtest.open_cost, config.backtest.close_cost, config.backtest.min_cost) == (0.001, 0.0015, 5)
    assert (config.signals.temperature, config.signals.top_p, config.signals.num_samples) == (0.6, 0.9, 5)


@pytest.mark.parametrize(
    ("section", "prefix"), [(ResearchConfig, ""), (SignalSettings, "signals."), (BacktestSettings, "backtest.")]
)
def test_every_setting_is_documented(section: type[BaseModel], prefix: str) -> None:
    table = "\n".join(line for line in DOCS.splitlines() if line.startswith("| `"))
    names = set(section.model_fields) - {"signals", "backtest"} if section is ResearchConfig else section.model_fields
    assert not [name for name in names if f"`{prefix}{name}`" not in table]


def test_every_signal_is_documented_and_every_figure_defined() -> None:
    assert all(f"`{name}`" in DOCS for name in SIGNALS)
    assert {"annual_return", "information_ratio", "sharpe", "max_drawdown", "turnover", "rank_ic_adjusted_p"} <= set(
        DEFINITIONS
    )
