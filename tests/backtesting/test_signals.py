"""Signals: in return space, from the past alone, the same after a stop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.backtesting.market import SUSPENDED, market_bars

from kronos.backtesting.config import SIGNALS
from kronos.backtesting.provider import Provider
from kronos.backtesting.signals import (
    CrossSections,
    Dated,
    SignalPlan,
    make_signals,
    neutralise,
    path_signals,
    read_panel,
    signal_dates,
    signals_of_date,
)
from kronos.errors import ConfigError, DataError
from kronos.workflows.forecasters import load_forecaster
from kronos.workflows.signals import PredictorSampler


class Walks:
    """A sampler that needs no model: paths drawn from the context's own returns, and a record of what it was given."""

    fingerprint = "walks"

    def __init__(self, dies_after: int | None = None) -> None:
        self.seen: list[tuple[pd.Timestamp, int]] = []
        self.dies_after = dies_after

    def closes(self, contexts: Mapping[str, pd.DataFrame], future: pd.DatetimeIndex) -> Iterator[tuple[str, Any]]:
        if self.dies_after is not None and len(self.seen) >= self.dies_after:
            raise KeyboardInterrupt
        dates = {table["timestamp"].iloc[-1] for table in contexts.values()}
        assert len(dates) == 1
        assert future[0] > next(iter(dates))
        self.seen.append((next(iter(dates)), len(contexts)))
        for symbol, table in contexts.items():
            close = table["close"].to_numpy()
            rng = np.random.default_rng(zlib.crc32(close.tobytes()))
            moves = rng.choice(np.diff(np.log(close)), (5, len(future)))
            yield symbol, close[-1] * np.exp(np.cumsum(moves, axis=1))


@pytest.fixture(scope="module")
def nano() -> PredictorSampler:
    return PredictorSampler(load_forecaster("kronos-nano"), lookback=30, num_samples=3, seed=0)


def plan_of(provider: Provider, every: int = 20, count: int = 4) -> SignalPlan:
    sessions = provider.sessions(pd.Timestamp("2018-08-01"), pd.Timestamp("2018-12-31"))
    return SignalPlan(signal_dates(sessions, every)[:count], lookback=30, horizon=5, calendar="XNYS")


def test_definitions_by_hand() -> None:
    closes = np.array([[110.0, 121.0], [90.0, 99.0]])
    found = path_signals(closes, 100.0)
    assert found["last"] == pytest.approx((0.21 - 0.01) / 2)
    assert found["mean"] == pytest.approx((0.10 + 0.21 - 0.10 - 0.01) / 4)
    assert found["max"] == pytest.approx((0.21 - 0.01) / 2)
    assert found["min"] == pytest.approx((0.10 - 0.10) / 2)
    assert found["median"] == pytest.approx(0.10)
    assert found["prob_up"] == 0.5
    own = np.array([0.155, -0.055])
    assert found["mean_over_deviation"] == pytest.approx(own.mean() / own.std(ddof=1))
    assert list(found) == list(SIGNALS)


def test_signals_are_returns_not_prices() -> None:
    """A symbol at a thousand times the price has the same signals, which differences of prices do not have."""
    closes = 50 + np.random.default_rng(0).random((5, 10))
    assert path_signals(closes, 50.2) == pytest.approx(path_signals(1000 * closes, 50_200.0))


def test_only_the_past_is_handed_over(provider: Provider, out: Path) -> None:
    plan, sampler = plan_of(provider), Walks()
    panel = make_signals(market_bars(), provider.members("all"), plan, sampler, out)
    assert [date for date, _ in sampler.seen] == list(plan.dates)
    assert panel.index.names == ["datetime", "instrument"]
    assert list(panel.columns) == [*SIGNALS, "volatility", "market"]
    assert len(panel) == 38 * 4
    pd.testing.assert_frame_equal(read_panel(out / "signals.parquet"), panel.sort_index())


def test_a_suspended_symbol_has_no_signal_that_day(provider: Provider, out: Path) -> None:
    symbol, session = SUSPENDED
    date = provider.calendar()[session]
    plan = SignalPlan(pd.DatetimeIndex([date]), lookback=30, horizon=5, calendar="XNYS")
    panel = make_signals(market_bars(), provider.members("all"), plan, Walks(), out)
    assert len(panel) == 37
    assert symbol not in panel.index.get_level_values("instrument")


def test_members_alone_have_signals(provider: Provider, out: Path) -> None:
    plan = plan_of(provider)
    spans = {"SP01": [(plan.dates[0], plan.dates[1])], "SP03": [(plan.dates[1], plan.dates[3])]}
    panel = make_signals(market_bars(), spans, plan, Walks(), out)
    by_date = panel.reset_index().groupby("datetime")["instrument"].agg(list)
    assert list(by_date) == [["SP01"], ["SP01", "SP03"], ["SP03"], ["SP03"]]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["values", "gone"])
def test_no_later_bar_changes_a_signal_by_a_bit(
    provider: Provider, nano: PredictorSampler, tmp_path: Path, change: str
) -> None:
    bars, plan = market_bars(), plan_of(provider, count=3)
    bars = bars[bars["symbol"].isin([f"SP{k:02d}" for k in range(8)])].reset_index(drop=True)
    spans, cut = provider.members("all"), plan.dates[1]
    later = (bars["timestamp"] > cut).to_numpy()
    other = bars.copy()
    if change == "values":
        factors = np.random.default_rng(0).uniform(0.5, 2.0, int(later.sum()))
        for name in ("open", "high", "low", "close"):
            other.loc[later, name] *= factors
        other.loc[later, ["volume", "amount"]] *= 3.0
    else:  # a symbol ends at the cut, another loses every third bar after it
        third = later & (bars["symbol"] == "SP01") & (bars.index % 3 == 0)
        other = bars[~(later & (bars["symbol"] == "SP00")) & ~third].reset_index(drop=True)
    one = make_signals(bars, spans, plan, nano, tmp_path / "one")
    two = make_signals(other, spans, plan, nano, tmp_path / "two")
    known = one.index.get_level_values("datetime") <= cut
    pd.testing.assert_frame_equal(one[known], two[two.index.get_level_values("datetime") <= cut], check_exact=True)
    after = two.reindex(one.index)[~known]
    assert not after.equals(one[~known])  # the change does reach the date behind it


def test_a_stopped_run_goes_on_as_if_it_never_stopped(provider: Provider, tmp_path: Path) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    whole = make_signals(bars, spans, plan, Walks(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make_signals(bars, spans, plan, Walks(dies_after=2), tmp_path / "stopped")
    rest = Walks()
    resumed = make_signals(bars, spans, plan, rest, tmp_path / "stopped")
    assert [date for date, _ in rest.seen] == list(plan.dates[2:])
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_dates_are_done_again_where_their_bars_changed(provider: Provider, out: Path) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    make_signals(bars, spans, plan, Walks(), out)
    bars.loc[(bars["symbol"] == "SP05") & (bars["timestamp"] == plan.dates[2]), "volume"] += 1.0
    again = Walks()
    make_signals(bars, spans, plan, again, out)
    assert plan.dates[2] in [date for date, _ in again.seen]
    assert plan.dates[1] not in [date for date, _ in again.seen]


def test_more_dates_keep_the_earlier_ones(provider: Provider, out: Path) -> None:
    bars, spans = market_bars(), provider.members("all")
    coarse, fine = plan_of(provider, every=20), plan_of(provider, every=10, count=8)
    make_signals(bars, spans, coarse, Walks(), out)
    rest = Walks()
    make_signals(bars, spans, fine, rest, out)
    assert [date for date, _ in rest.seen] == [date for date in fine.dates if date not in set(coarse.dates)]


def test_signals_of_two_settings_do_not_mix(provider: Provider, out: Path) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    make_signals(bars, spans, plan, Walks(), out)
    other = Walks()
    other.fingerprint = "other weights"
    with pytest.raises(ConfigError, match=r"signals of another run .*sampler"):
        make_signals(bars, spans, plan, other, out)


def test_signals_of_two_versions_do_not_mix(provider: Provider, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    make_signals(bars, spans, plan, Walks(), out)
    monkeypatch.setattr("kronos.backtesting.signals.version", lambda name: "999")
    with pytest.raises(ConfigError, match=r"differs in version.*kronos backtest --signals"):
        make_signals(bars, spans, plan, Walks(), out)


def test_dates_made_elsewhere_in_any_order_are_those_made_here(provider: Provider, tmp_path: Path) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    here = make_signals(bars, spans, plan, Walks(), tmp_path / "here")
    asked: list[pd.Timestamp] = []

    def elsewhere(dates: Sequence[pd.Timestamp]) -> Iterator[Dated]:
        past = CrossSections(bars, spans, plan).past
        for date in reversed(dates):
            asked.append(date)
            if len(asked) == 3:
                raise KeyboardInterrupt
            yield date, signals_of_date(past(date), plan, Walks())

    with pytest.raises(KeyboardInterrupt):
        make_signals(bars, spans, plan, Walks(), tmp_path / "there", elsewhere=elsewhere)
    there = make_signals(bars, spans, plan, Walks(), tmp_path / "there", elsewhere=elsewhere)
    assert asked == [*plan.dates[:0:-1], *plan.dates[1::-1]]
    pd.testing.assert_frame_equal(there, here, check_exact=True)


def test_a_worker_with_other_bars_is_found_out(provider: Provider, out: Path) -> None:
    bars, spans, plan = market_bars(), provider.members("all"), plan_of(provider)
    stale = bars.assign(volume=bars["volume"] + 1.0)

    def elsewhere(dates: Sequence[pd.Timestamp]) -> Iterator[Dated]:
        return ((date, signals_of_date(CrossSections(stale, spans, plan).past(date), plan, Walks())) for date in dates)

    with pytest.raises(DataError, match="a worker has other bars up to 2018-"):
        make_signals(bars, spans, plan, Walks(), out, elsewhere=elsewhere)
    assert not list((out / "parts").iterdir())


def test_progress_tells_how_long_it_will_take(provider: Provider, out: Path) -> None:
    told: list[tuple[int, int, str]] = []
    plan = plan_of(provider)
    make_signals(market_bars(), provider.members("all"), plan, Walks(), out, progress=lambda *words: told.append(words))
    assert [done for done, _, _ in told] == [1, 2, 3, 4]
    assert all(total == 4 and "38 symbols" in words and "left" in words for _, total, words in told)


def test_neutral_signals_are_free_of_what_is_named(provider: Provider, out: Path) -> None:
    panel = make_signals(market_bars(), provider.members("all"), plan_of(provider), Walks(), out)
    panel["mean"] = panel["mean"] + 3.0 * panel["volatility"] - 0.01 * panel["market"]
    neutral = neutralise(panel, "mean", ["volatility", "market"])
    assert neutral.name == "mean_neutral"
    for _, rows in panel.assign(neutral=neutral).groupby(level="datetime"):
        assert abs(rows["neutral"].corr(rows["volatility"])) < 1e-9
        assert abs(rows["neutral"].corr(rows["market"])) < 1e-9
        assert abs(rows["mean"].corr(rows["volatility"])) > 0.1


def test_exposures_are_those_of_the_bars(provider: Provider, out: Path) -> None:
    bars, plan = market_bars(), plan_of(provider)
    date = plan.dates[0]
    past = CrossSections(bars, provider.members("all"), plan).past(date)
    rows = signals_of_date(past, plan, Walks()).loc[date]
    closes = bars.pivot(index="timestamp", columns="symbol", values="close").loc[:date]
    moves = np.log(closes).diff().iloc[-60:]
    assert rows.loc["SP04", "volatility"] == pytest.approx(moves["SP04"].std())
    market = moves.mean(axis=1)
    assert rows.loc["SP04", "market"] == pytest.approx(moves["SP04"].cov(market) / market.var())


def test_panels_of_others_are_read_or_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no panel of signals"):
        read_panel(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_panel(tmp_path / "text.parquet")
    table = pd.DataFrame({"instrument": ["A", "A"], "datetime": pd.to_datetime(["2018-01-02"] * 2), "x": [1.0, 2.0]})
    table.to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="twice"):
        read_panel(tmp_path / "twice.parquet")
    table.drop(columns="datetime").to_parquet(tmp_path / "nodate.parquet")
    with pytest.raises(DataError, match="no datetime and instrument"):
        read_panel(tmp_path / "nodate.parquet")
    table.iloc[:1].to_parquet(tmp_path / "good.parquet")
    assert read_panel(tmp_path / "good.parquet").index.names == ["datetime", "instrument"]
