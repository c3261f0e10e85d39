"""The queue of forecasts: bounded, one batch at a time, each with a deadline, each to be cancelled at any moment."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from kronos.serve.child import Child, Message
from kronos.serve.errors import ApiError, from_error, log
from kronos.serve.history import History, Row, now, stored_headline
from kronos.serve.models import Models
from kronos.serve.schemas import OF_THE_TIMES
from kronos.serve.settings import COUNTS, SECONDS
from kronos.spec import spec_of

FINAL = ("done", "failed", "cancelled", "interrupted")
DRAIN_SECONDS = 30.0  # that running forecasts get when the server is told to stop
_MOST_IN_BATCH = 16  # forecasts computed together
_STUCK = 60.0  # seconds; a step of decoding takes less by far

_FORECASTS = Counter("kronos_forecasts", "Forecasts by how they ended.", ("status",), registry=COUNTS)
_DURATION = Histogram("kronos_forecast_seconds", "Time a forecast ran.", buckets=SECONDS, registry=COUNTS)
_BATCH = Histogram("kronos_batch_size", "Forecasts in a batch.", buckets=(1, 2, 4, 8, 16, 32), registry=COUNTS)
_REFUSED = Counter("kronos_refused", "Forecasts refused because the queue was full.", registry=COUNTS)
_QUEUED = Gauge("kronos_queued", "Forecasts that wait.", registry=COUNTS)
_RUNNING = Gauge("kronos_running", "Forecasts that run.", registry=COUNTS)


@dataclass(eq=False)
class Job:
    """A forecast that was accepted and is not over: how far it is, how it ended, and who watches.

    Attributes:
        path, name: the file of the bars, and what people call it.
        parameters: of the request.
        deadline: seconds it may take from now.
    """

    id: str
    path: Path
    name: str
    parameters: dict[str, Any]
    deadline: float
    status: str = "queued"
    created: str = field(default_factory=now)
    finished: str | None = None
    done: int = 0
    total: int = 0
    started: float | None = None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    timer: asyncio.TimerHandle | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether it has ended, however it did."""
        return self.status in FINAL

    @cached_property
    def batch(self) -> tuple[Any, ...]:
        """Jobs that agree in this are computed together."""
        spec = spec_of(self.parameters).to_dict()
        return (self.parameters["model"], *(value for name, value in spec.items() if name not in OF_THE_TIMES))

    def item(self) -> Row:
        """As a list shows it."""
        return {
            **{name: getattr(self, name) for name in ("id", "status", "created", "finished", "summary", "error")},
            **{name: self.parameters[name] for name in ("symbol", "model", "horizon", "num_samples")},
            "bars_name": self.name,
            "mode": "forecast" if self.parameters["cutoff"] is None else "replay",
        }

    def progress(self) -> dict[str, Any] | None:
        """How far it is; None before it has begun."""
        if self.started is None or not self.total:
            return None
        spent, share = time.monotonic() - self.started, self.done / self.total
        left = round(spent * (1 - share) / share, 1) if share else None
        return {"done": self.done, "total": self.total, "eta_seconds": left}

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def wait(self) -> None:
        """Return when the job is over."""
        while not self.over:
            await self.changed.wait()


class ForecastQueue:
    """Takes forecasts, hands them to the worker in batches, and remembers how they end.

    Args:
        most: forecasts that may wait.
    """

    def __init__(self, most: int, worker: Child, models: Models, history: History) -> None:
        self.most, self.worker, self.models, self.history = most, worker, models, history
        self.jobs: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.draining = False
        self._loading: set[str] = set()  # models whose end of loading the queue waits for
        self._wake = asyncio.Event()
        self._pace = 1.0  # seconds a forecast takes, lately
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        worker.on_event = self.on_event
        _QUEUED.set_function(lambda: len(self.waiting))
        _RUNNING.set_function(lambda: len(self.running))

    def start(self) -> None:
        """Begin to hand out work."""
        self._dispatcher = asyncio.create_task(self._dispatch())

    def refusal(self) -> ApiError | None:
        """What a caller is told when the queue is full; counts that it was told. None: there is room."""
        waiting = len(self.waiting)
        if waiting < self.most:
            return None
        _REFUSED.inc()
        after = min(60, max(1, math.ceil(self._pace * waiting / 2)))
        return ApiError(429, "queue_full", f"{waiting} forecasts wait already. Ask again in {after} s.", after)

    def detail(self, job: Job) -> dict[str, Any]:
        """As its page shows it."""
        place = self.waiting.index(job) if job in self.waiting else None
        return job.item() | {"parameters": job.parameters, "progress": job.progress(), "queue_position": place}

    async def submit(self, job: Job) -> None:
        """Accept a forecast."""
        if self.draining:
            raise ApiError(429, "stopping", "The server is stopping. Ask again when it is back.", retry_after=10)
        if (refusal := self.refusal()) is not None:
            raise refusal
        self.jobs[job.id] = job
        self.waiting.append(job)  # before the history is asked, so that the bound holds for callers that come together
        try:
            await self.history.add({**job.item(), "parameters": job.parameters})
        except BaseException:
            self.waiting.remove(job)
            del self.jobs[job.id]
            raise
        late = f"Not done within {job.deadline:g} s. Ask for fewer paths or bars, or for more time."
        error = {"code": "deadline", "message": late}
        job.timer = asyncio.get_running_loop().call_later(job.deadline, self.cancel, job, "failed", error)
        self._wake.set()

    def cancel(self, job: Job, status: str = "cancelled", error: dict[str, Any] | None = None) -> None:
        """Stop a forecast. It is over at once; where it runs, the worker stops within a step of decoding.

        A batch goes on for those of its forecasts that are still wanted.
        """
        if job.over:
            return
        self._end(job, status, error)
        if job in self.running:
            self._later(self.worker.send({"op": "cancel", "ids": [job.id]}))
            if all(other.over for other in self.running):
                asyncio.get_running_loop().call_later(_STUCK, self._end_if_stuck, self.running)

    def close(self) -> None:
        """Accept nothing more, and interrupt what is not done in time."""
        if not self.draining:
            self.draining = True
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.interrupt)

    def interrupt(self) -> None:
        """Do not wait for what still runs; those who watch are told."""
        for job in list(self.jobs.values()):
            self.cancel(job, "interrupted")

    async def drain(self) -> None:
        """Accept nothing more, and return when what was accepted is over."""
        self.close()
        while self.jobs:
            await asyncio.sleep(0.05)
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)

    def on_event(self, event: Message) -> None:
        """What the worker says: that it is ready, or how the running batch goes."""
        kind = event["event"]
        if kind == "ready":
            self.models.devices = event["devices"]
            self.models.ready.set()
            self._wake.set()
        elif kind == "progress":
            for job in self.running:
                job.done, job.total = event["done"], event["total"]
                job.notify()
        elif (known := self.jobs.get(event["id"])) is not None and not known.over:
            known.summary = event.get("summary")
            self._end(known, kind, event.get("error"))
        elif kind == "done":  # it was stopped when its result was being written
            self._later(self.history.discard(event["id"]))

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            if batch := self._next_batch():
                await self._run(batch)
            else:
                await self._wake.wait()

    def _next_batch(self) -> list[Job]:
        """The oldest waiting job whose model is loaded, and those that can be computed with it."""
        for first in self.waiting:
            model = first.parameters["model"]
            if self.models.state(model) == "loaded":
                break
            if model not in self._loading:
                self._loading.add(model)
                self._later(self._load(model))
        else:
            return []
        batch = [job for job in self.waiting if job.batch == first.batch][:_MOST_IN_BATCH]
        for job in batch:
            self.waiting.remove(job)
        return batch

    async def _load(self, model: str) -> None:
        """Load a model that jobs wait for, or wait with them where others load it; when it cannot be, they fail."""
        try:
            await self.models.load(model)
        except Exception as error:
            told = from_error(error).to_dict()
            for job in [job for job in self.waiting if job.parameters["model"] == model]:
                self._end(job, "failed", told)
        finally:
            self._loading.discard(model)
            self._wake.set()

    async def _run(self, batch: list[Job]) -> None:
        began, self.running = time.monotonic(), batch
        _BATCH.observe(len(batch))
        orders = []
        for job in batch:
            job.status, job.started = "running", began
            self._later(self.history.update(job.id, status="running"))
            place = {"path": str(job.path), "result": str(self.history.result(job.id))}
            orders.append({"id": job.id, "name": job.name, **place, "parameters": job.parameters})
        for job in (*batch, *self.waiting):
            job.notify()  # their places have changed
        model = batch[0].parameters["model"]
        self.models.touch(model)
        try:
            await self.worker.call("forecast", model=model, orders=orders)
        except Exception as error:  # whatever it is, the queue goes on with the next batch
            told = from_error(error).to_dict()
            for job in [job for job in batch if not job.over]:  # what was written before is a result all the same
                job.summary = await asyncio.to_thread(stored_headline, self.history.result(job.id))
                self._end(job, *(("failed", told) if job.summary is None else ("done",)))
        finally:
            self.running = []
        self._pace = 0.7 * self._pace + 0.3 * (time.monotonic() - began) / len(batch)

    def _end_if_stuck(self, batch: list[Job]) -> None:
        """A worker that does not hear is ended, and another one started."""
        if self.running is batch:
            log.error("the worker did not stop in %g s; it is started anew", _STUCK)
            self.worker.kill()

    def _end(self, job: Job, status: str, error: dict[str, Any] | None = None) -> None:
        """The job is over: remember it, and tell those who watch."""
        if job.over:
            return
        if job in self.waiting:
            self.waiting.remove(job)
        if job.timer is not None:
            job.timer.cancel()
        if error is not None:
            job.error = {"code": error["code"], "message": error["message"]}
        job.status, job.finished = status, now()
        _FORECASTS.labels(status).inc()
        if job.started is not None:
            _DURATION.observe(time.monotonic() - job.started)
        self._later(self._remember(job))

    async def _remember(self, job: Job) -> None:
        end = {"status": job.status, "finished": job.finished, "summary": job.summary, "error": job.error}
        try:
            await self.history.update(job.id, **end)
        finally:
            self.jobs.pop(job.id, None)
            job.notify()

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it soon, and keep hold of it until then; what nobody expects is logged."""

        async def whole() -> None:
            try:
                await work
            except ApiError:
                pass
            except Exception as error:
                log.error("unexpected", exc_info=error)

        task = asyncio.create_task(whole())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
