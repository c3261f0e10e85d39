"""The study of a signal without a strategy, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.backtesting.market import panel_of

from kronos.backtesting.signals import momentum_signal, random_signal
from kronos.backtesting.summary import (
    capacity,
    drawdown,
    forward_returns,
    group_returns,
    in_words,
    monthly,
    overlap_lags,
    study,
)

DAYS = pd.bdate_range("2018-01-01", periods=60)


def prices() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    moves = rng.normal(0.0, 0.02, (60, 40))
    return pd.DataFrame(100 * np.exp(np.cumsum(moves, axis=0)), index=DAYS, columns=[f"S{k:02d}" for k in range(40)])


def test_forward_returns_start_on_the_next_session() -> None:
    table = pd.DataFrame({"A": [10.0, 20.0, 30.0, 45.0], "B": [1.0, np.nan, 2.0, 3.0]}, index=DAYS[:4])
    found = forward_returns(table, DAYS[[0]], 2)
    assert found.to_dict() == {(DAYS[0], "A"): pytest.approx(45 / 20 - 1)}  # B has nothing to enter at
    assert forward_returns(table, DAYS[[1]], 2).empty  # nothing to leave at


def test_exit_of_a_suspended_name_is_its_last_price() -> None:
    table = pd.DataFrame({"A": [10.0, 20.0, 30.0, np.nan]}, index=DAYS[:4])
    assert forward_returns(table, DAYS[[0]], 2).iloc[0] == pytest.approx(0.5)


def test_two_names_cannot_be_ordered_and_the_verdict_says_so() -> None:
    table = prices().iloc[:, :2]
    found = study(panel_of(table.pct_change().iloc[1:], "two"), table, 5, 2)
    figures = {"excess_annual": {"value": 0.01, "low": -0.1, "high": 0.1}}
    compared = [{"signal": "two", "other": "universe", "words": "no edge shown over the universe"}]
    words = in_words("two", figures, found, float("nan"), compared)["words"]
    assert words.endswith("cannot be told: no date has enough names with unlike signals.")
    assert "nan" not in words


def test_groups_of_equal_size() -> None:
    signal = panel_of(pd.DataFrame([np.arange(20.0)], index=DAYS[:1], columns=[f"S{k:02d}" for k in range(20)]), "x")
    found = group_returns(signal, signal, 10)
    assert list(found.iloc[0]) == [0.5 + 2 * k for k in range(10)]
    assert group_returns(signal.iloc[:19], signal, 10).empty  # fewer names than twice the groups


def test_a_signal_that_knows_is_a_ladder_and_noise_is_not() -> None:
    table = prices()
    knows = panel_of(table.shift(-6) / table.shift(-1) - 1, "knows")
    found = study(knows, table, 5, 10)
    assert found.rank_ic_test.mean == pytest.approx(1.0)
    assert found.monotone == pytest.approx(1.0)
    assert (np.diff(found.groups) > 0).all()
    assert found.decay["rank_ic"].idxmax() == 5
    noise = study(
        panel_of(pd.DataFrame(np.random.default_rng(1).random((60, 40)), DAYS, table.columns), "n"), table, 5, 10
    )
    assert abs(noise.rank_ic_test.mean) < 0.1
    assert noise.turnover > 0.7
    still = study(panel_of(pd.DataFrame([np.arange(40.0)] * 60, DAYS, table.columns), "still"), table, 5, 10)
    assert still.turnover == 0.0


def test_lags_cover_the_overlap() -> None:
    assert [overlap_lags(10, step) for step in (1, 5, 10, 20)] == [19, 3, 0, 0]


def test_baselines() -> None:
    table = prices()
    index = panel_of(table.iloc[[30, 40]], "x").index
    found = momentum_signal(index, table, 20)
    assert found.loc[(DAYS[30], "S03")] == pytest.approx(table.iloc[30]["S03"] / table.iloc[10]["S03"] - 1)
    pd.testing.assert_series_equal(random_signal(index, 7), random_signal(index, 7))
    assert not random_signal(index, 7).equals(random_signal(index, 8))


def test_months_and_drawdowns() -> None:
    daily = pd.Series(
        [0.1, 0.1, -0.5, 0.2], index=pd.to_datetime(["2018-01-30", "2018-01-31", "2018-02-01", "2018-02-02"])
    )
    assert list(monthly(daily)) == pytest.approx([0.21, -0.4])
    assert list(drawdown(daily)) == pytest.approx([0.0, 0.0, -0.5, -0.4])
    assert drawdown(pd.Series([-0.2, 0.1])).iloc[0] == pytest.approx(-0.2)  # the start is a peak


def test_capacity_by_hand() -> None:
    """Twenty names of 5 % each, a tenth of a per cent of 2 million a day: 2,000 an order, 40,000 in all."""
    days = DAYS[:30]
    amounts = pd.DataFrame({"A": 2e6, "B": 1e9}, index=days)
    held = pd.DataFrame({"A": 0.05, "B": 0.0}, index=days)
    assert capacity(held, amounts, 0.05, 0.001)["median"] == pytest.approx(40_000)
    nothing = capacity(held * 0, amounts, 0.05, 0.001)
    assert nothing["median"] is None
