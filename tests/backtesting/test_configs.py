"""The shipped research files hold, and every setting is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from kronos import spec
from kronos.backtesting.config import ELSEWHERE, SIGNALS, BacktestSettings, ResearchConfig, SignalSettings
from kronos.backtesting.summary import DEFINITIONS
from kronos.errors import ConfigError
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


def test_sampling_is_asked_as_everywhere() -> None:
    """Every setting of a forecast is one of the signals too, but for those that a research file says elsewhere."""
    known = {setting.name: setting.default for setting in spec.settings() if setting.name not in ELSEWHERE}
    own = {"num_samples": 5, "direction": "model"}  # a signal is a direction, also of a checkpoint that gives none
    assert {name: SignalSettings.model_fields[name].default for name in known} == known | own
    config = ResearchConfig.from_dict(read_settings(ROOT / "configs" / "qlib_cn.yaml"))
    asked = config.forecast_spec
    assert (asked.horizon, asked.context_length, asked.calendar) == (10, 90, "XSHG")
    assert (asked.temperature, asked.top_p, asked.num_samples) == (0.6, 0.9, 5)
    with pytest.raises(ConfigError, match=r"top_p is 1\.5; it must be a number above 0 and at most 1"):
        ResearchConfig.from_dict({**config.model_dump(mode="json"), "signals": {"top_p": 1.5}})
