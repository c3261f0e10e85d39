"""Forecasts over HTTP: what is asked, what is answered, and that both are the library's own."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving import Live, eventually

from kronos.bars import future_timestamps, sample_bars
from kronos.evaluation import metrics
from kronos.inference.predictor import KronosPredictor
from kronos.serve import documents


@pytest.fixture(scope="module")
def predictor(tiny: Path) -> KronosPredictor:
    return KronosPredictor.from_pretrained(tiny, device="cpu")


def test_a_result_is_the_librarys_own(live: Live, predictor: KronosPredictor) -> None:
    found = live.result(horizon=5, num_samples=40, seed=7)
    own = predictor.forecast(sample_bars("sp500"), horizon=5, num_samples=40, seed=7)
    assert found["timestamps"] == [time.isoformat() for time in own.timestamps]
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(found["median"][name], own.median()[name])
    for level in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95):
        np.testing.assert_allclose(found["quantiles"]["close"][f"{level:g}"], own.quantile(level)["close"])
    np.testing.assert_allclose(found["risk"]["prob_up"], own.prob_up())
    np.testing.assert_allclose(found["risk"]["prob_up_error"], own.prob_up(error=True)["error"])
    np.testing.assert_allclose(found["median_error"]["close"], own.median_error()["close"])
    assert found["risk"]["value_at_risk_95"] == pytest.approx(own.value_at_risk(0.95))
    assert found["metadata"]["settings"] == dict(own.metadata["settings"])
    assert found["metadata"]["calendar"] == own.metadata["calendar"] == "XNYS"
    assert found["input"]["symbol"] == "SP500"
    assert found["input"]["rows"] == 5031
    assert found["history"]["close"][-1] == own.last_close
    assert found["truth"] is None
    assert found["comparison"] is None


def test_the_oldest_bars_are_not_the_latest(live: Live) -> None:
    found = live.result()
    last = sample_bars("sp500")["timestamp"].iloc[-1]
    assert found["history"]["timestamp"][-1] == last.isoformat()
    assert pd.Timestamp(found["timestamps"][0]) > last


def test_replay_sees_nothing_behind_its_cutoff(live: Live, predictor: KronosPredictor) -> None:
    bars = sample_bars("sp500")
    cutoff = bars["timestamp"].iloc[-100]
    found = live.result(horizon=6, num_samples=40, cutoff=cutoff.isoformat())
    past, truth = bars.iloc[:-99], bars.iloc[-99:-93]
    own = predictor.forecast(past, horizon=6, num_samples=40, future=pd.DatetimeIndex(truth["timestamp"]))
    np.testing.assert_allclose(found["median"]["close"], own.median()["close"])
    assert found["history"]["timestamp"][-1] == cutoff.isoformat()
    assert found["truth"]["close"] == truth["close"].tolist()
    assert found["timestamps"] == found["truth"]["timestamp"]
    compared, close, real = found["comparison"], own.close().T, truth["close"].to_numpy()
    assert compared["mae"] == pytest.approx(np.abs(np.median(close, axis=1) - real).mean())
    assert compared["crps"] == pytest.approx(metrics.crps(real, close).mean())
    assert compared["crps_last_close"] == pytest.approx(np.abs(real - own.last_close).mean())
    low, high = metrics.interval(close, 0.8)
    assert compared["coverage_80"] == pytest.approx(((low <= real) & (real <= high)).mean())
    up = np.sign(np.median(close[-1]) - own.last_close) == np.sign(real[-1] - own.last_close)
    assert compared["direction_hit"] == float(up)
    assert compared["bars_compared"] == 6


def test_a_replay_near_the_end_compares_what_is_known(live: Live) -> None:
    bars = sample_bars("sp500")
    found = live.result(horizon=6, num_samples=4, cutoff=bars["timestamp"].iloc[-3].isoformat())
    assert found["comparison"]["bars_compared"] == len(found["truth"]["close"]) == 2
    assert found["comparison"]["coverage_90"] is None  # four paths carry no such interval
    assert found["risk"]["prob_up"] == [None] * 6
    assert found["risk"]["value_at_risk_95"] is found["risk"]["expected_range"] is None
    assert found["quantiles"]["close"]["0.25"] == [None] * 6
    assert None not in found["median"]["close"]
    assert found["distinct_paths"] == 4
    assert found["warnings"][0].startswith("4 distinct paths, no distribution")
    later = future_timestamps(bars, 4, calendar="XNYS")
    assert found["timestamps"][2:] == [time.isoformat() for time in later]


def test_a_cutoff_without_bars_on_both_sides_is_refused(live: Live) -> None:
    for cutoff in ("1990-01-01", "2018-12-31", "2030-01-01T00:00:00"):
        assert "1999-01-04" in live.refused(422, cutoff=cutoff)


def test_the_clock_of_a_cutoff_is_that_of_the_bars(live: Live) -> None:
    zoned = live.result(bars="sample-eurusd", cutoff="2017-06-01T14:00:00+02:00")
    plain = live.result(bars="sample-eurusd", cutoff="2017-06-01T12:00:00")
    assert zoned["history"] == plain["history"]
    assert zoned["history"]["timestamp"][-1] == "2017-06-01T12:00:00+00:00"


def test_same_seed_same_paths_whatever_the_batch(live: Live) -> None:
    asked = [
        {"seed": 3},
        {"seed": 3, "bars": "sample-nasdaq"},
        {"seed": 3, "cutoff": "2018-05-01"},
        {"seed": 3, "bars": "sample-eurusd"},
    ]
    alone = [live.result(horizon=8, num_samples=6, **one) for one in asked]
    # A slow forecast keeps the forecaster busy, so that those behind it become one batch.
    slow = live.submit(horizon=400, num_samples=200, seed=99)
    together = [live.submit(horizon=8, num_samples=6, **one) for one in (*asked, *asked)]
    live.client.post(f"/api/forecasts/{slow['id']}/cancel")
    for number, job in enumerate(together):
        assert live.end(job["id"])["status"] == "done"
        found = live.get(f"/api/forecasts/{job['id']}/result")
        for part in ("median", "quantiles", "timestamps", "truth"):
            assert found[part] == alone[number % 4][part]
    assert live.metric("kronos_batch_size_count") > live.metric('kronos_batch_size_bucket{le="4.0"}')


def test_one_bad_series_does_not_spoil_its_batch(live: Live) -> None:
    slow = live.submit(horizon=400, num_samples=200, seed=98)
    good = live.submit(seed=5)
    bad = live.submit(seed=5, calendar="XXXX")
    live.client.post(f"/api/forecasts/{slow['id']}/cancel")
    assert live.end(good["id"])["status"] == "done"
    end = live.end(bad["id"])
    assert end["status"] == "failed"
    assert "XXXX" in end["error"]["message"]


def test_status_place_in_the_queue_and_events(live: Live) -> None:
    slow = live.submit(horizon=400, num_samples=200)
    behind = live.submit(seed=1)
    assert live.get(f"/api/forecasts/{behind['id']}")["queue_position"] == 0
    names = []
    for name, data in live.events(slow["id"]):
        names.append(name)
        if name == "progress" and data["done"]:
            assert 0 < data["done"] <= data["total"] == 400 * 200
            assert data["eta_seconds"] >= 0
            live.client.post(f"/api/forecasts/{slow['id']}/cancel")
    assert names[0] == "progress"
    assert names[-1] == "cancelled"
    assert live.end(behind["id"])["status"] == "done"
    assert [name for name, _ in live.events(behind["id"])] == ["done"]


def test_cancelling_twice_or_after_the_end_changes_nothing(live: Live) -> None:
    done = live.submit()
    live.end(done["id"])
    for _ in range(2):
        assert live.client.post(f"/api/forecasts/{done['id']}/cancel").json()["status"] == "done"


def test_a_deadline_ends_a_forecast(live: Live) -> None:
    job = live.submit(horizon=500, num_samples=200, deadline=1)
    end = live.end(job["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "deadline")
    assert live.client.get(f"/api/forecasts/{job['id']}/result").status_code == 409


def test_paths_are_added_on_demand(live: Live) -> None:
    job = live.submit(num_samples=9)
    live.end(job["id"])
    path = f"/api/forecasts/{job['id']}/result"
    assert live.get(path)["paths"] is None
    closes = live.get(path, paths=5)["paths"]["close"]
    assert np.shape(closes) == (5, 3)
    assert np.shape(live.get(path, paths=200)["paths"]["close"]) == (9, 3)
    assert live.client.get(path, params={"paths": 201}).status_code == 422


def test_downloads(live: Live) -> None:
    job = live.submit(horizon=4)
    live.end(job["id"])

    def download(form: str) -> bytes:
        answer = live.client.get(f"/api/forecasts/{job['id']}/download", params={"format": form})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"].startswith("attachment")
        return answer.content

    result = live.get(f"/api/forecasts/{job['id']}/result")
    table = pd.read_csv(io.BytesIO(download("csv")))
    np.testing.assert_allclose(table["close_q0.5"], result["median"]["close"], rtol=1e-6)
    assert len(pd.read_parquet(io.BytesIO(download("parquet")))) == 4
    assert live.client.get(f"/api/forecasts/{job['id']}/download", params={"format": "json"}).json()["id"] == job["id"]
    assert b"<html" in download("html")
    assert live.client.get(f"/api/forecasts/{job['id']}/download", params={"format": "exe"}).status_code == 422
    eventually(lambda: not list((live.data / "results").glob(".*")))  # exports are not kept


def test_history_pages_search_and_delete(live: Live) -> None:
    marks = [live.submit(seed=seed, bars="sample-nasdaq", num_samples=4 if seed == 1 else 24) for seed in range(3)]
    for job in marks:
        live.end(job["id"])
    page = live.get("/api/forecasts", size=2, q="nasdaq")
    assert page["total"] >= 3
    assert [item["id"] for item in page["items"]] == [marks[2]["id"], marks[1]["id"]]
    assert live.get("/api/forecasts", size=2, page=2, q="nasdaq")["items"][0]["id"] == marks[0]["id"]
    assert live.get("/api/forecasts", q="nasdaq", status="cancelled")["total"] == 0
    assert live.get("/api/forecasts", q="%")["total"] == 0  # a mark, not a pattern
    item = page["items"][0]
    assert item["mode"] == "forecast"
    assert 0 <= item["summary"]["prob_up"] <= 1
    assert 0 < item["summary"]["prob_up_error"] < 0.11
    assert page["items"][1]["summary"]["prob_up"] is None  # of four paths
    gone = marks[0]["id"]
    assert live.client.delete(f"/api/forecasts/{gone}").status_code == 204
    assert live.client.get(f"/api/forecasts/{gone}").status_code == 404
    assert live.client.delete(f"/api/forecasts/{gone}").status_code == 404
    assert not list((live.data / "results").glob(f"{gone}*"))


def test_deleting_a_running_forecast_stops_it(live: Live) -> None:
    job = live.submit(horizon=500, num_samples=200)
    assert live.client.delete(f"/api/forecasts/{job['id']}").status_code == 204
    assert live.client.get(f"/api/forecasts/{job['id']}").status_code == 404
    live.result()  # the forecaster is free


def test_volume_is_null_where_none_is_traded(live: Live) -> None:
    bars = sample_bars("sp500").tail(100).drop(columns=["symbol", "amount"]).assign(volume=0.0)
    upload = live.client.post("/api/bars", files={"file": ("still.csv", bars.to_csv(index=False))}).json()
    found = live.result(bars=upload["id"])
    assert found["median"]["volume"] is None
    assert found["quantiles"]["volume"] is None
    assert found["history"]["volume"] is None


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"bars": "folder-0000"}, "GET /api/bars lists them (samples are sample-"),
        ({"model": "kronos-giant"}, "GET /api/models lists them"),
    ],
)
def test_unknown_ids(live: Live, asked: dict[str, str], word: str) -> None:
    assert word in live.refused(404, **asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"horizon": 0},
        {"horizon": 513},
        {"num_samples": 0},
        {"num_samples": 1001},
        {"horizon": 512, "num_samples": 1000},
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**60},
        {"context_length": 1},
        {"context_length": 65},  # more than the tiny model reads
        {"calendar": "../../etc"},
        {"cutoff": "yesterday"},
        {"cutoff": "0001-01-01"},
        {"deadline": 0},
        {"symbol": "NOPE"},
        {"surprise": 1},
    ],
)
def test_settings_out_of_range_are_refused(live: Live, asked: dict[str, object]) -> None:
    assert live.refused(422, **asked)


def test_an_unusual_number_is_refused_in_words(live: Live) -> None:
    answer = live.client.post(
        "/api/forecasts",
        content=b'{"bars": "sample-sp500", "temperature": NaN}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422
    assert math.isfinite(len(answer.json()["error"]["message"]))


def test_a_break_is_told_and_mended_as_in_the_library(live: Live, predictor: KronosPredictor) -> None:
    bars = sample_bars("sp500").tail(200).reset_index(drop=True)
    bars.loc[:169, ["open", "high", "low", "close"]] *= 2
    answer = live.client.post("/api/bars", files={"file": ("split.csv", bars.to_csv(index=False).encode())})
    assert answer.status_code in (200, 201), answer.text
    name = answer.json()["id"]
    for adjust in (None, "splits", f"{bars['timestamp'][170]:%Y-%m-%d}=2", "cut"):
        found = live.result(bars=name, horizon=5, num_samples=40, adjust=adjust)
        own = predictor.forecast(bars, horizon=5, num_samples=40, adjust=adjust)
        assert found["warnings"] == own.metadata["warnings"]
        assert found["metadata"]["calendar"] == own.metadata["calendar"]
        np.testing.assert_allclose(found["median"]["close"], own.median()["close"], rtol=1e-5)
    assert "adjust" in live.refused(422, bars=name, adjust="2020=4")


# -- volatility and touches -------------------------------------------------------------------------------------------


def test_a_result_tells_the_volatility_a_year(live: Live, predictor: KronosPredictor) -> None:
    told = live.result(horizon=5, num_samples=40, seed=7)["volatility"]
    own = predictor.forecast(sample_bars("sp500"), horizon=5, num_samples=40, seed=7)
    assert (told["bars_per_year"], told["basis"]) == (own.bars_a_year.bars, "sessions")
    np.testing.assert_allclose(told["expected"], own.volatility()["expected"])
    np.testing.assert_allclose(told["context"], own.volatility()["context"])
    np.testing.assert_allclose(told["har"], own.volatility()["har"])
    few = live.result(num_samples=4)["volatility"]
    assert few["expected"] == few["lower"] == [None] * 3
    assert None not in (*few["context"], *few["har"])


def test_touches_of_a_finished_forecast_are_counted_when_asked(live: Live, predictor: KronosPredictor) -> None:
    id = live.result(horizon=5, num_samples=40, seed=7)["id"]
    own = predictor.forecast(sample_bars("sp500"), horizon=5, num_samples=40, seed=7)
    found = live.get(f"/api/forecasts/{id}/result", touch=[2600, 2400], take_profit=2600, stop_loss=2400, paths=2)
    assert [one["price"] for one in found["touch"]] == [2600, 2400]
    np.testing.assert_allclose(found["touch"][0]["prob_touch"], own.prob_touch(2600))
    first = own.first_touch(2600, 2400)
    assert {name: found["first_touch"][name]["chance"] for name in first.index} == dict(first["chance"])
    assert len(found["paths"]["close"]) == 2
    assert "touch" not in live.get(f"/api/forecasts/{id}/result")


def test_prices_that_cannot_be_asked_about_are_refused(live: Live) -> None:
    id = live.result(num_samples=24)["id"]
    for query, words in (
        ({"touch": 0}, "touch"),
        ({"touch": "nan"}, "touch"),
        ({"touch": 2506.85}, "is the last close itself"),
        ({"take_profit": 2600}, "give stop_loss"),
        ({"take_profit": 2600, "stop_loss": 2700}, "both lie above"),
    ):
        answer = live.client.get(f"/api/forecasts/{id}/result", params=query)
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]


def test_a_result_across_a_clock_change_is_read_again(tmp_path: Path, predictor: KronosPredictor) -> None:
    """Its times stand in the document with two offsets."""
    times = pd.date_range("2024-03-24", periods=200, freq="h", tz="Europe/Berlin")  # till 1 April
    bars = sample_bars("sp500").tail(200).assign(timestamp=times)
    behind = predictor.forecast(bars, horizon=5, num_samples=24, calendar="24/7")
    ahead = predictor.forecast(bars.head(150), horizon=48, num_samples=24, calendar="24/7")
    for forecast in (behind, ahead):
        content = {"input": {"symbol": "X"}, **documents.document(forecast, None)}
        documents.write_result(tmp_path / "one.json", content, forecast.samples)
        found = documents.read_forecast(tmp_path / "one.json")
        assert (found.timestamps == forecast.timestamps).all()
        assert found.bars_a_year == forecast.bars_a_year
        assert found.prob_touch(2600).tolist() == forecast.prob_touch(2600).tolist()
