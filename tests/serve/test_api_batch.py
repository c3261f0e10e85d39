"""One batch without a server: cancelled within a step, identical work done once, one bad series apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving import QUICK

from kronos.bars.samples import sample_path
from kronos.errors import DataError
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor
from kronos.serve.documents import read_table
from kronos.serve.errors import ApiError
from kronos.serve.schemas import ForecastRequest
from kronos.serve.security import Bounded
from kronos.serve.worker import ForecastBatch, Order
from kronos.spec import ForecastSpec


@pytest.fixture(scope="module")
def predictor(tiny: Path) -> KronosPredictor:
    return KronosPredictor.from_pretrained(tiny, device="cpu")


class Run:
    """A batch and what it tells."""

    def __init__(self, folder: Path, *asked: dict[str, Any]) -> None:
        self.events: list[dict[str, Any]] = []
        self.unwanted: set[str] = set()
        self.stop_after: dict[int, str] = {}  # bars told of → which forecast is then no longer wanted
        parameters = [ForecastRequest(**{**QUICK, **one}).parameters() for one in asked]
        orders = [
            Order(str(number), str(sample_path("sp500")), "sp500", str(folder / f"{number}.json"), one)
            for number, one in enumerate(parameters)
        ]
        self.batch = ForecastBatch(orders, self.unwanted.__contains__, self.tell)

    def tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event["event"] == "progress" and self.steps() in self.stop_after:
            self.unwanted.add(self.stop_after[self.steps()])

    def ends(self) -> dict[str, str]:
        return {event["id"]: event["event"] for event in self.events if "id" in event}

    def steps(self) -> int:
        return sum(event["event"] == "progress" for event in self.events)


def test_a_cancelled_forecast_stops_within_one_step(tmp_path: Path, predictor: KronosPredictor) -> None:
    run = Run(tmp_path, {"horizon": 50, "num_samples": 4})
    run.stop_after = {3: "0"}
    run.batch.run(predictor)
    assert run.ends() == {"0": "cancelled"}
    assert run.steps() == 3  # not one bar more
    assert not list(tmp_path.iterdir())


def test_a_batch_goes_on_for_those_who_still_want_it(tmp_path: Path, predictor: KronosPredictor) -> None:
    run = Run(tmp_path, {}, {"cutoff": "2018-01-02"})
    run.stop_after = {2: "0"}
    run.batch.run(predictor)
    assert run.ends() == {"0": "cancelled", "1": "done"}
    assert {path.stem for path in tmp_path.iterdir()} == {"1"}


def test_identical_forecasts_are_computed_once(tmp_path: Path, predictor: KronosPredictor) -> None:
    run = Run(tmp_path, {}, {}, {})
    run.batch.run(predictor)
    assert set(run.ends().values()) == {"done"}
    assert max(event["total"] for event in run.events if event["event"] == "progress") == 3 * 4
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_series_that_cannot_be_forecast_fails_alone(tmp_path: Path, predictor: KronosPredictor) -> None:
    run = Run(tmp_path, {}, {"cutoff": "1999-01-04"}, {"calendar": "XXXX"}, {"cutoff": "2018-01-02"})
    run.batch.run(predictor)  # the second has one bar, too few for the model: it is known only there
    assert run.ends() == {"0": "done", "1": "failed", "2": "failed", "3": "done"}


class Flawed:
    """A predictor whose batches break off after their first forecast."""

    def __init__(self, predictor: KronosPredictor, error: Exception) -> None:
        self.predictor, self.error = predictor, error
        self.max_context = predictor.max_context
        self.computed: list[int] = []

    def answer_many(self, series: dict[str, Any], spec: ForecastSpec, **words: Any) -> Iterator[tuple[str, Forecast]]:
        self.computed.append(len(series))
        for number, made in enumerate(self.predictor.answer_many(series, spec, **words)):
            if number:
                raise self.error
            yield made


@pytest.mark.parametrize("error", [DataError("one is bad"), ZeroDivisionError()])
def test_what_was_told_is_not_computed_again(tmp_path: Path, predictor: KronosPredictor, error: Exception) -> None:
    run = Run(tmp_path, {}, {"cutoff": "2018-01-02"}, {"cutoff": "2017-01-03"})
    flawed = Flawed(predictor, error)
    run.batch.run(flawed)  # type: ignore[arg-type]
    told = [(event["id"], event["event"]) for event in run.events if "id" in event]
    assert sorted(told) == [("0", "done"), ("1", "done"), ("2", "done")]  # each once
    assert sum(flawed.computed[1:]) == 2


def test_an_unexpected_error_fails_one_series(
    tmp_path: Path, predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, {}, {"cutoff": "2018-01-02"})
    seen = list[Path]()

    def once(path: Path, symbol: str | None) -> pd.DataFrame:
        seen.append(path)
        if len(seen) == 1:
            raise ZeroDivisionError
        return read_table(path, symbol)

    monkeypatch.setattr("kronos.serve.worker.read_table", once)
    run.batch.run(predictor)
    assert run.ends() == {"0": "failed", "1": "done"}


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    bounded = Bounded(never, limit=10, seconds=0.01)
    with pytest.raises(ApiError) as refusal:
        asyncio.run(bounded())  # type: ignore[arg-type]
    assert refusal.value.status == 408
