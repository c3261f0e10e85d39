"""Three files that share no scored bar."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backtesting.market import market_bars, research

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.dataset import prepare, run_settings, split_ranges, traded_bars
from kronos.backtesting.export import write_provider
from kronos.backtesting.provider import Provider
from kronos.bars import read_bars
from kronos.errors import ConfigError, DataError
from kronos.training.config import RunConfig
from kronos.training.data import open_arrays, samplers


def scored(config: ResearchConfig, calendar: pd.DatetimeIndex) -> list[set[pd.Timestamp]]:
    return [set(calendar[(calendar >= s.scored_from) & (calendar <= s.end)]) for s in split_ranges(config, calendar)]


def test_files_hold_what_the_record_says(provider: Provider, out: Path) -> None:
    config = research(provider, out)
    done = prepare(config)
    for split in done.splits:
        bars = read_bars(out / f"{split.name}.parquet")
        assert len(bars) == done.bars[split.name]
        assert bars["symbol"].nunique() == done.symbols[split.name] == 38
        assert bars["timestamp"].min() == split.start
        assert bars["timestamp"].max() == split.end
    train, val, test = done.splits
    calendar = provider.calendar()
    between = calendar[(calendar > train.end) & (calendar < val.scored_from)]
    assert len(between) == config.embargo_sessions == 5
    assert train.purged > 0
    assert test.scored_from > val.end
    assert test.purged == 0


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(0, 230), min_size=3, max_size=3).map(sorted),
    lengths=st.lists(st.integers(20, 200), min_size=3, max_size=3),
    embargo=st.integers(0, 12),
)
def test_no_bar_is_scored_twice_whatever_the_ranges(starts: list[int], lengths: list[int], embargo: int) -> None:
    calendar = pd.bdate_range("2018-01-01", periods=260)
    ranges = [
        (calendar[a].date(), calendar[min(a + n, 259)].date()) for a, n in zip(starts, lengths, strict=True)
    ]  # fmt: skip
    config = ResearchConfig(
        provider=Path("p"),
        out=Path("o"),
        calendar="XNYS",
        lookback_window=12,
        predict_window=4,
        embargo=embargo,
        **dict(zip(("train_time_range", "val_time_range", "test_time_range"), ranges, strict=True)),
    )
    try:
        train, val, test = scored(config, calendar)
    except ConfigError:
        return  # too near each other to leave anything
    assert not train & val
    assert not val & test
    assert not train & test
    assert max(train) < min(val)
    assert max(val) < min(test)
    assert calendar.get_loc(min(val)) - calendar.get_loc(max(train)) > embargo


def test_the_published_ranges_leave_what_they_should() -> None:
    """2022-09-01 is 90 sessions of context before the first scored one of January 2023."""
    calendar = pd.bdate_range("2011-01-03", "2025-06-05")
    config = ResearchConfig(
        provider=Path("p"),
        out=Path("o"),
        calendar="XSHG",
        train_time_range=("2011-01-01", "2022-12-31"),
        val_time_range=("2022-09-01", "2024-06-30"),
        test_time_range=("2024-04-01", "2025-06-05"),
    )
    train, val, test = split_ranges(config, calendar)
    assert train.end < val.scored_from == calendar[calendar.searchsorted(pd.Timestamp("2022-09-01")) + 90]
    assert val.end < test.scored_from
    assert test.purged == 0


def test_training_scores_train_and_validates_on_val(provider: Provider, out: Path) -> None:
    """The run file as training reads it: what its windows ask about lies inside the split, to the session."""
    config = research(provider, out)
    done = prepare(config)
    values = {**run_settings(done, config), "out": str(out / "run"), "tokenizer": "kronos-nano"}
    run = RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(values)))
    assert run.data.boundary == (30, 30)
    assert run.data.window == 38
    training, validation = samplers(run, open_arrays(run), 16)
    train, val, _ = done.splits
    for sampler, split in ((training, train), (validation, val)):
        times = sampler.arrays.times.astype("datetime64[s]")
        reached: list[np.datetime64] = []
        for segment in sampler.arrays.segments:
            asked = times[segment.start : segment.stop][30:]
            reached += list(asked)
        assert min(reached) == split.scored_from, split.name
        assert max(reached) == split.end, split.name


def test_untraded_days_are_left_out_and_counted(tmp_path: Path) -> None:
    bars = market_bars()
    idle = (bars["symbol"] == "SP07") & (bars["timestamp"] >= "2018-03-01") & (bars["timestamp"] < "2018-03-10")
    bars.loc[idle, ["volume", "amount"]] = 0.0
    provider = Provider(write_provider(bars, tmp_path / "p").folder)
    done = prepare(research(provider, tmp_path / "out"))
    assert idle.sum() == 7
    assert done.untraded == int((bars["volume"] == 0).sum())
    train = read_bars(tmp_path / "out" / "train.parquet")
    assert not (train["volume"] == 0).any()
    assert len(traded_bars(bars)) == len(bars) - done.untraded


def test_ranges_that_do_not_hold_are_refused(provider: Provider, out: Path) -> None:
    config = research(provider, out)
    with pytest.raises(ConfigError, match="val_time_range leaves 0 sessions to score after 30 of context"):
        prepare(config.model_copy(update={"val_time_range": (date(2018, 5, 25), date(2018, 6, 15))}))
    with pytest.raises(ConfigError, match="test_time_range 2018-08-10 … 2020-12-31 lie outside"):
        prepare(config.model_copy(update={"test_time_range": (date(2018, 8, 10), date(2020, 12, 31))}))
    with pytest.raises(ConfigError, match="no instrument set 'csi300'"):
        prepare(config.model_copy(update={"instrument": "csi300"}))
    with pytest.raises(DataError, match="no Qlib provider"):
        prepare(config.model_copy(update={"provider": out / "none"}))


def test_settings_under_published_names(provider: Provider, out: Path) -> None:
    base = research(provider, out).model_dump(mode="json")
    base.pop("backtest"), base.pop("signals"), base.pop("provider"), base.pop("out")
    config = ResearchConfig.from_dict(
        {
            **base,
            "qlib_data_path": "data/cn",
            "dataset_path": "runs/cn",
            "inference_T": 0.6,
            "inference_sample_count": 5,
            "backtest_n_symbol_hold": 50,
            "backtest_n_symbol_drop": 5,
            "backtest_benchmark": "SH000300",
            "tokenizer_learning_rate": 2e-4,
        }
    )
    assert config.provider == Path("data/cn")
    assert (config.signals.temperature, config.signals.num_samples) == (0.6, 5)
    assert (config.backtest.topk, config.backtest.n_drop, config.backtest.benchmark) == (50, 5, "SH000300")
    assert config.training == {"tokenizer_learning_rate": 2e-4}
    with pytest.raises(ConfigError, match=r"both inference_T and signals.temperature"):
        ResearchConfig.from_dict({**base, "inference_T": 0.6, "signals": {"temperature": 1.0}})
    with pytest.raises(ConfigError, match="backtest: n_drop 9 exceeds topk 5"):
        ResearchConfig.from_dict({**base, "provider": "p", "out": "o", "backtest": {"topk": 5, "n_drop": 9}})
    with pytest.raises(ConfigError, match="lookback"):
        ResearchConfig.from_dict({**base, "provider": "p", "out": "o", "lookback": 3})


def test_prepared_record_is_plain(provider: Provider, out: Path) -> None:
    done = prepare(research(provider, out))
    assert replace(done).later_share == pytest.approx(
        (read_bars(out / "val.parquet")["timestamp"] >= done.splits[1].scored_from).sum()
        / (done.bars["train"] + done.bars["val"])
    )
