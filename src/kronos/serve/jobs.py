"""The queue of forecasts: bounded, one batch at a time, each with a deadline, each to be cancelled at any moment."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kronos.serve.child import Child, Message
from kronos.serve.errors import ApiError, WorkerLost
from kronos.serve.history import FINAL, History, Row
from kronos.serve.metrics import Metrics
from kronos.serve.models import Models
from kronos.serve.settings import Settings

COMMON = ("horizon", "num_samples", "temperature", "top_p", "top_k", "seed", "context_length")
"""Forecasts of one model that agree in these are computed together."""

_STUCK = 60.0  # seconds; a step of decoding takes less by far

log = logging.getLogger("kronos.serve")


@dataclass(eq=False)
class Job:
    """A forecast that was accepted and is not over.

    Attributes:
        path, name: the file of the bars, and what people call it.
        parameters: what was asked.
        deadline: seconds it may take from now.
    """

    id: str
    path: Path
    name: str
    parameters: dict[str, Any]
    deadline: float
    status: str = "queued"
    created: str = field(default_factory=lambda: now())
    finished: str | None = None
    done: int = 0
    total: int = 0
    started: float | None = None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    stop: str | None = None  # why it is being stopped: "cancelled", "deadline" or "interrupted"
    timer: asyncio.TimerHandle | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        return self.status in FINAL

    @property
    def key(self) -> tuple[Any, ...]:
        """What a batch has in common."""
        return (self.parameters["model"], *(self.parameters[name] for name in COMMON))

    def item(self) -> Row:
        """As a list shows it."""
        asked = self.parameters
        return {
            "id": self.id,
            "status": self.status,
            "created": self.created,
            "finished": self.finished,
            "bars_name": self.name,
            "symbol": asked["symbol"],
            "model": asked["model"],
            "horizon": asked["horizon"],
            "num_samples": asked["num_samples"],
            "mode": "forecast" if asked["cutoff"] is None else "replay",
            "summary": self.summary,
            "error": self.error,
        }

    def progress(self) -> dict[str, Any] | None:
        """How far it is; None before it has begun."""
        if self.started is None or not self.total:
            return None
        spent, share = time.monotonic() - self.started, self.done / self.total
        return {
            "done": self.done,
            "total": self.total,
            "eta_seconds": round(spent * (1 - share) / share, 1) if share else None,
        }

    def notify(self) -> None:
        """Wake everybody who watches."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self) -> AsyncIterator[None]:
        """Comes round after each change, the last time when the job is over."""
        while not self.over:
            changed = self._changed
            yield
            if not self.over:
                await changed.wait()

    async def wait(self) -> None:
        """Return when the job is over."""
        async for _ in self.watch():
            pass


def now() -> str:
    """The time as text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Desk:
    """Takes forecasts, hands them to the forecaster in batches, and remembers how they end.

    Args:
        child: the forecaster.
    """

    def __init__(self, settings: Settings, child: Child, models: Models, history: History, metrics: Metrics) -> None:
        self.settings, self.child, self.models = settings, child, models
        self.history, self.metrics = history, metrics
        self.jobs: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.draining = self._hurried = False
        self._wake = asyncio.Event()
        self._pace = 1.0  # seconds a forecast takes, lately
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()

    def start(self) -> None:
        """Begin to hand out work."""
        self._dispatcher = asyncio.create_task(self._dispatch())

    def wake(self) -> None:
        """Look at the queue again."""
        self._wake.set()

    @property
    def full(self) -> bool:
        return len(self.waiting) >= self.settings.max_queue

    def refusal(self) -> ApiError:
        """What a caller is told when the queue is full."""
        after = min(60, max(1, math.ceil(self._pace * len(self.waiting) / 2)))
        return ApiError(
            429, "queue_full", f"{len(self.waiting)} forecasts wait already. Ask again in {after} s.", retry_after=after
        )

    async def submit(self, job: Job) -> None:
        """Accept a forecast.

        Raises:
            ApiError: the queue is full, or the server is stopping.
        """
        if self.draining:
            raise ApiError(429, "stopping", "The server is stopping. Ask again when it is back.", retry_after=10)
        if self.full:
            self.metrics.refused.inc()
            raise self.refusal()
        self.jobs[job.id] = job
        self.waiting.append(job)  # before the history is asked, so that the bound holds for callers that come together
        try:
            await self.history.add({**job.item(), "parameters": job.parameters})
        except BaseException:
            self.waiting.remove(job)
            del self.jobs[job.id]
            raise
        job.timer = asyncio.get_running_loop().call_later(job.deadline, self.cancel, job, "deadline")
        self.metrics.queued.set(len(self.waiting))
        self._wake.set()

    def cancel(self, job: Job, reason: str = "cancelled") -> None:
        """Stop a forecast: at once where it waits, within a step of decoding where it runs."""
        if job.over or job.stop is not None:
            return
        job.stop = reason
        if job in self.running:
            self._later(self.child.send({"op": "cancel", "ids": [job.id]}))
            asyncio.get_running_loop().call_later(_STUCK, self._end_if_stuck, job)
        else:
            self._end(job)

    async def drain(self) -> None:
        """Accept nothing more, finish what was accepted, and interrupt what is not done in time."""
        self.draining = True
        deadline = time.monotonic() + self.settings.limits.drain
        while self.jobs and not self._hurried and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        left = list(self.jobs.values())
        for job in left:
            self.cancel(job, "interrupted")
        if left:
            await asyncio.wait([asyncio.ensure_future(job.wait()) for job in left], timeout=5)
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        await self._settled()

    def hurry(self) -> None:
        """Do not wait for what still runs."""
        self._hurried = True

    def hear(self, event: Message) -> None:
        """What the forecaster says about the running batch."""
        if event["event"] == "progress":
            for running in self.running:
                running.done, running.total = event["done"], event["total"]
                running.notify()
            return
        found = self.jobs.get(event.get("id", ""))
        if found is None or found.over:
            return
        job = found
        if event["event"] == "done":
            job.stop = None  # it was quicker than the wish to stop it
            job.summary = event["summary"]
            self._end(job, "done")
        elif event["event"] == "failed":
            self._end(job, "failed", event["error"])
        elif event["event"] == "cancelled":
            self._end(job)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            batch = self._next_batch()
            if not batch:
                await self._wake.wait()
                continue
            await self._run(batch)

    def _next_batch(self) -> list[Job]:
        """The oldest waiting job whose model is loaded, and those that can be computed with it."""
        first = None
        for job in list(self.waiting):
            state = self.models.state(job.parameters["model"])
            if state == "loaded":
                first = job
                break
            if state != "loading":
                self._later(self._load(job.parameters["model"]))
        if first is None:
            return []
        batch = [job for job in self.waiting if job.key == first.key][: self.settings.limits.batch]
        for job in batch:
            self.waiting.remove(job)
        return batch

    async def _load(self, model: str) -> None:
        """Load a model that jobs wait for; when it cannot be, they fail."""
        try:
            await self.models.load(model)
        except ApiError as error:
            for job in [job for job in self.waiting if job.parameters["model"] == model]:
                self._end(job, "failed", error.to_dict())
        self._wake.set()

    async def _run(self, batch: list[Job]) -> None:
        self.running = batch
        for job in self.waiting:
            job.notify()  # their places have changed
        self.metrics.queued.set(len(self.waiting))
        self.metrics.batch.observe(len(batch))
        began = time.monotonic()
        for job in batch:
            job.status, job.started = "running", began
            job.notify()
            self._later(self.history.update(job.id, status="running"))
        first = batch[0].parameters
        self.models.touch(first["model"])
        try:
            await self.child.call(
                "forecast",
                model=first["model"],
                settings={name: first[name] for name in COMMON},
                jobs=[
                    {
                        "id": job.id,
                        "path": str(job.path),
                        "name": job.name,
                        "result": str(self.history.result(job.id)),
                        "parameters": job.parameters,
                    }
                    for job in batch
                ],
            )
        except (ApiError, WorkerLost) as error:
            for job in batch:
                if not job.over:
                    self._end(job, "failed", error.to_dict())
        finally:
            self.running = []
        self._pace = 0.7 * self._pace + 0.3 * (time.monotonic() - began) / len(batch)

    def _end_if_stuck(self, job: Job) -> None:
        """A forecaster that does not hear is ended, and another one started."""
        if job in self.running and not job.over:
            log.error("the forecaster did not stop forecast %s; it is started anew", job.id)
            self.child.kill()

    def _end(self, job: Job, status: str | None = None, error: dict[str, Any] | None = None) -> None:
        """The job is over: tell those who watch, remember it."""
        if job.over:
            return
        if job.stop == "deadline":
            status, error = (
                "failed",
                {
                    "status": 422,
                    "code": "deadline",
                    "message": f"Not done within {job.deadline:g} s. Ask for fewer paths or bars, or for more time.",
                },
            )
        elif job.stop is not None:
            status, error = job.stop, None
        assert status is not None
        if job in self.waiting:
            self.waiting.remove(job)
            self.metrics.queued.set(len(self.waiting))
        if job.timer is not None:
            job.timer.cancel()
        if error is not None:
            error = {"code": error["code"], "message": error["message"]}
        job.status, job.error, job.finished = status, error, now()
        self.metrics.ended(status, job.started)
        self._later(self._remember(job))

    async def _remember(self, job: Job) -> None:
        await self.history.update(
            job.id, status=job.status, finished=job.finished, summary=job.summary, error=job.error
        )
        self.jobs.pop(job.id, None)
        job.notify()

    def _later(self, work: Any) -> None:
        """Do it soon, and keep hold of it until then."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WorkerLost):
            log.error("unexpected", exc_info=error)

    async def _settled(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)
