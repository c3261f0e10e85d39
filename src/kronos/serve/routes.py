"""Health, sessions, the studio's files, settings, models and bars; forecasts are in ``routes_forecasts``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from kronos.files import to_json
from kronos.serve.errors import ApiError
from kronos.serve.library import READING_OPTIONS
from kronos.serve.models import Model
from kronos.serve.schemas import (
    MOST_PATH_BARS,
    REFUSED,
    BarsDetail,
    BarsList,
    Candles,
    Health,
    Limits,
    LoadRequest,
    ModelCard,
    ModelDetail,
    ModelItem,
    ModelList,
    SessionRequest,
    offered,
)
from kronos.serve.security import COOKIE
from kronos.serve.services import Here

STATIC = Path(__file__).with_name("static")
Symbol = Annotated[str | None, Query(min_length=1, max_length=64, description="Which series, where there are several.")]

system = APIRouter(tags=["system"])
models = APIRouter(prefix="/api/models", tags=["models"])
bars = APIRouter(prefix="/api/bars", tags=["bars"])
ROUTERS = (system, models, bars)

# -- system -----------------------------------------------------------------------------------------------------------


@system.get("/healthz")
async def healthz() -> Health:
    """The server lives."""
    return Health(status="ok")


@system.get(
    "/readyz", response_model=Health, responses={503: {"model": Health, "description": "Not yet, or no longer."}}
)
async def readyz(here: Here) -> Response:
    """The forecaster runs, and new forecasts are accepted."""
    ready = here.models.ready.is_set() and not here.queue.draining
    status = "ready" if ready else "stopping" if here.queue.draining else "starting"
    return JSONResponse({"status": status}, 200 if ready else 503)


@system.get("/metrics", response_class=PlainTextResponse, responses=REFUSED)
async def metrics(here: Here) -> Response:
    """Counts for Prometheus."""
    here.metrics.running.set(len(here.queue.running))
    here.metrics.starts.set(here.worker.starts)
    return Response(here.metrics.text(), media_type="text/plain; version=0.0.4")


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
async def get_settings(here: Here) -> dict[str, Any]:
    """What a forecast can be asked with, and what the server takes."""
    return {
        "settings": [{**to_json(one), "kind": one.kind.__name__} for one in offered()],
        "most_path_bars": MOST_PATH_BARS,
        "most_upload_bytes": here.settings.limits.upload_bytes,
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


# -- models -----------------------------------------------------------------------------------------------------------


@models.get("", response_model=ModelList)
async def list_models(here: Here) -> dict[str, Any]:
    """The models at hand."""
    return {
        "items": await here.models.list(),
        "devices": here.models.devices,
        "memory_budget_bytes": here.models.budget,
        "memory_used_bytes": here.models.used(),
    }


@models.get("/{id}", response_model=ModelDetail)
async def get_model(id: str, here: Here) -> dict[str, Any]:
    """One model and its card."""
    model = await here.models.get(id)
    return model.model_dump() | {"card": (await here.models.card(model))["text"]}


@models.get("/{id}/card", response_model=ModelCard)
async def get_card(id: str, here: Here) -> dict[str, Any]:
    """A model's card, its Markdown taken apart: texts, and elements as tag, address of a link or null, children."""
    return await here.models.card(await here.models.get(id))


@models.post("/{id}/load", status_code=202, response_model=ModelItem)
async def load_model(id: str, here: Here, asked: LoadRequest | None = None) -> Model:
    """Begin to load a model, or to move it to another device; its state says how it goes."""
    model = await here.models.get(id)
    here.models.begin_load(model, asked.device if asked else None)
    return model


@models.post("/{id}/unload", response_model=ModelItem)
async def unload_model(id: str, here: Here) -> Model:
    """Free a model's memory. A forecast that uses it ends first."""
    model = await here.models.get(id)
    await here.models.unload(model)
    return model


# -- bars -------------------------------------------------------------------------------------------------------------

_FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "CSV, Parquet or Feather."},
        **{name: {"type": "string", "maxLength": 1024} for name in READING_OPTIONS},
    },
}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@bars.get("", response_model=BarsList)
async def list_bars(here: Here) -> dict[str, Any]:
    """Packaged samples, files of the data folder, uploads."""
    return {"items": [one.item() for one in await here.library.list()]}


@bars.post("", status_code=201, response_model=BarsDetail, openapi_extra=_UPLOAD)
async def upload_bars(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """Upload a file of bars. It is read at once, and kept as a plain table."""
    one, found = await here.library.upload(request)
    response.headers["Location"] = f"/api/bars/{one.id}"
    return one.item() | found


@bars.get("/{id}", response_model=BarsDetail)
async def get_bars(id: str, here: Here, symbol: Symbol = None) -> dict[str, Any]:
    """What was recognised in a file, and its first and last rows."""
    one = await here.library.get(id)
    return one.item() | await here.library.describe(one, symbol)


@bars.get("/{id}/candles", response_model=Candles)
async def get_candles(
    id: str,
    here: Here,
    symbol: Symbol = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1500,
    before: Annotated[str | None, Query(max_length=40, description="Only bars earlier than this time.")] = None,
) -> Response:
    """Bars of one series, the last ones or those before a time."""
    return JSONResponse(await here.library.candles(await here.library.get(id), symbol, limit, before))


@bars.delete("/{id}", status_code=204)
async def delete_bars(id: str, here: Here) -> Response:
    """Delete an upload."""
    here.library.remove_upload(await here.library.get(id))
    return Response(status_code=204)
