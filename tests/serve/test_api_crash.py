"""The end of a server, wanted or not: nothing that was finished is lost, nothing that was not is pretended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from serving import QUICK, Live, eventually

LONG = {"horizon": 500, "num_samples": 200}


def test_a_server_that_is_told_to_stop_finishes_its_work(own_server: Callable[..., Live]) -> None:
    live = own_server()
    live.result()  # the model is loaded
    jobs = [live.submit(seed=seed, horizon=20, num_samples=100) for seed in range(6)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(live.result, seed=77)
        eventually(lambda: live.get("/api/forecasts")["total"] == 8)
        processes = live.family()
        live.process.send_signal(signal.SIGTERM)
        assert waiting.result()["parameters"]["seed"] == 77  # whoever waits gets the answer
    assert live.stop() in (0, -signal.SIGTERM)
    eventually(lambda: not any(process.is_running() for process in processes))
    again = own_server(data=live.data)
    for job in jobs:
        assert again.get(f"/api/forecasts/{job['id']}")["status"] == "done"
        assert again.get(f"/api/forecasts/{job['id']}/result")["id"] == job["id"]


def test_a_second_signal_does_not_wait(own_server: Callable[..., Live]) -> None:
    live = own_server()
    live.result()
    running, waiting = live.submit(**LONG), live.submit(**LONG, seed=1)
    eventually(lambda: live.get(f"/api/forecasts/{running['id']}")["progress"])
    live.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert live.process.poll() is None
    began = time.monotonic()
    live.stop()
    assert time.monotonic() - began < 15
    again = own_server(data=live.data)
    for job in (running, waiting):
        assert again.get(f"/api/forecasts/{job['id']}")["status"] == "interrupted"
        assert [name for name, _ in again.events(job["id"])] == ["interrupted"]
        assert again.client.get(f"/api/forecasts/{job['id']}/result").status_code == 409


def test_a_forecaster_that_dies_is_replaced(own_server: Callable[..., Live]) -> None:
    live = own_server()
    live.result()
    job = live.submit(**LONG)
    eventually(lambda: live.get(f"/api/forecasts/{job['id']}")["progress"])
    next(process for process in live.family() if "kronos.serve.forecaster" in process.cmdline()).kill()
    end = live.end(job["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "worker_lost")
    live.ready()
    assert live.result()["id"]
    assert live.metric("kronos_forecaster_starts") == 2


def test_readers_that_die_are_replaced(own_server: Callable[..., Live]) -> None:
    live = own_server()
    for process in live.family():
        if "kronos.serve.reader" in process.cmdline():
            process.kill()
    eventually(lambda: live.client.get("/api/bars/sample-sp500/candles").status_code == 200)
    text = "date,open,high,low,close\n" + "".join(f"2024-01-{day:02d},1,2,1,2\n" for day in range(1, 20))
    eventually(lambda: live.client.post("/api/bars", files={"file": ("a.csv", text)}).status_code == 201)


def test_half_written_files_are_cleared_away(own_server: Callable[..., Live]) -> None:
    live = own_server()
    kept = live.submit()
    live.end(kept["id"])
    live.stop()
    results, uploads = live.data / "results", live.data / "uploads"
    (results / ".aaaa.json.bbbb.part").write_text("{")
    (results / "cccc.npy").write_bytes(b"half")
    (uploads / ".upload-x.y").write_bytes(b"half")
    (uploads / "upload-z.parquet").write_bytes(b"no report")
    again = own_server(data=live.data)
    assert {path.name for path in results.iterdir()} == {f"{kept['id']}.json", f"{kept['id']}.npy"}
    assert not list(uploads.iterdir())
    assert again.get(f"/api/forecasts/{kept['id']}/result")["id"] == kept["id"]


def kill_while_writing(data: Path, rng: np.random.Generator, starts: Callable[..., Live]) -> tuple[int, int]:
    """One kill -9 in a stream of results, and what is found afterwards: (done, interrupted)."""
    live = starts(data=data)
    live.result()
    accepted: set[str] = set()
    finished: set[str] = set()

    def ask(seed: int) -> None:
        """Ask for results with much to write, until the server is gone."""
        with httpx.Client(base_url=live.address, timeout=60) as client:
            for step in range(10_000):
                try:
                    asked = {**QUICK, "horizon": 40, "num_samples": 1000, "seed": 1000 * seed + step}
                    id = client.post("/api/forecasts", json=asked).json()["id"]
                    accepted.add(id)
                    while (status := client.get(f"/api/forecasts/{id}").json()["status"]) in ("queued", "running"):
                        time.sleep(0.005)
                    if status == "done":
                        finished.add(id)
                except (httpx.HTTPError, json.JSONDecodeError):
                    return

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, seed) for seed in range(4)]
        eventually(lambda: len(finished) >= 2)
        # The next result is being written: its paths are there, or on their way.
        time.sleep(float(rng.uniform(0, 0.4)))
        for process in live.family() if rng.random() < 0.5 else live.family()[:1]:
            process.kill()
        for one in asking:
            one.result()
    live.stop()

    again = starts(data=data)
    statuses = {id: again.get(f"/api/forecasts/{id}")["status"] for id in accepted}
    assert {statuses[id] for id in finished} == {"done"}
    assert set(statuses.values()) <= {"done", "interrupted"}
    for id, status in statuses.items():
        answer = again.client.get(f"/api/forecasts/{id}/result", params={"paths": 1})
        if status == "done":
            assert np.shape(answer.json()["paths"]["close"]) == (1, 40)
        else:
            assert answer.status_code == 409
    again.result()
    assert not [path for path in data.rglob("*.part")]
    again.stop()
    return len(finished), sum(status == "interrupted" for status in statuses.values())


@pytest.mark.slow
def test_kill_loses_no_finished_forecast(own_server: Callable[..., Live], new_data: Callable[[], Path]) -> None:
    data, rng = new_data(), np.random.default_rng(0)
    for _ in range(3):
        kill_while_writing(data, rng, own_server)


@pytest.mark.soak
def test_kill_20_times(own_server: Callable[..., Live], new_data: Callable[[], Path]) -> None:
    data, rng = new_data(), np.random.default_rng(1)
    counts = [kill_while_writing(data, rng, own_server) for _ in range(20)]
    assert sum(interrupted for _, interrupted in counts) > 0  # else nothing was under way


def test_no_process_outlives_its_server(own_server: Callable[..., Live]) -> None:
    live = own_server()
    children = live.family()[1:]
    os.kill(live.process.pid, signal.SIGKILL)
    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def test_a_full_disk_is_told_and_survived(own_server: Callable[..., Live]) -> None:
    """Results cannot be written: the forecast fails in words, and those after it work when there is room again."""
    live = own_server()
    live.result()
    results = live.data / "results"
    shutil.move(results, live.data / "elsewhere")  # as good as full: no file can be made there
    try:
        assert "could not be stored" in live.refused(422)
    finally:
        shutil.move(live.data / "elsewhere", results)
    assert live.result()["id"]
