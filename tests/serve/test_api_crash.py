"""The end of a server, wanted or not: nothing that was finished is lost, nothing that was not is pretended."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from serving import QUICK, Live, eventually

LONG = {"horizon": 500, "num_samples": 200}
Start = Callable[..., Live]


def test_told_to_stop_it_finishes_told_twice_it_interrupts(own_server: Start) -> None:
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
    eventually(lambda: gone(processes))

    second = own_server(data=live.data)
    for job in jobs:
        assert second.get(f"/api/forecasts/{job['id']}")["status"] == "done"
        assert second.get(f"/api/forecasts/{job['id']}/result")["id"] == job["id"]
    running, behind = second.submit(**LONG), second.submit(**LONG, seed=1)
    eventually(lambda: second.get(f"/api/forecasts/{running['id']}")["progress"])
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(lambda: list(second.events(running["id"])))
        eventually(lambda: second.metric("kronos_streams") == 1)
        second.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert second.process.poll() is None  # it would finish
        second.process.send_signal(signal.SIGTERM)
        assert watching.result(timeout=10)[-1][0] == "interrupted"
    second.process.wait(10)
    second.stop()

    third = own_server(data=live.data)
    for job in (running, behind):
        assert third.get(f"/api/forecasts/{job['id']}")["status"] == "interrupted"
        assert [name for name, _ in third.events(job["id"])] == ["interrupted"]
        assert third.client.get(f"/api/forecasts/{job['id']}/result").status_code == 409


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


# -- parts of it die --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sturdy(new_data: Callable[[], Path]) -> Iterator[Live]:
    """A server whose parts are going to be killed."""
    server = Live(new_data())
    try:
        yield server.ready()
    finally:
        server.stop()


def test_a_forecaster_that_dies_is_replaced(sturdy: Live) -> None:
    sturdy.result()
    job = sturdy.submit(**LONG)
    eventually(lambda: sturdy.get(f"/api/forecasts/{job['id']}")["progress"])
    next(process for process in sturdy.family() if "kronos.serve.worker" in process.cmdline()).kill()
    end = sturdy.end(job["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "worker_lost")
    sturdy.ready()
    assert sturdy.result()["id"]
    assert sturdy.metric("kronos_forecaster_starts") == 2


def test_readers_that_die_are_replaced(sturdy: Live) -> None:
    for process in sturdy.family():
        if "kronos.serve.reader" in process.cmdline():
            process.kill()
    eventually(lambda: sturdy.client.get("/api/bars/sample-sp500/candles").status_code == 200)
    text = "date,open,high,low,close\n" + "".join(f"2024-01-{day:02d},1,2,1,2\n" for day in range(1, 20))
    eventually(lambda: sturdy.client.post("/api/bars", files={"file": ("a.csv", text)}).status_code == 201)


def test_a_result_that_cannot_be_stored_is_told(sturdy: Live) -> None:
    """The forecast fails in words, and those after it work when there is room again."""
    results = sturdy.data / "results"
    shutil.move(results, sturdy.data / "elsewhere")  # as good as a full disk: no file can be made there
    try:
        assert "could not be stored" in sturdy.refused(422)
    finally:
        shutil.move(sturdy.data / "elsewhere", results)
    assert sturdy.result()["id"]


# -- all of it is killed ----------------------------------------------------------------------------------------------


class Stream:
    """Clients that ask for results with much to write, until the server is gone."""

    def __init__(self, address: str, clients: int = 4) -> None:
        self.address = address
        self.accepted: set[str] = set()
        self.finished: set[str] = set()
        self.pool = ThreadPoolExecutor(clients)
        self.clients = [self.pool.submit(self._ask, seed) for seed in range(clients)]

    def join(self) -> None:
        """Wait until all have noticed."""
        for client in self.clients:
            client.result()
        self.pool.shutdown()

    def _ask(self, seed: int) -> None:
        with httpx.Client(base_url=self.address, timeout=60) as client:
            for step in range(10_000):
                try:
                    asked = {**QUICK, "horizon": 8, "num_samples": 1000, "seed": 10_000 * seed + step}
                    id = client.post("/api/forecasts", json=asked).json()["id"]
                    self.accepted.add(id)
                    while (status := client.get(f"/api/forecasts/{id}").json()["status"]) in ("queued", "running"):
                        time.sleep(0.005)
                    if status == "done":
                        self.finished.add(id)
                except (httpx.HTTPError, json.JSONDecodeError):
                    return


def kill_while_writing(times: int, data: Path, start: Start) -> int:
    """Kills a server again and again in a stream of results; how many of them were interrupted.

    Half of the time the processes that work for it are killed too, in the middle of whatever they write.
    """
    rng = np.random.default_rng(times)
    live, interrupted = start(data=data), 0
    for _ in range(times):
        live.result()
        stream, processes = Stream(live.address), live.family()
        eventually(lambda stream=stream: len(stream.finished) >= 2, within=120)  # type: ignore[misc]
        time.sleep(float(rng.uniform(0, 0.3)))
        for process in processes if rng.random() < 0.5 else processes[:1]:
            process.kill()
        stream.join()
        live.stop()
        eventually(lambda processes=processes: gone(processes))  # type: ignore[misc]
        leave_crumbs(data)
        live = start(data=data)
        statuses = {id: live.get(f"/api/forecasts/{id}")["status"] for id in stream.accepted}
        assert {statuses[id] for id in stream.finished} == {"done"}
        assert set(statuses.values()) <= {"done", "interrupted"}
        check_results(live, statuses)
        interrupted += sum(status == "interrupted" for status in statuses.values())
    return interrupted


def leave_crumbs(data: Path) -> None:
    """What a machine that stops in the middle of a write may leave."""
    (data / "results" / ".aaaa.json.bbbb.part").write_text("{")
    (data / "results" / "cccc.npy").write_bytes(b"half")
    (data / "uploads" / ".upload-x.y").write_bytes(b"half")
    (data / "uploads" / "upload-z.parquet").write_bytes(b"no report")


def check_results(live: Live, statuses: dict[str, str]) -> None:
    """Every result that is done is whole, no other is there, and nothing half written is left."""
    for id, status in statuses.items():
        answer = live.client.get(f"/api/forecasts/{id}/result", params={"paths": 1})
        if status == "done":
            assert np.shape(answer.json()["paths"]["close"]) == (1, 8)
        else:
            assert answer.status_code == 409
    for path in (live.data / "results").iterdir():
        assert not path.name.startswith(".")
        assert path.with_suffix(".json").exists()
    assert not list((live.data / "uploads").iterdir())


@pytest.mark.slow
def test_killed_it_loses_no_finished_forecast(own_server: Start, new_data: Callable[[], Path]) -> None:
    kill_while_writing(3, new_data(), own_server)


@pytest.mark.soak
def test_killed_twenty_times(own_server: Start, new_data: Callable[[], Path]) -> None:
    assert kill_while_writing(20, new_data(), own_server) > 0  # else nothing was under way
