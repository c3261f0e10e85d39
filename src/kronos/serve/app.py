"""The application, and the server that runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from kronos.errors import ConfigError
from kronos.serve import errors, routes, routes_forecasts
from kronos.serve.schemas import ErrorAnswer
from kronos.serve.security import Guard
from kronos.serve.services import Services
from kronos.serve.settings import ServerSettings

_ERRORS = {"4XX": {"model": ErrorAnswer, "description": "Refused; the message says why, and what to do."}}


def create_app(parts: Services) -> ASGIApp:
    """A server's application; it starts the parts and stops them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        yield
        await parts.stop()

    app = FastAPI(
        title="kronos",
        version=version("kronos-kline"),
        summary="Forecasts of candlesticks.",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # their pages come from a CDN
        redoc_url=None,
        responses=_ERRORS,  # type: ignore[arg-type]
    )
    app.state.services = parts
    errors.install(app)
    for router in (*routes.ROUTERS, routes_forecasts.router):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=routes.STATIC), name="static")
    return Guard(app, parts.settings, parts.tokens, parts.metrics, parts.queue.refusal)


class Server(uvicorn.Server):
    """Stops as ``serve`` says, and tells when it answers."""

    def __init__(self, config: uvicorn.Config, parts: Services, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.parts, self.on_start, self.interrupted = parts, on_start, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Act on a signal."""
        later = asyncio.get_running_loop().call_soon_threadsafe  # a signal comes in the middle of anything
        if not self.should_exit:
            later(self.parts.queue.close)
            super().handle_exit(sig, frame)
        elif not self.interrupted:  # streams and waiting callers hear of it, so their connections end too
            self.interrupted = True
            later(self.parts.queue.interrupt)
        else:
            self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer requests."""
        await super().startup(sockets)
        if self.started:
            self.on_start()


def serve(settings: ServerSettings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the forecasts that were accepted.

    A second signal interrupts them, a third waits for nothing.

    Args:
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: the address or the data folder is in use.
    """
    listener = _listen(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listener.getsockname()[1]}/"
    parts = Services(settings)
    config = uvicorn.Config(
        create_app(parts),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=int(settings.limits.drain) + 5,
    )
    server = Server(config, parts, lambda: on_ready(address))
    asyncio.run(server.serve(sockets=[listener]))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}). Another server may use it; choose another --port."
        ) from error
    return listener
