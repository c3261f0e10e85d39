"""Everything that the routes work with, made once for a server."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from kronos.serve.child import Child, Message
from kronos.serve.history import History
from kronos.serve.library import Library
from kronos.serve.metrics import Metrics
from kronos.serve.models import Models
from kronos.serve.queue import ForecastQueue
from kronos.serve.security import Tokens
from kronos.serve.settings import ServerSettings


class Services:
    """The parts of one running server, not yet started.

    Raises:
        ConfigError: the data folder cannot be used, or another server uses it.
    """

    def __init__(self, settings: ServerSettings) -> None:
        settings.make_folders()
        self.settings, self.tokens, self.metrics = settings, Tokens(settings.token), Metrics()
        self.history = History(settings.data_dir / "history.sqlite", settings.folder("results"))
        self.worker = Child("kronos.serve.worker")
        self.reader = Child("kronos.serve.reader", serial=True)
        self.gate = Child("kronos.serve.reader", str(settings.limits.parse_bytes), serial=True)  # for uploads
        self.library = Library(settings, self.reader, self.gate)
        self.models = Models(self.worker, settings.folder("models"), settings.budget, self.metrics)
        self.queue = ForecastQueue(settings, self.worker, self.models, self.history, self.metrics)
        self.worker.on_event, self.worker.on_loss = self._hear, self.models.is_lost

    def _hear(self, event: Message) -> None:
        if event["event"] == "ready":
            self.models.is_ready(event["devices"])
            self.queue.wake()
        else:
            self.queue.hear(event)

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


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Here = Annotated[Services, Depends(_services)]
"""The parts of the server that answers a request, as a route asks for them."""
