"""A process that works for the server, in JSON lines over its standard input and output.

Parsing, reading and forecasting happen in such processes, so the event loop never waits for them, their memory and
time can be limited, and one that hangs or dies is replaced.

The server's side is :class:`Child`; the process's side is :class:`Channel`. A message from the server is
``{"call": n, "op": name, …}``; from the process ``{"call": n, "result": …}``, ``{"call": n, "error": {…}}``, or an
event without a call number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count
from threading import Lock
from typing import IO, Any

from kronos.serve.errors import ApiError, WorkerLost

_LINE_BYTES = 256 * 2**20  # the longest message; an array of paths is the largest
_PAUSE = 0.2  # seconds before a process that died is started again, lest one that cannot start be started all the time
_GRACE = 2.0  # seconds in which a closed process may end by itself

Message = dict[str, Any]


class Child:
    """One process and the calls under way in it; started when first needed, and again after a death.

    Args:
        module: what the process runs: ``python -m module``.
        arguments: words for it.
        serial: one call at a time, so that a call that has to be ended takes no other with it.

    Attributes:
        on_event: told every message that answers no call.
        on_loss: told when the process ended by itself.
    """

    def __init__(self, module: str, *arguments: str, serial: bool = False) -> None:
        self.module, self.arguments = module, arguments
        self.on_event: Callable[[Message], None] = lambda _: None
        self.on_loss: Callable[[], None] = lambda: None
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._restart: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._turn: AbstractAsyncContextManager[Any] = asyncio.Lock() if serial else contextlib.nullcontext()
        self._closed = False

    async def start(self, pause: float = 0.0) -> None:
        """Start the process if none runs, after a pause in seconds."""
        if pause:
            await asyncio.sleep(pause)
        async with self._starting:
            if self._process is not None or self._closed:
                return
            self.starts += 1
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                # Arrow's usual allocator takes a gigabyte at its first use: all that the reader of uploads may have.
                env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
                start_new_session=True,  # a Ctrl-C in the terminal is for the server alone, which drains
            )
            self._reading = asyncio.create_task(self._read(self._process))

    async def call(self, op: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Ask and wait for the answer.

        Args:
            timeout: seconds from its turn; past them the process is ended, since nothing else stops it.

        Raises:
            ApiError: what the process answered.
            WorkerLost: the process died.
            TimeoutError: no answer in time.
        """
        async with self._turn:
            await self.start()
            number = next(self._numbers)
            future = self._calls[number] = asyncio.get_running_loop().create_future()
            try:
                await self.send({"call": number, "op": op, **arguments})
                return await asyncio.wait_for(future, timeout)
            except TimeoutError:
                self.kill()
                raise
            finally:
                del self._calls[number]

    async def send(self, message: Message) -> None:
        """Say something that is not answered."""
        if self._process is None or self._process.stdin is None:
            raise WorkerLost
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerLost from error

    def kill(self) -> None:
        """End the process at once; the next call starts another."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End the process for good: its input ends, and soon so does it."""
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
        if self._process is None or self._reading is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._reading), _GRACE)
        except TimeoutError:
            self.kill()
            await self._reading

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            message = json.loads(line)
            if (number := message.get("call")) is None:
                self.on_event(message)
            elif (future := self._calls.get(number)) is not None and not future.done():  # else the caller has gone
                if (error := message.get("error")) is not None:
                    future.set_exception(ApiError(**error))
                else:
                    future.set_result(message["result"])
        await process.wait()
        self._process = None
        for future in self._calls.values():
            if not future.done():
                future.set_exception(WorkerLost())
        if not self._closed:
            self.on_loss()
            self._restart = asyncio.create_task(self.start(_PAUSE))


class Channel:
    """The process's side: where it writes its messages; safe to use from several threads."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._lock = stream, Lock()

    @classmethod
    def open(cls) -> Channel:
        """The standard output for messages alone: whatever else is printed goes to the standard error.

        Signals are left to the server: one to the whole group must not cut a forecast that drains.
        """
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        channel = cls(os.fdopen(os.dup(1), "wb"))
        os.dup2(2, 1)
        return channel

    def send(self, message: Message) -> None:
        """Write one message. The process ends where nobody reads it any more."""
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except BrokenPipeError:
                os._exit(0)

    @staticmethod
    def messages() -> Iterator[Message]:
        """What the server says, until it ends."""
        return map(json.loads, sys.stdin.buffer)
