"""Clients by the hundred, on plain sockets so that they cost less than the server they ask."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from serving import QUICK, Live

ENOUGH = 60.0  # seconds that any answer may take


@dataclass
class Answer:
    """Status, headers in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One kept connection to a server."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self.host, self.port = host, int(port)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, path: str, body: Any = None) -> None:
        """Ask, without waiting for the answer."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        await self.writer.drain()

    async def receive(self) -> Answer:
        """The answer."""
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.drop()
        return Answer(int(head[0].split()[1]), headers, body)

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask and wait. A kept connection that the server has closed meanwhile is opened again."""
        for _ in range(2):
            try:
                await self.send(method, path, body)
                return await asyncio.wait_for(self.receive(), ENOUGH)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.drop()
        raise ConnectionError(f"{method} {path} was not answered twice")

    def drop(self) -> None:
        """Hang up, whatever is under way."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


@dataclass
class Tally:
    """What the clients have seen."""

    statuses: dict[int, int] = field(default_factory=dict)
    refusals: list[float] = field(default_factory=list)  # seconds
    accepted: set[str] = field(default_factory=set)
    waited: int = 0

    def count(self, answer: Answer) -> Answer:
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        return answer

    @property
    def median_refusal(self) -> float:
        return statistics.median(self.refusals)


async def client(live: Live, number: int, until: float, tally: Tally) -> None:
    """Asks for forecasts as a script would: waits for the answer or watches the status, and obeys Retry-After."""
    rng = np.random.default_rng(number)
    connection = Connection(live.address)
    while time.monotonic() < until:
        asked = {**QUICK, "seed": int(rng.integers(4)), "horizon": int(rng.integers(2, 5)), "num_samples": 20}
        waits = rng.random() < 0.5
        began = time.monotonic()
        answer = tally.count(await connection.ask("POST", f"/api/forecasts{'?wait=true' if waits else ''}", asked))
        if answer.status == 429:
            tally.refusals.append(time.monotonic() - began)
            await asyncio.sleep(min(2.0, float(answer.headers["retry-after"])) * float(rng.uniform(0.5, 1.0)))
        elif answer.status == 202:
            id = answer.json()["id"]
            tally.accepted.add(id)
            if rng.random() < 0.2:
                tally.count(await connection.ask("POST", f"/api/forecasts/{id}/cancel"))
            while (answer := await connection.ask("GET", f"/api/forecasts/{id}")).json()["status"] in (
                "queued",
                "running",
            ):
                tally.count(answer)
                await asyncio.sleep(0.25)
            tally.count(answer)
        else:
            tally.waited += answer.status == 200
    connection.drop()


async def crowd(live: Live, clients: int, seconds: float) -> Tally:
    """Many clients at once, for some time."""
    tally, until = Tally(), time.monotonic() + seconds
    await asyncio.gather(*(client(live, number, until, tally) for number in range(clients)))
    return tally


async def hang_up(live: Live, number: int) -> None:
    """Asks for a long forecast, and goes away at some moment: before the answer, or from the stream of events."""
    rng = np.random.default_rng(number)
    connection = Connection(live.address)
    long = {**QUICK, "horizon": 500, "num_samples": 200, "seed": number}
    await connection.send("POST", "/api/forecasts?wait=true", long)
    await asyncio.sleep(float(rng.uniform(0, 0.5)))
    connection.drop()


async def disconnects(live: Live, times: int, at_once: int = 20) -> None:
    """So many clients that go away, some at a time."""
    for first in range(0, times, at_once):
        await asyncio.gather(*(hang_up(live, number) for number in range(first, min(times, first + at_once))))


def memory(live: Live) -> int:
    """Bytes that the server's processes hold together."""
    return sum(process.memory_info().rss for process in live.family())
