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
from kronos.evaluation.figures import cluster_labels, per_window, return_row, volatility_row
from kronos.evaluation.rolling import as_series, rolling_windows, score_windows
from kronos.evaluation.run import Plan, check_tasks, draw_markets, evaluate, paper_window
from kronos.evaluation.statistics import (
    Estimate,
    block_bootstrap,
    diebold_mariano,
    ic_by_date,
    overlap_of,
    rank_correlation,
    verdict,
)
from kronos.evaluation.summary import Comparison, compare, corrected, horizon_tables, in_words, task_tables
from kronos.evaluation.words import headlines
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
    asked = {("price", "rw-resampled"), ("volatility", "rw-resampled"), ("volatility", "ewma"), ("coverage", "90 %")}
    assert set(one) == asked
    gap, ratio = Estimate(-0.2, -0.3, -0.1), Estimate(0.78, 0.7, 0.88)
    clear = Comparison("volatility", "m", "nano", "ewma", gap, ratio, 0.012, 0.012, 40, "t", "")
    straw = [replace(clear, task="price", baseline="drift", p=0.5) for _ in range(50)]
    found = corrected([clear, *straw])
    assert found[0].words == "better than ewma"
    assert headlines(found) == ["nano, volatility: better than EWMA (QLIKE 0.780 [0.700, 0.880] of its, p 0.012)."]
    few = replace(clear, difference=Estimate(-0.2, np.nan, np.nan), adjusted_p=1e-4)
    assert headlines([few]) == ["nano, volatility: cannot tell it from EWMA: too few dates."]


def test_the_verdict_is_three_plain_sentences(scores: pd.DataFrame) -> None:
    found = compare(per_window(scores), ["price", "volatility"], ["stranger"], ["rw-resampled", "ewma", "drift"])
    prices, volatility, intervals = headlines(found)
    assert prices.startswith("stranger, prices: cannot tell it from the random walk (CRPS ")
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


def test_volatility_figures_against_their_formulas(scores: pd.DataFrame) -> None:
    """QLIKE is RV/f − ln(RV/f) − 1; the line of Mincer and Zarnowitz is that of numpy."""
    rows = per_window(scores)
    mine = rows[rows["forecaster"] == "ewma"]
    figures = volatility_row(mine)
    ratio = mine["true_volatility"] ** 2 / mine["variance"]
    assert figures["qlike"]["value"] == pytest.approx((ratio - np.log(ratio) - 1).mean(), abs=1e-12)
    usual = np.log(mine["context_volatility"] * np.sqrt(12))
    x, y = (np.log(mine[name]) - usual for name in ("volatility", "true_volatility"))
    slope, intercept = np.polyfit(x, y, 1)
    assert figures["slope"]["value"] == pytest.approx(slope, abs=1e-9)
    assert figures["intercept"]["value"] == pytest.approx(intercept, abs=1e-9)
    assert figures["log_correlation"]["value"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    for name in ("slope", "intercept"):
        assert figures[name]["low"] < figures[name]["value"] < figures[name]["high"]


def test_the_line_of_a_forecast_of_the_right_level_is_the_diagonal(scores: pd.DataFrame) -> None:
    """Truths that scatter around the forecast: slope 1, intercept 0; forecasts twice as far apart: slope ½."""
    rng, rows = np.random.default_rng(3), per_window(scores)
    rows = rows[rows["forecaster"] == "ewma"].copy()
    usual = rows["context_volatility"] * np.sqrt(rows["steps"])
    level = rng.normal(0, 0.4, len(rows))
    rows["true_volatility"] = usual * np.exp(level + rng.normal(0, 0.2, len(rows)))
    right, wide = (volatility_row(rows.assign(volatility=usual * np.exp(k * level))) for k in (1.0, 2.0))
    assert right["slope"]["low"] < 1.0 < right["slope"]["high"]
    assert right["intercept"]["low"] < 0.0 < right["intercept"]["high"]
    assert wide["slope"]["value"] == pytest.approx(right["slope"]["value"] / 2, abs=1e-9)


def test_windows_enough_for_a_verdict_where_no_number_is_asked_for(bars: pd.DataFrame) -> None:
    """1,500 forecasts in all, shared by markets and symbols; 20 cutoffs at least; never more than the bars hold."""
    plan = Plan(context=60, horizon=8)
    assert plan.cutoffs_in(markets=1, symbols=1, most=4000) == 1500
    assert plan.cutoffs_in(markets=1, symbols=30, most=4000) == 50
    assert plan.cutoffs_in(markets=4, symbols=30, most=4000) == 20
    assert plan.cutoffs_in(markets=1, symbols=1, most=79) == 79
    assert Plan(n_windows=7).cutoffs_in(1, 1, 4000) == 7
    one = as_series(bars[bars["symbol"] == "S0"])
    windows, facts = draw_markets({"walk_1h": one}, plan)
    assert len(windows) == facts["walk_1h"]["most_cutoffs"] == (700 - 60 - 8) // 8 + 1
    assert sum(facts["walk_1h"]["refused"].values()) == 0
    late = pd.Timestamp(bars["timestamp"].iloc[599]).to_datetime64()
    windows, facts = draw_markets({"walk_1h": one}, replace(plan, after=late))
    assert len(windows) == facts["walk_1h"]["most_cutoffs"] == 100 // 8
    assert sum(facts["walk_1h"]["refused"].values()) == 0


def test_barriers_are_judged_beside_the_walk(scores: pd.DataFrame) -> None:
    rows, names = per_window(scores), ["last-close", "rw-resampled", "ewma"]
    tables = task_tables(scores, rows, ["touch"], "rw-resampled")["touch"]["walks_1h"]
    assert set(tables) == {"knowing", "stranger", "rw-resampled", "ewma"}
    assert tables["knowing"]["brier_ratio"]["value"] < 0.5  # it knows closes, not highs and lows
    assert tables["stranger"]["brier_ratio"]["value"] == pytest.approx(1.0, abs=0.05)
    share = tables["stranger"]["reliability"]
    assert sum(one["number"] for one in share) == 6 * tables["stranger"]["windows"]
    found = compare(rows, ["touch"], ["knowing", "stranger"], names)
    assert {one.words for one in found if one.model == "knowing"} == {"better than rw-resampled", "better than ewma"}
    assert "stranger, barriers: cannot tell it from the random walk (Brier score " in "".join(headlines(found))


def test_clusters_are_markets_and_times_whatever_the_bar_size(scores: pd.DataFrame) -> None:
    """Two bar sizes of a market share their days, two markets do not; all symbols of a day are one cluster."""
    rows = per_window(scores)
    rows = rows[rows["forecaster"] == "stranger"]
    both = pd.concat([rows.assign(group="walks_1h"), rows.assign(group="walks_4h"), rows.assign(group="other_1h")])
    labels = cluster_labels(both.reset_index(drop=True)).reshape(3, -1)
    assert (labels[0] == labels[1]).all()
    assert not set(labels[0]) & set(labels[2])
    days = rows["cutoff"].to_numpy().astype("datetime64[D]")
    assert all(len(set(labels[0][days == day])) == 1 for day in np.unique(days))
