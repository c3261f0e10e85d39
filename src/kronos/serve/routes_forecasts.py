"""Forecasts: ask, watch, cancel, read, download; and the history of them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from kronos.serve.errors import ApiError, not_found
from kronos.serve.queue import Job
from kronos.serve.schemas import REFUSED, ForecastDetail, ForecastList, ForecastRequest, Status
from kronos.serve.services import Here, Services

_HEARTBEAT = 15.0  # seconds between two signs of life on a quiet stream
_EXPORT_SECONDS = 60.0


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


_FORMS = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html",
}
_FILES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {kind: {} for kind in _FORMS.values()}},
    **REFUSED,
}

router = APIRouter(prefix="/api/forecasts", tags=["forecasts"])
Format = Literal["csv", "json", "parquet", "html"]


@router.post(
    "", status_code=202, response_model=ForecastDetail, responses={200: {"description": "With wait: the result."}}
)
async def submit(
    asked: ForecastRequest,
    request: Request,
    here: Here,
    wait: Annotated[bool, Query(description="Answer with the result, when it is there. Hanging up cancels.")] = False,
) -> Response:
    """Ask for a forecast; 202 and its id, or 429 where too many wait already."""
    job = await _accept(asked, here)
    if wait:
        return await _wait(job, request, here)
    return JSONResponse(here.queue.detail(job), 202, {"Location": f"/api/forecasts/{job.id}"})


@router.get("", response_model=ForecastList)
async def history(
    here: Here,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
    q: Annotated[str, Query(max_length=100, description="Part of a name, symbol, model or id.")] = "",
    status: Status | None = None,
) -> dict[str, Any]:
    """Forecasts, the newest first."""
    rows, total = await here.history.page(page, size, q.strip(), status)
    items = [here.queue.jobs[row["id"]].item() if row["id"] in here.queue.jobs else row for row in rows]
    return {"items": items, "total": total, "page": page, "size": size}


@router.get("/{id}", response_model=ForecastDetail)
async def get(id: str, here: Here) -> dict[str, Any]:
    """One forecast: what was asked, and how far it is."""
    return await _row(id, here)


@router.get("/{id}/events", response_class=EventStream, responses=REFUSED)
async def events(id: str, here: Here) -> Response:
    """Server-sent events: ``progress``, then one of ``done``, ``failed``, ``cancelled``, ``interrupted``."""
    job = here.queue.jobs.get(id)
    last = await _row(id, here)
    if here.metrics.open_streams >= here.settings.limits.streams:
        raise ApiError(429, "busy", "Too many streams are open. Ask for the status instead.", 2)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(_events(job, last, here), headers=headers)


@router.post("/{id}/cancel", response_model=ForecastDetail)
async def cancel(id: str, here: Here) -> dict[str, Any]:
    """Stop a forecast; one that is over stays as it is."""
    row = await _row(id, here)
    if (job := here.queue.jobs.get(id)) is None:
        return row
    here.queue.cancel(job)
    await job.wait()
    return here.queue.detail(job)


@router.delete("/{id}", status_code=204)
async def delete(id: str, here: Here) -> Response:
    """Delete a forecast and its result; one that is not over is cancelled first."""
    if (job := here.queue.jobs.get(id)) is not None:
        here.queue.cancel(job)
        await job.wait()
    await _row(id, here)
    await here.history.remove(id)
    return Response(status_code=204)


@router.get("/{id}/result")
async def result(
    id: str, here: Here, paths: Annotated[int, Query(ge=0, le=200, description="Sample paths of the close to add.")] = 0
) -> Response:
    """The document of a finished forecast."""
    await _finished(id, here)
    return await _document(id, here, paths)


@router.get("/{id}/download", response_class=FileResponse, responses=_FILES)
async def download(id: str, here: Here, format: Format = "csv") -> Response:
    """The forecast as a file."""
    row = await _finished(id, here)
    name = f"kronos-{id}.{format}"
    document = here.history.result(id)
    if format == "json":
        return FileResponse(document, filename=name, media_type=_FORMS[format])
    target = document.with_name(f".{id}.{secrets.token_hex(4)}.part.{format}")
    clean = BackgroundTask(target.unlink, missing_ok=True)
    try:
        await _read(here, f"The export of {row['bars_name']}", "export", path=str(document), target=str(target))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(target, filename=name, media_type=_FORMS[format], background=clean)


# -- inside -----------------------------------------------------------------------------------------------------------


async def _accept(asked: ForecastRequest, here: Services) -> Job:
    bars = await here.library.get(asked.bars)
    model = await here.models.get(asked.model)
    symbol = await here.library.choose(bars, asked.symbol)
    length = asked.spec.context_length
    if length is not None and model.context is not None and length > model.context:
        raise ApiError(422, "context", f"{model.id} reads {model.context:,} bars at most; ask for no more context.")
    parameters = asked.parameters() | {"symbol": symbol}
    deadline = asked.deadline or here.settings.limits.deadline
    job = Job(id=secrets.token_hex(8), path=bars.path, name=bars.name, parameters=parameters, deadline=deadline)
    await here.queue.submit(job)
    return job


async def _wait(job: Job, request: Request, here: Services) -> Response:
    """Answer when the forecast is over; whoever hangs up before cancels it."""
    over = asyncio.ensure_future(job.wait())
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait([over, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not over.done():
            here.queue.cancel(job)
        over.cancel()
        gone.cancel()
    if job.status == "done":
        return await _document(job.id, here, 0)
    if job.error is not None:
        raise ApiError(422, job.error["code"], job.error["message"])
    raise ApiError(409, job.status, f"The forecast was {job.status}.")


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(job: Job | None, last: dict[str, Any], here: Services) -> AsyncIterator[bytes]:
    with here.metrics.stream():
        while job is not None and not job.over:
            changed = job.changed  # taken before the event is sent, so that no change is missed meanwhile
            shown = job.progress() or {"done": 0, "total": 0, "eta_seconds": None}
            yield _event("progress", shown | {"queue_position": here.queue.place(job)})
            while not await _happens(changed, _HEARTBEAT):
                yield b": still here\n\n"
        last = here.queue.detail(job) if job is not None else last
        yield _event(last["status"], last)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _row(id: str, here: Services) -> dict[str, Any]:
    """A forecast on its way or over."""
    if (job := here.queue.jobs.get(id)) is not None:
        return here.queue.detail(job)
    row = await here.history.get(id)
    if row is None:
        raise not_found("forecast")
    return row | {"progress": None, "queue_position": None}


async def _finished(id: str, here: Services) -> dict[str, Any]:
    row = await _row(id, here)
    if row["status"] != "done":
        raise ApiError(409, "not_done", f"The forecast is {row['status']}, so there is no result.")
    return row


async def _read(here: Services, what: str, op: str, **arguments: Any) -> Any:
    try:
        return await here.reader.call(op, timeout=_EXPORT_SECONDS, **arguments)
    except TimeoutError:
        raise ApiError(422, "too_slow", f"{what} takes too long.") from None


async def _document(id: str, here: Services, paths: int) -> Response:
    document = here.history.result(id)
    try:
        text = await asyncio.to_thread(document.read_bytes)
    except OSError:
        raise not_found("result") from None
    shown: Any = None
    if paths:
        shown = await _read(here, "Reading the paths", "paths", path=str(document), count=paths)
    # The document was made by this server: only the closing brace is opened again.
    return Response(text[:-1] + b', "paths": ' + json.dumps(shown).encode() + b"}", media_type="application/json")
