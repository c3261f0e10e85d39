"""Health, metrics, sessions, and the studio's files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from kronos.serve.errors import ApiError
from kronos.serve.schemas import REFUSED, Health, SessionRequest
from kronos.serve.security import COOKIE
from kronos.serve.services import Services, services

STATIC = Path(__file__).with_name("static")

router = APIRouter()
Here = Annotated[Services, Depends(services)]


@router.get("/healthz", tags=["system"])
async def healthz() -> Health:
    """The server lives."""
    return Health(status="ok")


@router.get(
    "/readyz",
    tags=["system"],
    response_model=Health,
    responses={503: {"model": Health, "description": "Not yet, or no longer."}},
)
async def readyz(here: Here) -> Response:
    """The forecaster runs, and new forecasts are accepted."""
    ready = here.models.ready.is_set() and not here.desk.draining
    status = "ready" if ready else "stopping" if here.desk.draining else "starting"
    return JSONResponse({"status": status}, 200 if ready else 503)


@router.get("/metrics", tags=["system"], response_class=PlainTextResponse, responses=REFUSED)
async def metrics(here: Here) -> Response:
    """Counts for Prometheus."""
    here.metrics.running.set(len(here.desk.running))
    here.metrics.starts.set(here.forecaster.starts)
    return Response(here.metrics.text(), media_type="text/plain; version=0.0.4")


@router.post("/api/session", tags=["system"], status_code=204)
async def open_session(asked: SessionRequest, here: Here) -> Response:
    """Exchange the token for a cookie."""
    cookie = here.tokens.cookie_for(asked.token)
    if cookie is None:
        raise ApiError(401, "token", "That is not the server's token.")
    response = Response(status_code=204)
    if cookie:
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
    return response


@router.delete("/api/session", tags=["system"], status_code=204)
async def close_session() -> Response:
    """Give the cookie back."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
    return response


@router.get("/", include_in_schema=False)
async def studio() -> FileResponse:
    """The studio."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/static/plotly.min.js", include_in_schema=False)
async def plotly() -> FileResponse:
    """The charts' script, from the plotly package."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ApiError(404, "not_found", "The package plotly is not installed.")
    script = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(script, headers={"Cache-Control": "public, max-age=86400"})
