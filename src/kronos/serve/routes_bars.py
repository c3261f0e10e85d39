"""Bars: list, upload, look at, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kronos.serve.schemas import BarsDetail, BarsList, Candles
from kronos.serve.services import Services, services
from kronos.serve.uploads import OPTIONS

router = APIRouter(prefix="/api/bars", tags=["bars"])
Here = Annotated[Services, Depends(services)]
Symbol = Annotated[str | None, Query(min_length=1, max_length=64, description="Which series, where there are several.")]

_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "CSV, Parquet or Feather."},
                    **{name: {"type": "string", "maxLength": 1024} for name in OPTIONS},
                },
            }
        }
    },
}


@router.get("", response_model=BarsList)
async def list_bars(here: Here) -> dict[str, Any]:
    """Packaged samples, files of the data folder, uploads."""
    return {"items": [bars.item() for bars in await here.library.list()]}


@router.post("", status_code=201, response_model=BarsDetail, openapi_extra={"requestBody": _FORM})
async def upload_bars(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """Upload a file of bars. It is read at once, and kept as a plain table."""
    bars, found = await here.uploads.take(request)
    response.headers["Location"] = f"/api/bars/{bars.id}"
    return bars.item() | found


@router.get("/{id}", response_model=BarsDetail)
async def get_bars(id: str, here: Here, symbol: Symbol = None) -> dict[str, Any]:
    """What was recognised in a file, and its first and last rows."""
    bars = await here.library.get(id)
    found = await here.library.describe(bars, symbol)
    return bars.item() | found


@router.get("/{id}/candles", response_model=Candles)
async def get_candles(
    id: str,
    here: Here,
    symbol: Symbol = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1500,
    before: Annotated[str | None, Query(max_length=40, description="Only bars earlier than this time.")] = None,
) -> Response:
    """Bars of one series, the last ones or those before a time."""
    return JSONResponse(await here.library.candles(await here.library.get(id), symbol, limit, before))


@router.delete("/{id}", status_code=204)
async def delete_bars(id: str, here: Here) -> Response:
    """Delete an upload."""
    here.library.remove_upload(await here.library.get(id))
    return Response(status_code=204)
