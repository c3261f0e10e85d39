"""Identities of the backtest: what must come out, whatever the market does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.backtesting.market import export_market, next_returns, panel_of, random_table, research

from kronos.backtesting.config import UNIVERSE, BacktestSettings
from kronos.backtesting.provider import Provider
from kronos.backtesting.run import run_backtest
from kronos.backtesting.simulate import benchmark_returns, ranks, simulate, tradable_sessions
from kronos.backtesting.summary import annual_mean, performance
from kronos.errors import ConfigError, DataError

FREE = {"open_cost": 0.0, "close_cost": 0.0, "min_cost": 0.0}
SPAN = (pd.Timestamp("2018-03-01"), pd.Timestamp("2018-12-31"))


@pytest.fixture(scope="module")
def sessions(provider: Provider) -> pd.DatetimeIndex:
    return tradable_sessions(provider, provider.sessions(*SPAN))


@pytest.fixture(scope="module")
def bench(provider: Provider, sessions: pd.DatetimeIndex) -> pd.Series:
    return benchmark_returns(provider, UNIVERSE, provider.members("all"), sessions)


def names_of(provider: Provider) -> list[str]:
    return sorted(provider.members("all"))


@pytest.mark.parametrize("deal_price", ["open", "close"])
def test_free_buy_and_hold_is_the_price_return(
    provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series, deal_price: str
) -> None:
    """One symbol, bought on the session after the signal and never sold: wealth follows its price to float32."""
    signal = panel_of(pd.DataFrame({"NQ04": [1.0]}, index=sessions[:1]), "hold")
    settings = BacktestSettings(topk=1, n_drop=1, invested=1.0, deal_price=deal_price, **FREE)
    done = simulate(provider, signal, bench, settings)
    prices = provider.features(["NQ04"], list({"close", deal_price}), sessions[0], sessions[-1]).loc["NQ04"]
    bought = float(prices[deal_price].iloc[1])
    expected = prices["close"].astype(float).to_numpy()[1:] / bought
    wealth = (1 + done.net).cumprod().to_numpy()
    np.testing.assert_allclose(wealth[1:], expected, rtol=1e-6)
    assert wealth[0] == 1.0
    assert (done.daily["cost"] == 0).all()
    assert list(done.holdings) == [0] + [1] * (len(sessions) - 1)


def test_costs_are_those_asked_for(provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series) -> None:
    """Gross less net is the cost, and the cost of a sure turn of the whole portfolio is its two rates."""
    table = pd.DataFrame({"SP05": [1.0, 0.0], "SP06": [0.0, 1.0]}, index=sessions[[0, 20]])
    settings = BacktestSettings(topk=1, n_drop=1, hold_thresh=1, invested=0.5, open_cost=0.01, close_cost=0.02)
    done = simulate(provider, panel_of(table, "turn"), bench, settings)
    paid = done.daily["cost"]
    assert paid.iloc[1] == pytest.approx(0.5 * 0.01, rel=1e-6)
    assert paid.iloc[21] == pytest.approx(0.5 * 0.02 + 0.5 * 0.01, rel=0.1)
    assert done.daily["turnover"].iloc[21] == pytest.approx(1.0, rel=0.1)  # half the account sold, half bought
    assert (paid.drop(paid.index[[1, 21]]) == 0).all()
    account = done.daily["account"] / settings.account
    np.testing.assert_allclose((1 + done.net).cumprod(), account, rtol=1e-9)


def test_names_at_the_limit_are_not_traded(tmp_path: Path) -> None:
    """The deal day's own move is beyond the limit, so the order fails, as Qlib has it."""
    provider = export_market(tmp_path / "p")
    sessions = tradable_sessions(provider, provider.sessions(*SPAN))
    bench = benchmark_returns(provider, UNIVERSE, provider.members("all"), sessions)
    moves = provider.features(["SP05"], ["change"], *SPAN).loc["SP05"]["change"]
    day = int(np.argmax(moves.to_numpy()[1:])) + 1
    signal = panel_of(pd.DataFrame({"SP05": [1.0]}, index=sessions[[day - 1]]), "limit")
    size = float(moves.iloc[day])
    for limit, held in ((size * 0.99, 0), (size * 1.01, 1)):
        done = simulate(provider, signal, bench, BacktestSettings(topk=1, n_drop=1, limit_threshold=limit, **FREE))
        assert done.holdings.iloc[day] == held


@pytest.mark.slow
def test_random_signals_lose_the_costs(provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series) -> None:
    settings = BacktestSettings(topk=10, n_drop=5, hold_thresh=1, invested=1.0)
    excess, costs, turnover = [], [], []
    for seed in range(4):
        signal = panel_of(random_table(sessions, names_of(provider), seed), "lots")
        done = simulate(provider, signal, bench, settings)
        excess.append((done.net - done.daily["bench"]).to_numpy())
        costs.append(done.daily["cost"].mean() * 252)
        turnover.append(done.daily["turnover"].mean() * 252)
    cost = float(np.mean(costs))
    assert cost == pytest.approx(0.00125 * np.mean(turnover), rel=0.02)  # both sides of a trade, 25 bp together
    found = annual_mean(np.mean(excess, axis=0), 252)
    assert found.low < -cost < found.high
    assert found.high < 0


@pytest.mark.slow
def test_a_signal_that_knows_wins_hugely(provider: Provider, tmp_path: Path) -> None:
    names = names_of(provider)
    knows = next_returns(provider, names, 5).loc[SPAN[0] : SPAN[1]]
    noise = random_table(pd.DatetimeIndex(knows.index), names, 1)
    panel = pd.DataFrame({"knows": panel_of(knows, "knows"), "noise": panel_of(noise, "noise")}).dropna()
    config = research(provider, tmp_path, signals=("knows", "noise"), random_runs=2)
    config = config.model_copy(update={"backtest_time_range": (SPAN[0].date(), SPAN[1].date())})
    done = run_backtest(config, provider, panel, notes={"one": "a note"})
    figures, studies = done.summary["strategies"], done.summary["studies"]
    assert figures["knows"]["excess_annual"]["low"] > 0.5
    assert figures["knows"]["information_ratio"]["value"] > 5
    assert studies["knows"]["rank_ic"]["mean"] > 0.99
    assert studies["knows"]["monotone"] == pytest.approx(1.0)
    assert np.all(np.diff(studies["knows"]["groups"]) > 0)
    words = {entry["signal"]: entry["words"] for entry in done.summary["verdict"]}
    assert "better than the equal-weight universe; better than a random signal; better than momentum" in words["knows"]
    assert "orders what comes (rank IC +1.000" in words["knows"]
    assert words["noise"].count("no edge shown over") + words["noise"].count("worse than") == 3
    assert "does not show that it orders what comes" in words["noise"]
    assert abs(studies["noise"]["rank_ic"]["mean"]) < 0.05
    assert done.summary["notes"][0] == "a note"
    assert len(figures["random"]["runs_excess_annual"]) == 2


def test_two_backtests_in_one_process_leave_nothing_behind(
    provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another provider in between, the same figures again; nothing written, nothing said, nothing hooked."""
    (tmp_path / "work").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    hook = sys.excepthook
    here = Provider(os.path.relpath(provider.folder))
    signal = panel_of(random_table(sessions, names_of(provider), 0), "lots")
    other = export_market(tmp_path / "other")
    halves = pd.Series(0.0, index=sessions[:50])
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        first = simulate(here, signal, bench, BacktestSettings(topk=5, n_drop=2))
        simulate(other, signal, halves, BacktestSettings(topk=3, n_drop=1, deal_price="close"))
        second = simulate(here, signal, bench, BacktestSettings(topk=5, n_drop=2))
    pd.testing.assert_frame_equal(first.daily, second.daily, check_exact=True)
    assert said.getvalue() == ""
    assert not list((tmp_path / "work").iterdir())
    assert not list((tmp_path / "home").iterdir())
    assert sys.excepthook is hook
    assert "mlflow" not in sys.modules


SEEDED = """
import sys
import pandas as pd
from pathlib import Path
from tests.backtesting.market import panel_of, random_table, research
from kronos.backtesting.provider import Provider
from kronos.backtesting.report import write_report
from kronos.backtesting.run import run_backtest

provider = Provider(Path(sys.argv[1]))
sessions = provider.sessions(pd.Timestamp("2018-08-10"), pd.Timestamp("2018-12-31"))
names = sorted(provider.members("all"))
panel = panel_of(random_table(sessions[::5], names, 0), "mean").to_frame()
config = research(provider, Path("/nowhere"), topk=5, n_drop=2, random_runs=1)
write_report(run_backtest(config, provider, panel), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_hashes_of_names_change_no_digit(provider: Provider, tmp_path: Path) -> None:
    """Two processes order the names in a set in two ways; what they write is the same to the byte."""
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        place = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
        words = [sys.executable, "-c", SEEDED, str(provider.folder), str(tmp_path / seed)]
        done = subprocess.run(words, env=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for name in ("daily.parquet", "summary.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_benchmarks(provider: Provider, sessions: pd.DatetimeIndex) -> None:
    spans = provider.members("some")
    closes = provider.table(sorted(spans), provider.calendar()[0], sessions[-1])
    universe = benchmark_returns(provider, UNIVERSE, spans, sessions)
    day = sessions[30]
    before = provider.calendar()[provider.calendar().get_loc(day) - 1]
    assert universe.loc[day] == pytest.approx((closes.loc[day] / closes.loc[before] - 1).mean())
    index = benchmark_returns(provider, "SP08", spans, sessions)
    wealth = (1 + index).prod()
    first = provider.calendar()[provider.calendar().get_loc(sessions[0]) - 1]
    whole = provider.table(["SP08"], first, sessions[-1])["SP08"]
    assert wealth == pytest.approx(whole.iloc[-1] / whole.iloc[0])
    with pytest.raises(
        ConfigError, match=r"has no benchmark 'SH000300'; name one of its 38 instruments, or 'universe'"
    ):
        benchmark_returns(provider, "SH000300", spans, sessions)


def test_a_benchmark_without_bars_is_refused(provider: Provider, tmp_path: Path) -> None:
    other = export_market(tmp_path / "p")
    path = other.folder / "features" / "sp08" / "close.day.bin"
    values = np.fromfile(path, dtype="<f4")
    values[100:] = np.nan
    values.tofile(path)
    sessions = tradable_sessions(other, other.sessions(*SPAN))
    with pytest.raises(ConfigError, match=r"benchmark 'SP08' has bars on \d+ of the 210 sessions"):
        benchmark_returns(other, "SP08", other.members("all"), sessions)


def test_signals_of_other_names_or_dates_are_refused(
    provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series
) -> None:
    strange = panel_of(pd.DataFrame({"AAPL": [1.0]}, index=sessions[:1]), "x")
    with pytest.raises(DataError, match=r"1 instruments that the provider .* does not have, the first 'AAPL'"):
        simulate(provider, strange, bench, BacktestSettings())
    old = panel_of(pd.DataFrame({"SP01": [1.0]}, index=[pd.Timestamp("2018-01-03")]), "x")
    with pytest.raises(DataError, match="no signal lies in the backtest"):
        simulate(provider, old, bench, BacktestSettings())
    with pytest.raises(ConfigError, match="has 1 sessions before the last one"):
        tradable_sessions(provider, provider.calendar()[-2:])


def test_equal_signals_are_ordered_by_lot() -> None:
    days = pd.date_range("2018-01-01", periods=400)
    ties = panel_of(pd.DataFrame({"A": 0.2, "B": 0.2, "C": 0.4}, index=days), "ties")
    placed = ranks(ties, seed=0).unstack("instrument")
    assert (placed["C"] == 2).all()
    assert 0.4 < (placed["A"] == 1).mean() < 0.6
    pd.testing.assert_series_equal(ranks(ties, 0), ranks(ties, 0))


def test_figures_follow_their_definitions(provider: Provider, sessions: pd.DatetimeIndex, bench: pd.Series) -> None:
    signal = panel_of(random_table(sessions, names_of(provider), 3), "lots")
    done = simulate(provider, signal, bench, BacktestSettings(topk=5, n_drop=2))
    found = performance(done, 252)
    net = done.daily["gross"] - done.daily["cost"]
    excess = net - done.daily["bench"]
    wealth = (1 + net).cumprod()
    assert found["annual_return"] == pytest.approx(wealth.iloc[-1] ** (252 / len(net)) - 1)
    assert found["excess_annual"]["value"] == pytest.approx(excess.mean() * 252)
    assert found["information_ratio"]["value"] == pytest.approx(excess.mean() / excess.std() * np.sqrt(252), rel=0.01)
    assert found["sharpe"]["value"] == pytest.approx(net.mean() / net.std() * np.sqrt(252), rel=0.01)
    peak = np.maximum(1.0, wealth.cummax())
    assert found["max_drawdown"] == pytest.approx((wealth / peak - 1).min())
    assert found["turnover"] == pytest.approx(done.daily["turnover"].mean())
    assert found["qlib"]["annualized_return"] == pytest.approx(excess.mean() * 238)
    interval = found["excess_annual"]
    assert interval["low"] < interval["value"] < interval["high"]
