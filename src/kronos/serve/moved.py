"""The published web app's addresses: each is answered with what does its work here."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from kronos.serve.errors import ApiError

MOVED = {
    "data-files": "GET /api/bars lists the bars",
    "load-data": "POST /api/bars takes a file; paths of the server are not read",
    "predict": "POST /api/forecasts?wait=true forecasts bars by their id",
    "load-model": "POST /api/models/{id}/load loads a model",
    "available-models": "GET /api/models lists the models",
    "model-status": "GET /api/models says which are loaded",
}
"""Published address below /api → ours, in a sentence."""


def say_where(request: Request) -> None:
    """Says where it is now."""
    raise ApiError(410, "moved", f"The published web app had this address; here {MOVED[request.url.path[5:]]}.")


def moved() -> APIRouter:
    """A route for each of them."""
    router = APIRouter(prefix="/api", include_in_schema=False)
    for address in MOVED:
        router.add_api_route(f"/{address}", say_where, methods=["GET", "POST"])
    return router
