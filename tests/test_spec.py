"""What is asked of a forecast is said once: ranges, defaults and units, and the signatures that build it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kronos
from kronos import ConfigError
from kronos.cli.evaluate import EvaluationOptions
from kronos.inference.predictor import KronosPredictor
from kronos.inference.settings import DecodeSettings
from kronos.spec import SAMPLING, ForecastSpec, settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("horizon", 0, "horizon is 0; it must be a whole number from 1 to 100,000"),
        ("horizon", True, "horizon is True; it must be a whole number"),
        ("horizon", 2.0, "it must be a whole number"),
        ("horizon", None, "horizon is None"),
        ("num_samples", 1_000_001, "from 1 to 1,000,000"),
        ("temperature", -0.1, "temperature is -0.1; it must be a number from 0 to 100"),
        ("temperature", float("nan"), "temperature is nan"),
        ("top_k", -1, "a whole number of at least 0"),
        ("top_p", 0, "a number above 0 and at most 1"),
        ("top_p", 1.5, "top_p is 1.5"),
        ("seed", 2**64, "seed is"),
        ("stamp", "middle", "stamp is 'middle'; it must be one of start, end"),
        ("calendar", 7, "calendar is 7; it must be text"),
        ("context_length", 1, "at least 2"),
    ],
)
def test_what_is_out_of_range_is_refused_in_words(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ForecastSpec(**{name: value})
    assert words in str(refused.value)


def test_numbers_of_numpy_become_plain_ones() -> None:
    spec = ForecastSpec(horizon=np.int64(3), temperature=np.float32(0.5), top_p=1)
    assert (type(spec.horizon), type(spec.temperature), type(spec.top_p)) == (int, float, float)


def test_a_spec_is_frozen_and_checked_again_when_replaced() -> None:
    spec = ForecastSpec(horizon=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.horizon = 6  # type: ignore[misc]
    assert spec.replace(horizon=7).horizon == 7
    with pytest.raises(ConfigError):
        spec.replace(horizon=-1)
    assert ForecastSpec(**spec.to_dict()) == spec


@pytest.mark.parametrize("method", ["forecast", "forecast_many"])
def test_signatures_of_the_predictor_are_those_of_the_spec(method: str) -> None:
    given = inspect.signature(getattr(KronosPredictor, method)).parameters
    for setting in settings():
        assert given[setting.name].default == setting.default, setting.name


def test_every_setting_has_a_sentence_and_a_flag() -> None:
    for setting in settings():
        assert setting.help.endswith((".", "…")), setting.name
        assert setting.flag, setting.name
        assert setting.check(setting.default) == setting.default


def test_every_setting_of_the_sampling_reaches_sampler_evaluation_and_studio() -> None:
    drawn = DecodeSettings(**SAMPLING)
    assert drawn == DecodeSettings()  # each is off by default
    assert set(SAMPLING) == {field.name for field in dataclasses.fields(DecodeSettings)} - {
        "max_context", "window_stride", "follows_torch",
    }  # fmt: skip
    assert set(SAMPLING) <= {field.name for field in dataclasses.fields(EvaluationOptions)}
    state = (Path(kronos.__file__).parent / "serve" / "static" / "js" / "state.js").read_text(encoding="utf-8")
    assert set(SAMPLING) == set(re.findall(r'"(\w+)"', state.partition("export const SAMPLING = ")[2].split("\n")[0]))


@pytest.mark.parametrize(
    "text", ["splits", "volume,cut", "2020-08-31=4", "2010-06-10=1.3,splits", "2024-01-02T09:30=2"]
)
def test_adjust_takes_words_and_factors(text: str) -> None:
    assert ForecastSpec(adjust=text).adjust == text


@pytest.mark.parametrize("text", ["", "split", "2020-08-31", "2020-08-31=x", "splits;cut", "2020-08-31=-4", "a" * 100])
def test_what_adjust_cannot_mean_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="it must be splits, volume, cut or DATE=FACTOR"):
        ForecastSpec(adjust=text)
