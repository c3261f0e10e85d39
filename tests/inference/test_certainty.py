"""Certain only where it is: what too few distinct paths cannot tell, and the sampling error of what the others do."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
import tiny

from kronos import FewPathsWarning, KronosPredictor
from kronos.bars import sample_bars
from kronos.errors import ConfigError
from kronos.inference.certainty import ENOUGH_PATHS, NO_DIRECTION, Shown, beyond_notes, share_error
from kronos.inference.charts import Scene, facts, next_bars, page
from kronos.inference.export import DEFAULT_LEVELS, asked_levels, document, summary
from kronos.inference.forecast import Forecast
from kronos.model import Kronos


@pytest.fixture
def one_path(make_forecast) -> Forecast:
    """Forty times the same path, as greedy sampling gives."""
    many = make_forecast(paths=40, horizon=3)
    return Forecast(np.repeat(many.samples[:1], 40, axis=0), many.timestamps, many.metadata, many.history, "ACME")


def test_distinct_paths_are_counted(make_forecast, one_path: Forecast) -> None:
    assert (make_forecast(paths=40).distinct_paths, one_path.distinct_paths) == (40, 1)
    rounded = one_path.samples * (1 + np.random.default_rng(0).normal(0, 1e-7, one_path.samples.shape))
    assert dataclasses.replace(one_path, samples=rounded).distinct_paths == 1


@pytest.mark.parametrize(
    "view",
    [
        lambda f: f.quantile(0.9),
        lambda f: f.quantile([0.1, 0.5]),
        lambda f: f.quantile_array([0.9]),
        lambda f: f.prob_up(),
        lambda f: f.prob_up(error=True),
        lambda f: f.median_error(),
        lambda f: f.value_at_risk(),
        lambda f: f.expected_shortfall(),
    ],
)
def test_views_of_too_few_paths_warn_and_answer(view, make_forecast, one_path: Forecast) -> None:
    for forecast in (one_path, make_forecast(paths=ENOUGH_PATHS - 1)):
        with pytest.warns(FewPathsWarning, match=r"no distribution.*--samples") as caught:
            assert view(forecast) is not None
        assert len(caught) == 1
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view(make_forecast(paths=ENOUGH_PATHS))
        one_path.median(), one_path.mean(), one_path.quantile(0.5), one_path.realized_volatility()


def test_the_error_of_the_median_of_too_few_paths_is_unknown(make_forecast, one_path: Forecast) -> None:
    for forecast in (one_path, make_forecast(paths=ENOUGH_PATHS - 1)):
        with pytest.warns(FewPathsWarning):
            assert forecast.median_error().isna().all().all()


def test_files_of_too_few_paths_keep_their_columns_and_hold_nothing(one_path: Forecast, make_forecast) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the files say it in their own way
        table, content, full = summary(one_path), document(one_path), summary(make_forecast(paths=40, horizon=3))
    assert list(table.columns) == list(full.columns)
    empty = {name for name in table.columns if table[name].isna().all()}
    assert {"prob_up", "prob_up_error", "close_median_error", "close_q0.05", "high_q0.95"} <= empty
    assert not {"close_mean", "close_q0.5", "volume_q0.5"} & empty
    assert not full.isna().any().any()
    for name in ("prob_up", "prob_up_error", "close_median_error"):
        assert content[name] == [None] * 3
    assert (content["value_at_risk"], content["expected_shortfall"]) == (None, None)
    assert content["quantiles"]["0.95"]["close"] == [None] * 3
    npt.assert_allclose(content["quantiles"]["0.5"]["close"], one_path.median()["close"])


def test_pictures_and_tables_of_too_few_paths_show_the_median_alone(one_path: Forecast) -> None:
    assert [name for name, _ in facts(one_path)] == ["Last close", "Median in 3 bars"]
    assert next_bars(one_path)[0] == ["Time", "Median"]
    assert next_bars(one_path, (0.1, 0.5))[1][0][1] == "–"
    scene = Scene(one_path)
    assert (scene.bands, scene.prob_up) == ([], None)
    assert scene.notes[0].startswith("one path, no distribution")
    assert scene.source.startswith("40 sample paths, 1 distinct: no distribution")
    assert "one path, no distribution" in page(one_path)
    assert "P(up)" not in page(one_path).split("<main>")[0]


def test_quantiles_of_too_few_paths_are_refused_beforehand() -> None:
    assert asked_levels(None, 1) == DEFAULT_LEVELS
    assert asked_levels([0.5], 1) == [0.5]
    assert asked_levels([0.1, 0.9], ENOUGH_PATHS) == [0.1, 0.9]
    with pytest.raises(ConfigError, match=r"need 20 paths.*--samples 20"):
        asked_levels([0.1, 0.9], 19)


def test_the_error_of_a_share_is_that_of_seeds_and_never_nothing() -> None:
    assert share_error(0.58, 100) == pytest.approx(0.049, abs=0.001)
    assert share_error([0.0, 1.0], 100) == pytest.approx([0.00985, 0.00985], abs=1e-5)
    draws = np.random.default_rng(0).random((4000, 100)) < 0.58
    assert draws.mean(axis=1).std() == pytest.approx(float(share_error(0.58, 100)), rel=0.05)


def test_the_error_of_the_median_is_that_of_seeds(make_forecast) -> None:
    medians, errors = [], []
    for seed in range(60):
        forecast = make_forecast(paths=100, horizon=1, seed=0)
        rng = np.random.default_rng(seed)
        drawn = (100 * np.exp(rng.normal(0, 0.02, (100, 1, 1)))).astype(np.float32).repeat(6, axis=2)
        found = Forecast(drawn, forecast.timestamps, history=forecast.history)
        medians.append(found.median()["close"].iloc[0])
        errors.append(found.median_error()["close"].iloc[0])
    assert np.mean(errors) == pytest.approx(np.std(medians), rel=0.3)


def test_every_chance_and_the_median_carry_their_error(make_forecast, tmp_path: Path) -> None:
    forecast = make_forecast(paths=100, horizon=4)
    chance = forecast.prob_up(error=True)
    assert list(chance.columns) == ["prob_up", "error"]
    pd.testing.assert_series_equal(chance["prob_up"], forecast.prob_up())
    shown = dict(facts(forecast))
    last = chance.iloc[-1]
    assert shown["P(up)"] == f"{last['prob_up']:.0%} ± {100 * last['error']:.0f}"
    assert " ± " in shown["Median in 4 bars"]
    assert Scene(forecast).prob_up[-1] == shown["P(up)"]
    names, rows = next_bars(forecast)
    assert names == ["Time", "Median", "50% interval", "90% interval", "P(up)"]
    assert all(" ± " in row[-1] for row in rows)
    table = pd.read_csv(forecast.save(tmp_path / "a.csv"))
    npt.assert_allclose(table["prob_up_error"], chance["error"])
    npt.assert_allclose(table["close_median_error"], forecast.median_error()["close"], rtol=1e-6)
    content = json.loads(forecast.save(tmp_path / "a.json").read_text())
    npt.assert_allclose(content["prob_up_error"], chance["error"])
    assert content["value_at_risk"] == pytest.approx(forecast.value_at_risk())
    assert content["expected_shortfall"] == pytest.approx(forecast.expected_shortfall())


def test_without_history_there_is_no_chance_but_a_distribution(make_forecast) -> None:
    forecast = make_forecast(paths=40, history=0)
    assert Shown(forecast).prob_up().isna().all().all()
    assert np.isnan(Shown(forecast).value_at_risk())
    assert "P(up)" not in next_bars(forecast)[0]


def test_the_page_carries_the_bars_ahead_and_what_to_think_of_direction(make_forecast) -> None:
    text = page(make_forecast(paths=40, horizon=3))
    names, rows = next_bars(make_forecast(paths=40, horizon=3))
    for cell in (*names, *(cell for row in rows for cell in row)):
        assert f">{cell}</t" in text
    assert NO_DIRECTION in text


def test_what_lies_beyond_training_and_judgement_is_said() -> None:
    judged = {"context": 256, "horizon": 24}
    assert beyond_notes("kronos-nano", 256, 24, 512, judged) == []
    assert beyond_notes("kronos-small", 512, 480, 512, None) == []
    [note] = beyond_notes("kronos-nano", 300, 48, 512, judged)
    assert note.startswith("kronos-nano was judged on 256 bars of context and 24 ahead; this forecast reads 300")
    assert "kronos evaluate BARS --model kronos-nano --context 300 --horizon 48" in note
    [note] = beyond_notes("kronos-nano", 512, 24, 512, judged)
    assert note.endswith(
        "reads 512; kronos evaluate BARS --model kronos-nano --context 512 --horizon 24 judges it there"
    )
    [note] = beyond_notes("kronos-small", 400, 600, 512, None)
    assert "trained on windows of 512 bars" in note
    assert len(beyond_notes("kronos-nano", 300, 600, 512, judged)) == 2


def test_the_advised_command_names_what_was_loaded(tmp_path: Path) -> None:
    model, tokenizer = tiny.consistent()
    judged = Kronos(dataclasses.replace(model.config, judged={"context": 8, "horizon": 1}))
    judged.load_state_dict(model.state_dict())
    bars, folder = sample_bars("sp500").iloc[:40], tmp_path / "my checkpoints" / "one"
    tiny.predictor((judged, tokenizer)).save_pretrained(folder)

    def advised(predictor: KronosPredictor) -> str:
        notes = " ".join(predictor.forecast(bars, 1, 20, calendar="XNYS").metadata["warnings"])
        return str(re.search(r"kronos evaluate BARS (.*) --context", notes)[1])

    loaded = KronosPredictor.from_pretrained(folder, "cpu")
    assert loaded.name == "one"
    assert advised(loaded) == f"--model '{folder}'"
    named = KronosPredictor.from_pretrained(folder / "model", "cpu", tokenizer=folder / "tokenizer")
    assert advised(named) == f"--model '{folder / 'model'}' --tokenizer '{folder / 'tokenizer'}'"
    loaded.tokenizer = tokenizer
    assert advised(loaded) == advised(tiny.predictor((judged, tokenizer))) == "--model FOLDER"


def test_the_checkpoint_says_what_it_was_judged_on() -> None:
    from kronos.model.checkpoint import CONFIG_FILE, find_checkpoint, read_config

    assert read_config(find_checkpoint("kronos-nano", "model") / CONFIG_FILE)["judged"] == {
        "context": 256,
        "horizon": 24,
    }
