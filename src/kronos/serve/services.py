"""Everything that the routes work with, made once for a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from kronos.serve.child import Child, Message
from kronos.serve.desk import Desk
from kronos.serve.history import History
from kronos.serve.library import Library
from kronos.serve.metrics import Metrics
from kronos.serve.models import Models
from kronos.serve.security import Tokens
from kronos.serve.settings import Settings
from kronos.serve.uploads import Uploads


@dataclass(frozen=True)
class Services:
    """The parts of one running server."""

    settings: Settings
    metrics: Metrics
    tokens: Tokens
    forecaster: Child
    reader: Child
    gate: Child
    history: History
    models: Models
    library: Library
    uploads: Uploads
    desk: Desk

    @classmethod
    def build(cls, settings: Settings) -> Services:
        """All parts, not yet started.

        Raises:
            ConfigError: the data folder cannot be used, or another server uses it.
        """
        settings.make_folders()
        history = History(settings.history_file, settings.results_dir)
        metrics = Metrics()
        forecaster = Child("kronos.serve.forecaster")
        reader = Child("kronos.serve.reader", serial=True)
        gate = Child("kronos.serve.reader", (str(settings.limits.parse_bytes),), serial=True)
        models = Models(forecaster, settings.models_dir, settings.budget, metrics)
        library = Library(settings, reader)
        desk = Desk(settings, forecaster, models, history, metrics)

        def hear(event: Message) -> None:
            if event["event"] == "ready":
                models.is_ready(event["devices"])
                desk.wake()
            else:
                desk.hear(event)

        forecaster.on_event = hear
        forecaster.on_loss = models.is_lost
        return cls(
            settings,
            metrics,
            Tokens(settings.token),
            forecaster,
            reader,
            gate,
            history,
            models,
            library,
            Uploads(library, gate, settings.limits),
            desk,
        )

    async def start(self) -> None:
        """Tidy up after the last run, and start the processes."""
        await self.history.recover()
        await asyncio.gather(*(child.start() for child in (self.forecaster, self.gate, self.reader)))
        self.desk.start()

    async def stop(self) -> None:
        """Finish what was accepted, then end the processes."""
        await self.desk.drain()
        await asyncio.gather(*(child.close() for child in (self.forecaster, self.gate, self.reader)))
        await self.history.close()


def services(request: Request) -> Services:
    """The parts of the server that answers the request."""
    found: Services = request.app.state.services
    return found
