"""The application, and the server that runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from kronos.errors import ConfigError
from kronos.files import to_json
from kronos.serve import routes
from kronos.serve.errors import ApiError, handle
from kronos.serve.moved import moved
from kronos.serve.queue import DRAIN_SECONDS, ForecastQueue
from kronos.serve.routes import Here, Services
from kronos.serve.schemas import MOST_PATH_BARS, REFUSED, ErrorAnswer, Health, Limits, SessionRequest, offered
from kronos.serve.security import COOKIE, Guard
from kronos.serve.settings import COUNTS, UPLOAD_BYTES, ServerSettings

STATIC = Path(__file__).with_name("static")
_REFUSED = {"model": ErrorAnswer, "description": "Refused; the message says why, and what to do."}
_NOT_READY = {"model": Health, "description": "Not yet, or no longer."}

system = APIRouter(tags=["system"])


@system.get("/healthz")
async def healthz() -> Health:
    """The server lives."""
    return Health(status="ok")


@system.get("/readyz", response_model=Health, responses={503: _NOT_READY})
async def readyz(here: Here) -> Response:
    """The forecaster runs, and new forecasts are accepted."""
    status = "stopping" if here.queue.draining else "ready" if here.models.ready.is_set() else "starting"
    return JSONResponse({"status": status}, 200 if status == "ready" else 503)


@system.get("/metrics", response_class=PlainTextResponse, responses=REFUSED)
async def metrics() -> Response:
    """Counts for Prometheus."""
    return Response(generate_latest(COUNTS), media_type="text/plain; version=0.0.4")


@system.post("/api/session", status_code=204)
async def open_session(asked: SessionRequest, here: Here) -> Response:
    """Exchange the token for a cookie."""
    cookie = here.tokens.cookie_for(asked.token)
    if cookie is None:
        raise ApiError(401, "token", "That is not the server's token.")
    response = Response(status_code=204)
    if cookie:
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
    return response


@system.delete("/api/session", status_code=204)
async def close_session() -> Response:
    """Give the cookie back."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
    return response


@system.get("/api/settings", response_model=Limits)
async def get_settings() -> dict[str, Any]:
    """What a forecast can be asked with, and what the server takes."""
    return {
        "settings": [{**to_json(one), "kind": one.kind.__name__} for one in offered()],
        "most_path_bars": MOST_PATH_BARS,
        "most_upload_bytes": UPLOAD_BYTES,
    }


@system.get("/", include_in_schema=False)
async def studio() -> FileResponse:
    """The studio."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


@system.get("/static/plotly.min.js", include_in_schema=False)
async def plotly() -> FileResponse:
    """The charts' script, from the plotly package."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ApiError(404, "not_found", "The package plotly is not installed.")
    script = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(script, headers={"Cache-Control": "public, max-age=86400"})


# -- the server -------------------------------------------------------------------------------------------------------


def create_app(parts: Services, on_ready: Callable[[], None]) -> ASGIApp:
    """A server's application; it starts the parts, tells that they are there, and stops them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        on_ready()
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
        responses={"4XX": _REFUSED},
        exception_handlers=dict.fromkeys((HTTPException, RequestValidationError, Exception), handle),
    )
    app.state.services = parts
    for router in (system, routes.models, routes.bars, routes.forecasts, moved()):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return Guard(app, parts.settings, parts.tokens, parts.queue.refusal)


class Server(uvicorn.Server):
    """Stops as ``serve`` says."""

    def __init__(self, config: uvicorn.Config, queue: ForecastQueue) -> None:
        super().__init__(config)
        self.queue, self.interrupted = queue, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Act on a signal."""
        later = asyncio.get_running_loop().call_soon_threadsafe  # a signal comes in the middle of anything
        if not self.should_exit:
            later(self.queue.close)
            super().handle_exit(sig, frame)
        elif not self.interrupted:  # streams and waiting callers hear of it, so their connections end too
            self.interrupted = True
            later(self.queue.interrupt)
        else:
            self.force_exit = True


def serve(settings: ServerSettings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the forecasts that were accepted.

    A second signal interrupts them, a third waits for nothing.

    Args:
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: the address or the data folder is in use.
    """
    host, port = settings.host, settings.port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}). Another server may use it; choose another --port."
        ) from error
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
    parts = Services(settings)
    config = uvicorn.Config(
        create_app(parts, lambda: on_ready(address)),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=int(DRAIN_SECONDS) + 5,
    )
    asyncio.run(Server(config, parts.queue).serve(sockets=[listener]))
