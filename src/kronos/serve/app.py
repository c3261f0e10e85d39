"""The application: parts, routes and layers put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from kronos.serve import errors, routes_bars, routes_forecasts, routes_models, routes_system
from kronos.serve.errors import ApiError
from kronos.serve.schemas import ErrorAnswer
from kronos.serve.security import Guard
from kronos.serve.services import Services

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
    for routes in (routes_system, routes_models, routes_bars, routes_forecasts):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=routes_system.STATIC), name="static")

    def full() -> ApiError | None:
        if not parts.desk.full:
            return None
        parts.metrics.refused.inc()
        return parts.desk.refusal()

    return Guard(app, parts.settings, parts.tokens, parts.metrics, full)
