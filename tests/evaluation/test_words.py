"""The verdict in sentences: a side is taken where it is shown, and otherwise said how many windows would tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kronos.evaluation.statistics import Estimate
from kronos.evaluation.summary import ALL, RIVALS, Comparison, corrected
from kronos.evaluation.words import TARGET, headlines, precision

NAN = float("nan")


def against(baseline: str, ratio: Estimate, p: float, task: str = "price") -> Comparison:
    difference = Estimate(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0)
    return Comparison(task, "my_bars", "nano", baseline, difference, ratio, p, p, 900, "t", words="")


def test_walk_garch_and_har_each_get_their_word() -> None:
    walk, garch, har = (
        against(name, Estimate(*ends), p)
        for name, ends, p in zip(
            RIVALS, ((0.981, 0.969, 0.991), (0.995, 0.985, 1.005), (1.02, 1.01, 1.03)), (1e-5, 0.3, 1e-3), strict=True
        )
    )
    (line,) = headlines(corrected([walk, garch, har]))
    assert line == (
        "nano, prices: better than the random walk (CRPS 0.981 [0.969, 0.991] of its, p below 0.001); "
        "cannot tell it from GARCH (CRPS 0.995 [0.985, 1.005] of its, p 0.300); "
        "worse than HAR (CRPS 1.020 [1.010, 1.030] of its, p 0.002)."
    )


def test_no_side_is_taken_where_the_interval_that_is_shown_spans_one() -> None:
    """The test of the differences by date may reject where the bootstrap of the ratio does not."""
    one = against("rw-resampled", Estimate(0.98, 0.95, 1.01), 1e-4)
    shown = replace(one, difference=Estimate(-0.02, -0.03, -0.01))
    assert "cannot tell it from the random walk" in headlines(corrected([shown]))[0]
    assert corrected([shown])[0].words == "no edge shown over rw-resampled"


def test_too_few_dates_are_no_verdict() -> None:
    few = replace(against("garch", Estimate(0.9), 0.001), difference=Estimate(-0.1))
    assert headlines(corrected([few])) == ["nano, prices: cannot tell it from GARCH: too few dates."]


def price(low: float, high: float, windows: int, clusters: int) -> dict[str, object]:
    return {"nano": {"crps_ratio": {"value": 1.0, "low": low, "high": high}, "windows": windows, "clusters": clusters}}


def test_how_many_windows_would_tell() -> None:
    """Half the width goes with one over the root of the number: ±2 % takes four times as many for ±1 %."""
    drawn = {"my_bars": {"cutoffs": 300, "most_cutoffs": 500}}
    (found,) = precision({"my_bars": price(0.98, 1.02, 300, 200)}, drawn, ["nano"])
    assert (found.half_width, found.needed, found.cutoffs) == (pytest.approx(0.02), 1200, 1200)
    assert not found.enough
    assert found.words == (
        "nano on my_bars: 300 forecasts in 200 clusters give its CRPS over the random walk's within ±2.0% only, too "
        "few to call smaller differences; ±1% takes about 1,200 (--windows 1,200; these bars hold 500)."
    )
    (found,) = precision({"my_bars": price(0.99, 1.006, 1200, 900)}, drawn, ["nano"])
    assert found.enough
    assert found.half_width < TARGET
    assert found.words.endswith("within ±0.8%.")


def test_without_an_interval_what_was_measured_elsewhere_is_named() -> None:
    drawn = {"my_bars": {"cutoffs": 4, "most_cutoffs": 2000}}
    (found,) = precision({"my_bars": price(NAN, NAN, 4, 4)}, drawn, ["nano"])
    assert np.isnan(found.half_width)
    assert found.words == (
        "nano on my_bars: 4 forecasts in 4 clusters are too few to call; ±1% takes about 1,500 (--windows 1,500)."
    )


def test_of_several_markets_all_together_count() -> None:
    drawn = {"a": {"cutoffs": 20, "most_cutoffs": 40}, "b": {"cutoffs": 20, "most_cutoffs": 900}}
    tables = {"a": price(0.9, 1.1, 20, 20), "b": price(0.9, 1.1, 20, 20), ALL: price(0.95, 1.05, 40, 40)}
    (found,) = precision(tables, drawn, ["nano"])
    assert (found.market, found.needed, found.cutoffs, found.most_cutoffs) == (ALL, 1000, 500, 900)
    assert precision({}, drawn, ["nano"]) == []
