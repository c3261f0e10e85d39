"""Summaries and verdicts: those who know win, those who guess show no edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import Knowing, Stranger

from kronos.errors import ConfigError, DataError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.rolling import as_series, rolling_windows, score_windows
from kronos.evaluation.run import Plan, check_tasks, evaluate, paper_window
from kronos.evaluation.statistics import (
    Estimate,
    block_bootstrap,
    diebold_mariano,
    ic_by_date,
    overlap_of,
    rank_correlation,
    verdict,
)
from kronos.evaluation.summary import (
    Comparison,
    compare,
    corrected,
    headlines,
    horizon_tables,
    in_words,
    per_window,
    return_row,
)
from kronos.protocol import CLOSE

Maker = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def bars(make_bars: Maker) -> pd.DataFrame:
    """Eight symbols of independent random walks."""
    return pd.concat([make_bars(700, s).assign(symbol=f"S{s}") for s in range(8)], ignore_index=True)


@pytest.fixture(scope="module")
def scores(bars: pd.DataFrame) -> pd.DataFrame:
    """The long table of two strangers to the market and one who knows it."""
    windows = rolling_windows(bars, 100, 12, n_windows=30, group="walks_1h")
    forecasters = [
        Knowing(bars, noise=0.001),
        Stranger(),
        *make_baselines(["last-close", "drift", "rw-resampled", "ewma"]),
    ]
    return score_windows(windows, forecasters, 40)


def test_verdicts_of_one_who_knows_and_one_who_guesses(scores: pd.DataFrame) -> None:
    windows = per_window(scores)
    baselines = ["last-close", "drift", "rw-resampled", "ewma"]
    found = compare(windows, ["price", "return", "volatility"], ["knowing", "stranger"], baselines)
    words = {(c.model, c.task, c.baseline): c.words for c in found}
    for baseline in baselines:
        assert words["knowing", "price", baseline] == f"better than {baseline}"
    assert words["knowing", "return", "last-close"] == "better than last-close"
    assert words["stranger", "price", "rw-resampled"] == "no edge shown over rw-resampled"
    assert words["stranger", "price", "last-close"] == "better than last-close"
    assert words["stranger", "return", "last-close"] == "no edge shown over last-close"
    assert ("knowing", "return", "ewma") not in words  # ranks by chance: nothing to beat
    assert ("knowing", "volatility", "drift") not in words
    assert all(c.adjusted_p >= c.p for c in found if np.isfinite(c.p))


def test_straw_men_do_not_weigh_on_what_was_asked(scores: pd.DataFrame) -> None:
    """Holm's correction counts the questions of a model and market, not all that was compared beside them."""
    rows, tasks, few = per_window(scores), ["price", "volatility"], ["rw-resampled", "ewma"]
    many = [*few, "last-close", "drift"]
    one, other = (
        {(c.task, c.baseline): c.adjusted_p for c in compare(rows, tasks, ["stranger"], names) if c.asked}
        for names in (few, many)
    )
    assert one == other
    assert set(one) == {("price", "rw-resampled"), ("volatility", "ewma"), ("coverage", "90 %")}
    clear = Comparison("volatility", "m", "nano", "ewma", Estimate(-0.2, -0.3, -0.1), -0.22, 0.012, 0.012, 40, "t", "")
    straw = [replace(clear, task="price", baseline="drift", p=0.5) for _ in range(50)]
    found = corrected([clear, *straw])
    assert found[0].words == "better than ewma"
    assert headlines(found) == ["nano, volatility: better than ewma (QLIKE 22.0% lower, p 0.012)."]
    few = replace(clear, difference=Estimate(-0.2, np.nan, np.nan), adjusted_p=1e-4)
    assert headlines([few]) == ["nano, volatility: too few dates to compare with ewma."]


def test_the_verdict_is_three_plain_sentences(scores: pd.DataFrame) -> None:
    found = compare(per_window(scores), ["price", "volatility"], ["stranger"], ["rw-resampled", "ewma", "drift"])
    prices, volatility, intervals = headlines(found)
    assert prices.startswith("stranger, prices: no difference shown to rw-resampled (CRPS ")
    assert volatility.startswith("stranger, volatility: ")
    assert "drift" not in volatility
    assert "90 % intervals cover" in intervals
    assert {line["task"] for line in in_words(found)} == {"price", "volatility", "coverage"}


def test_the_close_is_judged_at_several_horizons(scores: pd.DataFrame) -> None:
    found = horizon_tables(scores, (1, 12), "rw-resampled")["walks_1h"]
    assert set(found["stranger"]) == {"1", "12"}
    assert found["rw-resampled"]["12"]["crps_ratio"]["value"] == 1.0
    last = scores[scores["step"] == 12].groupby("forecaster")["crps"].mean()
    expected = last["stranger"] / last["rw-resampled"]
    assert found["stranger"]["12"]["crps_ratio"]["value"] == pytest.approx(expected, abs=1e-12)


def test_knowing_the_future_scores_near_zero(scores: pd.DataFrame) -> None:
    means = per_window(scores).groupby("forecaster")["crps"].mean()
    assert means["knowing"] < 0.05 * means["rw-resampled"]
    assert means["stranger"] == pytest.approx(means["rw-resampled"], rel=0.03)


def test_comparison_recomputed_independently(scores: pd.DataFrame) -> None:
    """Group by hand, subtract, average over symbols of a date, test."""
    found = compare(per_window(scores), ["price"], ["stranger"], ["rw-resampled"])[0]
    table = scores[scores["forecaster"].isin(["stranger", "rw-resampled"])]
    by_date = table.groupby(["forecaster", "date"])["crps"].mean()
    gap = (by_date["stranger"] - by_date["rw-resampled"]).to_numpy()
    assert found.difference.value == pytest.approx(gap.mean(), abs=1e-12)
    assert found.p == pytest.approx(diebold_mariano(gap, np.zeros(len(gap))).p, abs=1e-12)
    assert found.n == 30


def test_return_figures_recomputed_and_shuffled_signals_show_nothing(scores: pd.DataFrame) -> None:
    rows = per_window(scores)
    knowing = rows[rows["forecaster"] == "knowing"].copy()
    figures = return_row(knowing)
    by_hand = [rank_correlation(p["predicted_return"], p["true_return"]) for _, p in knowing.groupby("date")]
    assert figures["rank_ic"]["value"] == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert figures["rank_ic"]["low"] > 0.8
    assert figures["hit_rate"]["value"] > 0.9
    names = ("ic", "rank_ic", "pooled_ic", "pooled_rank_ic")
    rng, held = np.random.default_rng(0), dict.fromkeys(names, 0)
    for _ in range(40):
        blind = return_row(knowing.assign(predicted_return=rng.permutation(knowing["predicted_return"])))
        for name in names:
            held[name] += blind[name]["low"] < 0.0 < blind[name]["high"]
    assert min(held.values()) >= 34  # 95 % intervals: 38 of 40 contain zero on average


def test_per_window_averages_steps_and_undoes_the_scaling(scores: pd.DataFrame) -> None:
    rows = per_window(scores)
    one = rows[(rows["forecaster"] == "ewma")].iloc[5]
    part = scores[(scores["forecaster"] == "ewma") & (scores["window_id"] == one["window_id"])]
    assert len(part) == 12
    assert one["crps"] == pytest.approx(part["crps"].mean(), abs=1e-12)
    last = part[part["step"] == 12].iloc[0]
    assert one["true_return"] == pytest.approx(last["true_move"] * last["context_volatility"], abs=1e-12)
    assert one["span"] == pd.Timedelta(hours=12)


def test_those_who_guess_are_rarely_taken_for_skilled() -> None:
    """Many guessers on many markets: the verdict on RankIC errs about as often as it says, not more."""
    rng = np.random.default_rng(0)
    dates = np.repeat(np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(1, "D"), 8)
    taken = 0
    for _ in range(150):
        outcome, guess = rng.standard_t(4, size=dates.size), rng.normal(size=dates.size)
        _, values = ic_by_date(dates, guess, outcome, rank=True)
        test = diebold_mariano(values, np.zeros(len(values)))
        taken += verdict("X", block_bootstrap(values, 3, draws=300), test.p) != "no edge shown over X"
    assert taken / 150 < 0.09


def test_overlap_counts_shared_truths() -> None:
    days = np.datetime64("2024-01-01", "ns") + np.arange(10) * np.timedelta64(1, "D")
    assert overlap_of(days, np.timedelta64(1, "D")) == 1
    assert overlap_of(days, np.timedelta64(5, "D")) == 5
    assert overlap_of(days[:1], np.timedelta64(5, "D")) == 1


def test_whole_evaluation_of_two_markets(bars: pd.DataFrame) -> None:
    markets = {"walks_1h": as_series(bars), "walks_4h": as_series(bars[bars["symbol"] < "S5"])}
    plan = Plan(
        tasks=("price", "return", "volatility", "generation"),
        context=60,
        horizon=8,
        n_windows=9,
        num_samples=25,
        generation_steps=20,
    )
    found = evaluate(markets, [Stranger(), *make_baselines(["rw-resampled", "last-close"])], plan)
    summary = found.summary
    assert set(summary["tasks"]) == {"price", "return", "volatility", "generation"}
    assert set(summary["tasks"]["price"]) == {"walks_1h", "walks_4h", "all markets"}
    assert summary["tasks"]["price"]["walks_1h"]["rw-resampled"]["crps_ratio"]["value"] == 1.0
    assert summary["markets"]["walks_1h"]["windows"] == 72
    assert {v["model"] for v in summary["verdicts"]} == {"stranger"}
    assert [e.kind for e in found.examples] == ["best", "median", "worst"]
    assert found.examples[0].crps <= found.examples[1].crps <= found.examples[2].crps
    assert "last-close" not in summary["tasks"]["volatility"]["walks_1h"]
    assert len(found.table) == (72 + 45) * 3 * 8


def test_requests_that_make_no_sense(bars: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="unknown task"):
        check_tasks(["prices"])
    with pytest.raises(DataError, match="yardstick"):
        evaluate({"m": as_series(bars)}, make_baselines(["ewma"]), Plan(context=60, horizon=8, n_windows=2))
    with pytest.raises(DataError, match=r"market 'm'.*no test window"):
        evaluate({"m": as_series(bars)}, make_baselines(["rw-resampled"]), Plan(context=6000, horizon=8))


@pytest.mark.parametrize(
    ("minutes", "expected"), [(1, (480, 96)), (5, (480, 96)), (60, (80, 12)), (240, (90, 18)), (10080, (40, 12))]
)
def test_paper_windows(minutes: int, expected: tuple[int, int]) -> None:
    assert paper_window(np.timedelta64(minutes, "m")) == expected


def test_closes_are_what_is_scored(scores: pd.DataFrame) -> None:
    assert CLOSE == 3
    assert scores["invalid"].max() == 0.0
