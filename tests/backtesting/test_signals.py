"""Signals: in return space, from the past alone, the same after a stop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.backtesting.market import SUSPENDED, market_bars

from kronos.backtesting.config import SIGNALS
from kronos.backtesting.provider import Provider
from kronos.backtesting.signals import (
    Dated,
    DateSignals,
    make_signals,
    neutralise,
    path_signals,
    read_panel,
)
from kronos.errors import ConfigError, DataError
from kronos.inference.predictor import KronosPredictor
from kronos.protocol import CLOSE, Context, ForecastSpec

SPEC = ForecastSpec(horizon=5, num_samples=3, context_length=30, calendar="XNYS")


class Walks:
    """A forecaster without a model: paths drawn from the context's own returns, and a record of what it was given."""

    name = fingerprint = "walks"

    def __init__(self, dies_after: int | None = None) -> None:
        self.seen: list[tuple[pd.Timestamp, int]] = []
        self.dies_after = dies_after

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[Any]:
        if self.dies_after is not None and len(self.seen) >= self.dies_after:
            raise KeyboardInterrupt
        assert len({context.cutoff for context in contexts}) == 1
        assert contexts[0].future_timestamps[0] > contexts[0].cutoff
        self.seen.append((pd.Timestamp(contexts[0].cutoff), len(contexts)))
        found = []
        for context in contexts:
            close = context.values[:, CLOSE]
            rng = np.random.default_rng(zlib.crc32(close.tobytes()))
            moves = rng.choice(np.diff(np.log(close)), (spec.num_samples, spec.horizon))
            found.append(np.repeat((close[-1] * np.exp(np.cumsum(moves, axis=1)))[..., None], 6, axis=2))
        return found


@pytest.fixture(scope="module")
def nano() -> KronosPredictor:
    return KronosPredictor.from_pretrained("kronos-nano")


def dates_of(provider: Provider, every: int = 20, count: int = 4) -> pd.DatetimeIndex:
    return provider.sessions(pd.Timestamp("2018-08-01"), pd.Timestamp("2018-12-31"))[::every][:count]


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
    dates, sampler = dates_of(provider), Walks()
    panel = make_signals(market_bars(), provider.members("all"), dates, SPEC, sampler, out)
    assert [date for date, _ in sampler.seen] == list(dates)
    assert panel.index.names == ["datetime", "instrument"]
    assert list(panel.columns) == [*SIGNALS, "volatility", "market"]
    assert len(panel) == 38 * 4
    pd.testing.assert_frame_equal(read_panel(out / "signals.parquet"), panel.sort_index())


def test_a_suspended_symbol_has_no_signal_that_day(provider: Provider, out: Path) -> None:
    symbol, session = SUSPENDED
    date = provider.calendar()[session]
    dates = pd.DatetimeIndex([date])
    panel = make_signals(market_bars(), provider.members("all"), dates, SPEC, Walks(), out)
    assert len(panel) == 37
    assert symbol not in panel.index.get_level_values("instrument")


def test_members_alone_have_signals(provider: Provider, out: Path) -> None:
    dates = dates_of(provider)
    spans = {"SP01": [(dates[0], dates[1])], "SP03": [(dates[1], dates[3])]}
    panel = make_signals(market_bars(), spans, dates, SPEC, Walks(), out)
    by_date = panel.reset_index().groupby("datetime")["instrument"].agg(list)
    assert list(by_date) == [["SP01"], ["SP01", "SP03"], ["SP03"], ["SP03"]]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["values", "gone"])
def test_no_later_bar_changes_a_signal_by_a_bit(
    provider: Provider, nano: KronosPredictor, tmp_path: Path, change: str
) -> None:
    bars, dates = market_bars(), dates_of(provider, count=3)
    bars = bars[bars["symbol"].isin([f"SP{k:02d}" for k in range(8)])].reset_index(drop=True)
    spans, cut = provider.members("all"), dates[1]
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
    one = make_signals(bars, spans, dates, SPEC, nano, tmp_path / "one")
    two = make_signals(other, spans, dates, SPEC, nano, tmp_path / "two")
    known = one.index.get_level_values("datetime") <= cut
    pd.testing.assert_frame_equal(one[known], two[two.index.get_level_values("datetime") <= cut], check_exact=True)
    after = two.reindex(one.index)[~known]
    assert not after.equals(one[~known])  # the change does reach the date behind it


def test_a_stopped_run_goes_on_as_if_it_never_stopped(provider: Provider, tmp_path: Path) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    whole = make_signals(bars, spans, dates, SPEC, Walks(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make_signals(bars, spans, dates, SPEC, Walks(dies_after=2), tmp_path / "stopped")
    rest = Walks()
    resumed = make_signals(bars, spans, dates, SPEC, rest, tmp_path / "stopped")
    assert [date for date, _ in rest.seen] == list(dates[2:])
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_dates_are_done_again_where_their_bars_changed(provider: Provider, out: Path) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    make_signals(bars, spans, dates, SPEC, Walks(), out)
    bars.loc[(bars["symbol"] == "SP05") & (bars["timestamp"] == dates[2]), "volume"] += 1.0
    again = Walks()
    make_signals(bars, spans, dates, SPEC, again, out)
    assert dates[2] in [date for date, _ in again.seen]
    assert dates[1] not in [date for date, _ in again.seen]


def test_more_dates_keep_the_earlier_ones(provider: Provider, out: Path) -> None:
    bars, spans = market_bars(), provider.members("all")
    coarse, fine = dates_of(provider, every=20), dates_of(provider, every=10, count=8)
    make_signals(bars, spans, coarse, SPEC, Walks(), out)
    rest = Walks()
    make_signals(bars, spans, fine, SPEC, rest, out)
    assert [date for date, _ in rest.seen] == [date for date in fine if date not in set(coarse)]


def test_signals_of_two_settings_do_not_mix(provider: Provider, out: Path) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    make_signals(bars, spans, dates, SPEC, Walks(), out)
    other = Walks()
    other.fingerprint = "other weights"
    with pytest.raises(ConfigError, match=r"signals of another run .*sampler"):
        make_signals(bars, spans, dates, SPEC, other, out)


def test_signals_of_two_versions_do_not_mix(provider: Provider, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    make_signals(bars, spans, dates, SPEC, Walks(), out)
    monkeypatch.setattr("kronos.backtesting.signals.version", lambda name: "999")
    with pytest.raises(ConfigError, match=r"differs in version.*kronos backtest --signals"):
        make_signals(bars, spans, dates, SPEC, Walks(), out)


def test_dates_made_elsewhere_in_any_order_are_those_made_here(provider: Provider, tmp_path: Path) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    here = make_signals(bars, spans, dates, SPEC, Walks(), tmp_path / "here")
    asked: list[pd.Timestamp] = []

    def remote(missing: Sequence[pd.Timestamp]) -> Iterator[Dated]:
        signals_of = DateSignals(bars, spans, dates, SPEC, Walks())
        for date in reversed(missing):
            asked.append(date)
            if len(asked) == 3:
                raise KeyboardInterrupt
            yield signals_of(date)

    with pytest.raises(KeyboardInterrupt):
        make_signals(bars, spans, dates, SPEC, Walks(), tmp_path / "there", remote=remote)
    there = make_signals(bars, spans, dates, SPEC, Walks(), tmp_path / "there", remote=remote)
    assert asked == [*dates[:0:-1], *dates[1::-1]]
    pd.testing.assert_frame_equal(there, here, check_exact=True)


def test_a_worker_with_other_bars_is_found_out(provider: Provider, out: Path) -> None:
    bars, spans, dates = market_bars(), provider.members("all"), dates_of(provider)
    stale = bars.assign(volume=bars["volume"] + 1.0)

    def remote(missing: Sequence[pd.Timestamp]) -> Iterator[Dated]:
        return map(DateSignals(stale, spans, dates, SPEC, Walks()), missing)

    with pytest.raises(DataError, match="a worker has other bars up to 2018-"):
        make_signals(bars, spans, dates, SPEC, Walks(), out, remote=remote)
    assert not list((out / "parts").iterdir())


def test_progress_tells_how_long_it_will_take(provider: Provider, out: Path) -> None:
    told: list[tuple[int, int, str]] = []
    dates = dates_of(provider)
    make_signals(
        market_bars(), provider.members("all"), dates, SPEC, Walks(), out, progress=lambda *words: told.append(words)
    )
    assert [done for done, _, _ in told] == [1, 2, 3, 4]
    assert all(total == 4 and "38 symbols" in words and "left" in words for _, total, words in told)


def test_neutral_signals_are_free_of_what_is_named(provider: Provider, out: Path) -> None:
    panel = make_signals(market_bars(), provider.members("all"), dates_of(provider), SPEC, Walks(), out)
    panel["mean"] = panel["mean"] + 3.0 * panel["volatility"] - 0.01 * panel["market"]
    neutral = neutralise(panel, "mean", ["volatility", "market"])
    assert neutral.name == "mean_neutral"
    for _, rows in panel.assign(neutral=neutral).groupby(level="datetime"):
        assert abs(rows["neutral"].corr(rows["volatility"])) < 1e-9
        assert abs(rows["neutral"].corr(rows["market"])) < 1e-9
        assert abs(rows["mean"].corr(rows["volatility"])) > 0.1


def test_exposures_are_those_of_the_bars(provider: Provider, out: Path) -> None:
    bars, dates = market_bars(), dates_of(provider)
    date, rows = DateSignals(bars, provider.members("all"), dates, SPEC, Walks())(dates[0])
    rows = rows.loc[date]
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
