"""The queue with a worker that is told what to answer: nothing that waits is forgotten, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from serving import QUICK

from kronos.serve.child import Child
from kronos.serve.errors import ApiError
from kronos.serve.history import History
from kronos.serve.models import Models
from kronos.serve.queue import ForecastQueue, Job
from kronos.serve.schemas import ForecastRequest
from kronos.serve.settings import ServerSettings


class Worker(Child):
    """Loads when it is let to, and ends every forecast of a batch at once; no process runs."""

    def __init__(self) -> None:
        super().__init__("none")
        self.may_load = asyncio.Event()
        self.refusal: Exception | None = None
        self.batches = self.loads = 0

    async def call(self, op: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        if op == "catalogue":
            return [
                {"id": name, "kind": "embedded", "source": name, "downloaded": True, "parameters": 10}
                for name in ("one", "two")
            ]
        if op == "load":
            self.loads += 1
            await self.may_load.wait()
            if self.refusal is not None:
                raise self.refusal
            return {"device": arguments["device"] or "cpu", "bytes": 80, "context": 64}
        if op == "forecast":
            self.batches += 1
            if self.refusal is not None:
                raise self.refusal
            for job in arguments["orders"]:
                self.on_event({"event": "done", "id": job["id"], "summary": {}})
        return {}


class Room:
    """A queue and what it works with."""

    def __init__(self, folder: Path) -> None:
        settings = ServerSettings(data_dir=folder)
        settings.make_folders()
        self.worker = Worker()
        self.history = History(folder / "history.sqlite", folder / "results")
        self.models = Models(self.worker, folder / "models", 1000)
        self.models.devices = ["cpu", "other"]
        self.queue = ForecastQueue(settings.max_queue, self.worker, self.models, self.history)
        self.queue.start()

    async def submit(self, id: str = "a") -> Job:
        parameters = ForecastRequest(**{**QUICK, "model": "one"}).parameters()
        job = Job(id=id, path=Path("x.csv"), name="x.csv", parameters=parameters, deadline=30)
        await self.queue.submit(job)
        return job

    async def close(self) -> None:
        self.queue.interrupt()
        await self.queue.drain()
        await self.history.close()


def in_room(folder: Path, work: Callable[[Room], Awaitable[None]]) -> None:
    async def whole() -> None:
        room = Room(folder)
        try:
            await asyncio.wait_for(work(room), 10)
        finally:
            await room.close()

    asyncio.run(whole())


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("device", [None, "other"])
def test_a_forecast_waits_for_a_load_that_another_asked_for(tmp_path: Path, device: str | None) -> None:
    async def work(room: Room) -> None:
        model = await room.models.get("one")
        if device is not None:  # loaded, and being moved
            room.worker.may_load.set()
            await room.models.load("one")
            room.worker.may_load.clear()
        load = room.models.begin_load(model, device)
        job = await room.submit()
        await settle()
        assert job.status == "queued"
        room.worker.may_load.set()
        await load
        await job.wait()
        assert job.status == "done"

    in_room(tmp_path, work)


@pytest.mark.parametrize("refusal", [ApiError(422, "checkpoint", "It is damaged."), OSError("no process")])
def test_a_forecast_hears_of_a_load_that_failed(tmp_path: Path, refusal: Exception) -> None:
    async def work(room: Room) -> None:
        model = await room.models.get("one")
        room.models.begin_load(model)
        job = await room.submit()
        await settle()
        room.worker.refusal = refusal
        room.worker.may_load.set()
        await job.wait()
        assert (job.status, model.state) == ("failed", "failed")
        assert job.error is not None
        assert job.error["code"] in ("checkpoint", "internal")
        assert "no process" not in job.error["message"]
        await settle()
        assert room.worker.loads == 1  # what failed is not tried again by itself

    in_room(tmp_path, work)


def test_an_unexpected_error_does_not_stop_the_queue(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.worker.may_load.set()
        await room.models.load("one")
        room.worker.refusal = OSError("no process")
        first = await room.submit("a")
        await first.wait()
        assert first.status == "failed"
        room.worker.refusal = None
        second = await room.submit("b")
        await second.wait()
        assert second.status == "done"

    in_room(tmp_path, work)


@pytest.mark.parametrize(("status", "stays"), [("done", True), ("cancelled", False)])
def test_only_a_late_result_is_discarded(tmp_path: Path, status: str, stays: bool) -> None:
    async def work(room: Room) -> None:
        job = await room.submit()
        room.queue.cancel(job, status)
        await job.wait()
        result = room.history.result(job.id)
        result.write_text("{}")
        room.queue.on_event({"event": "done", "id": job.id, "summary": {}})  # told twice, or too late
        await asyncio.sleep(0.01)
        await room.history.get(job.id)  # one thread: what was asked before is done
        assert result.exists() == stays

    in_room(tmp_path, work)


def test_a_model_that_moves_is_counted_once(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.worker.may_load.set()
        room.models.budget = 170  # both, but none of them twice
        await room.models.load("two")
        await room.models.load("one")
        await room.models.load("one", "other")
        states = {id: room.models.state(id) for id in ("one", "two")}
        assert states == {"one": "loaded", "two": "loaded"}
        assert (await room.models.get("one")).device == "other"

    in_room(tmp_path, work)


def test_what_was_left_half_written_is_swept(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        folder = room.history.result("a").parent
        for name in (".a.json.part", ".a.12345678.part.csv"):
            (folder / name).write_text("x")
        await room.history.recover()
        assert not list(folder.iterdir())

    in_room(tmp_path, work)
