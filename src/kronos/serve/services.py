"""Everything that the routes work with, made once for a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from kronos.serve.child import Child, Message
from kronos.serve.history import History
from kronos.serve.library import Library
from kronos.serve.metrics import Metrics
from kronos.serve.models import Models
from kronos.serve.queue import ForecastQueue
from kronos.serve.security import Tokens
from kronos.serve.settings import ServerSettings


@dataclass(frozen=True)
class Services:
    """The parts of one running server."""

    settings: ServerSettings
    metrics: Metrics
    tokens: Tokens
    worker: Child
    reader: Child
    gate: Child
    history: History
    models: Models
    library: Library
    queue: ForecastQueue

    @classmethod
    def build(cls, settings: ServerSettings) -> Services:
        """All parts, not yet started.

        Raises:
            ConfigError: the data folder cannot be used, or another server uses it.
        """
        settings.make_folders()
        history = History(settings.data_dir / "history.sqlite", settings.folder("results"))
        metrics = Metrics()
        worker = Child("kronos.serve.worker")
        reader = Child("kronos.serve.reader", serial=True)
        gate = Child("kronos.serve.reader", str(settings.limits.parse_bytes), serial=True)
        models = Models(worker, settings.folder("models"), settings.budget, metrics)
        queue = ForecastQueue(settings, worker, models, history, metrics)

        def hear(event: Message) -> None:
            if event["event"] == "ready":
                models.is_ready(event["devices"])
                queue.wake()
            else:
                queue.hear(event)

        worker.on_event, worker.on_loss = hear, models.is_lost
        library, tokens = Library(settings, reader, gate), Tokens(settings.token)
        return cls(settings, metrics, tokens, worker, reader, gate, history, models, library, queue)

    async def start(self) -> None:
        """Tidy up after the last run, and start the processes."""
        await self.history.recover()
        await asyncio.gather(*(child.start() for child in (self.worker, self.gate, self.reader)))
        self.queue.start()

    async def stop(self) -> None:
        """Finish what was accepted, then end the processes."""
        await self.queue.drain()
        await asyncio.gather(*(child.close() for child in (self.worker, self.gate, self.reader)))
        await self.history.close()


def services(request: Request) -> Services:
    """The parts of the server that answers the request."""
    found: Services = request.app.state.services
    return found
