"""One forecast on its way: what was asked, how far it is, how it ended, and who watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kronos.serve.history import FINAL, Row

COMMON = ("horizon", "num_samples", "temperature", "top_p", "top_k", "seed", "context_length")
"""Forecasts of one model that agree in these are computed together."""


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
