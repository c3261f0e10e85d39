"""The parts of a server, and what callers ask of them: models, bars, forecasts and the history of these."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from prometheus_client import Gauge
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from kronos.serve import schemas
from kronos.serve.child import Child
from kronos.serve.errors import ApiError, not_found
from kronos.serve.history import History
from kronos.serve.library import Library
from kronos.serve.models import Model, Models
from kronos.serve.queue import ForecastQueue, Job
from kronos.serve.security import Tokens
from kronos.serve.settings import COUNTS, MB, ServerSettings

_HEARTBEAT = 15.0  # seconds between two signs of life on a quiet stream
_EXPORT_SECONDS = 60.0
_DEADLINE = 600.0  # seconds from the acceptance of a forecast to its end, where the request names none
_MOST_STREAMS = 256
_PARSE_BYTES = 1024 * MB  # of memory, for reading an upload
_STREAMS = Gauge("kronos_streams", "Open event streams.", registry=COUNTS)
_STARTS = Gauge("kronos_forecaster_starts", "Times the forecaster was started.", registry=COUNTS)

models = APIRouter(prefix="/api/models", tags=["models"])
bars = APIRouter(prefix="/api/bars", tags=["bars"])
forecasts = APIRouter(prefix="/api/forecasts", tags=["forecasts"])


class Services:
    """The parts of one running server, not yet started.

    Raises:
        ConfigError: the data folder cannot be used, or another server uses it.
    """

    def __init__(self, settings: ServerSettings) -> None:
        settings.make_folders()
        data = settings.data_dir
        self.settings, self.tokens, self.streams = settings, Tokens(settings.token), 0
        self.history = History(data / "history.sqlite", data / "results")
        self.worker = Child("kronos.serve.worker")
        self.reader = Child("kronos.serve.reader", serial=True)
        self.upload_reader = Child("kronos.serve.reader", str(_PARSE_BYTES), serial=True)  # for uploads
        self.library = Library(data, self.reader, self.upload_reader)
        self.models = Models(self.worker, data / "models", settings.budget, settings.model, settings.tokenizer)
        self.queue = ForecastQueue(settings.max_queue, self.worker, self.models, self.history)
        _STREAMS.set_function(lambda: self.streams)
        _STARTS.set_function(lambda: self.worker.starts)

    async def start(self) -> None:
        """Tidy up after the last run, and start the processes."""
        await self.history.recover()
        await asyncio.gather(*(child.start() for child in (self.worker, self.upload_reader, self.reader)))
        self.queue.start()

    async def stop(self) -> None:
        """Finish what was accepted, then end the processes."""
        await self.queue.drain()
        await asyncio.gather(*(child.close() for child in (self.worker, self.upload_reader, self.reader)))
        await self.history.close()

    async def read(self, what: str, op: str, **arguments: Any) -> Any:
        """What the reader of results answers."""
        try:
            return await self.reader.call(op, timeout=_EXPORT_SECONDS, **arguments)
        except TimeoutError:
            raise ApiError(422, "too_slow", f"{what} takes too long.") from None

    async def row(self, id: str) -> dict[str, Any]:
        """A forecast on its way or over."""
        if (job := self.queue.jobs.get(id)) is not None:
            return self.queue.detail(job)
        if (row := await self.history.get(id)) is None:
            raise not_found("forecast")
        return row | {"progress": None, "queue_position": None}


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Here = Annotated[Services, Depends(_services)]
"""The parts of the server that answers a request, as a route asks for them."""

# -- models -----------------------------------------------------------------------------------------------------------


@models.get("", response_model=schemas.ModelList)
async def list_models(here: Here) -> dict[str, Any]:
    """The models at hand."""
    return {
        "items": await here.models.list(),
        "devices": here.models.devices,
        "memory_budget_bytes": here.models.budget,
        "memory_used_bytes": here.models.used(),
    }


@models.get("/{id}", response_model=schemas.ModelDetail)
async def get_model(id: str, here: Here) -> dict[str, Any]:
    """One model and its card."""
    model = await here.models.get(id)
    return model.model_dump() | {"card": (await here.models.card(model))["text"]}


@models.get("/{id}/card", response_model=schemas.ModelCard)
async def get_card(id: str, here: Here) -> dict[str, Any]:
    """A model's card, its Markdown taken apart: texts, and elements as tag, address of a link or null, children."""
    return await here.models.card(await here.models.get(id))


@models.post("/{id}/load", status_code=202, response_model=schemas.ModelItem)
async def load_model(id: str, here: Here, asked: schemas.LoadRequest | None = None) -> Model:
    """Begin to load a model, or to move it to another device; its state says how it goes."""
    model = await here.models.get(id)
    here.models.begin_load(model, asked.device if asked else None)
    return model


@models.post("/{id}/unload", response_model=schemas.ModelItem)
async def unload_model(id: str, here: Here) -> Model:
    """Free a model's memory. A forecast that uses it ends first."""
    model = await here.models.get(id)
    await here.models.unload(model)
    return model


# -- bars -------------------------------------------------------------------------------------------------------------

Symbol = Annotated[str | None, Query(min_length=1, max_length=64, description="Which series, where there are several.")]
_FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "CSV, Excel, JSON, Parquet or Feather."},
        **{name: {"type": "string", "maxLength": 1024} for name in schemas.READING_OPTIONS},
    },
}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@bars.get("", response_model=schemas.BarsList)
async def list_bars(here: Here) -> dict[str, Any]:
    """Packaged samples, files of the data folder, uploads."""
    return {"items": [one.item() for one in await here.library.list()]}


@bars.post("", status_code=201, response_model=schemas.BarsDetail, openapi_extra=_UPLOAD)
async def upload_bars(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """Upload a file of bars. It is read at once, and kept as a plain table."""
    one, found = await here.library.upload(request)
    response.headers["Location"] = f"/api/bars/{one.id}"
    return one.item() | found


@bars.get("/{id}", response_model=schemas.BarsDetail)
async def get_bars(id: str, here: Here, symbol: Symbol = None) -> dict[str, Any]:
    """What was recognised in a file, and its first and last rows."""
    one = await here.library.get(id)
    return one.item() | await here.library.describe(one, symbol)


@bars.get("/{id}/candles", response_model=schemas.Candles)
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


# -- forecasts --------------------------------------------------------------------------------------------------------


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


Format = Literal["csv", "json", "parquet", "html"]
_FORMS: dict[Format, str] = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html",
}
_RESULT = {"description": "With wait: the result."}
_FILE = {"description": "The file.", "content": {kind: {} for kind in _FORMS.values()}}


@forecasts.post("", status_code=202, response_model=schemas.ForecastDetail, responses={200: _RESULT})
async def submit(
    asked: schemas.ForecastRequest,
    request: Request,
    here: Here,
    wait: Annotated[bool, Query(description="Answer with the result, when it is there. Hanging up cancels.")] = False,
) -> Response:
    """Ask for a forecast; 202 and its id, or 429 where too many wait already."""
    chosen = await here.library.get(asked.bars)
    model = await here.models.get(asked.model)
    symbol = await here.library.choose(chosen, asked.symbol)
    if model.context is not None and (asked.context_length or 0) > model.context:
        raise ApiError(422, "context", f"{model.id} reads {model.context:,} bars at most; ask for no more context.")
    parameters = asked.parameters() | {"symbol": symbol}
    job = Job(secrets.token_hex(8), chosen.path, chosen.name, parameters, asked.deadline or _DEADLINE)
    await here.queue.submit(job)
    if wait:
        return await _wait(job, request, here)
    return JSONResponse(here.queue.detail(job), 202, {"Location": f"/api/forecasts/{job.id}"})


@forecasts.get("", response_model=schemas.ForecastList)
async def history(
    here: Here,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
    q: Annotated[str, Query(max_length=100, description="Part of a name, symbol, model or id.")] = "",
    status: schemas.Status | None = None,
) -> dict[str, Any]:
    """Forecasts, the newest first."""
    rows, total = await here.history.page(page, size, q.strip(), status)
    items = [here.queue.jobs[row["id"]].item() if row["id"] in here.queue.jobs else row for row in rows]
    return {"items": items, "total": total, "page": page, "size": size}


@forecasts.get("/{id}", response_model=schemas.ForecastDetail)
async def get(id: str, here: Here) -> dict[str, Any]:
    """One forecast: what was asked, and how far it is."""
    return await here.row(id)


@forecasts.get("/{id}/events", response_class=EventStream, responses=schemas.REFUSED)
async def events(id: str, here: Here) -> Response:
    """Server-sent events: ``progress``, then one of ``done``, ``failed``, ``cancelled``, ``interrupted``."""
    job = here.queue.jobs.get(id)
    last = await here.row(id)
    if here.streams >= _MOST_STREAMS:
        raise ApiError(429, "busy", "Too many streams are open. Ask for the status instead.", 2)
    return EventStream(_events(job, last, here), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@forecasts.post("/{id}/cancel", response_model=schemas.ForecastDetail)
async def cancel(id: str, here: Here) -> dict[str, Any]:
    """Stop a forecast; one that is over stays as it is."""
    row = await here.row(id)
    if (job := here.queue.jobs.get(id)) is None:
        return row
    here.queue.cancel(job)
    await job.wait()
    return here.queue.detail(job)


@forecasts.delete("/{id}", status_code=204)
async def delete(id: str, here: Here) -> Response:
    """Delete a forecast and its result; one that is not over is cancelled first."""
    if (job := here.queue.jobs.get(id)) is not None:
        here.queue.cancel(job)
        await job.wait()
    await here.row(id)
    await here.history.remove(id)
    here.queue.jobs.pop(id, None)  # one that was just cancelled stays there until its end is written down
    return Response(status_code=204)


Price = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@forecasts.get("/{id}/result")
async def result(
    id: str,
    here: Here,
    paths: Annotated[int, Query(ge=0, le=200, description="Sample paths of the close to add.")] = 0,
    touch: Annotated[list[Price], Query(max_length=20, description="Add the chance that these are touched.")] = [],  # noqa: B006 – never changed
    take_profit: Annotated[
        Price | None, Query(description="Add which of two prices is touched first: this one …")
    ] = None,
    stop_loss: Annotated[Price | None, Query(description="… or this one; the last close lies between them.")] = None,
) -> Response:
    """The document of a finished forecast, and what more is asked of it: ``paths``, ``touch``, ``first_touch``."""
    await _finished(id, here)
    asked = {"prices": touch, "take_profit": take_profit, "stop_loss": stop_loss}
    return await _document(id, here, paths, asked)


@forecasts.get("/{id}/download", response_class=FileResponse, responses={200: _FILE, **schemas.REFUSED})
async def download(id: str, here: Here, format: Format = "csv") -> Response:
    """The forecast as a file."""
    row = await _finished(id, here)
    name, document = f"kronos-{id}.{format}", here.history.result(id)
    if format == "json":
        return FileResponse(document, filename=name, media_type=_FORMS[format])
    target = document.with_name(f".{id}.{secrets.token_hex(4)}.part.{format}")
    clean = BackgroundTask(target.unlink, missing_ok=True)
    try:
        await here.read(f"The export of {row['bars_name']}", "export", path=str(document), target=str(target))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return FileResponse(target, filename=name, media_type=_FORMS[format], background=clean)


async def _finished(id: str, here: Services) -> dict[str, Any]:
    row = await here.row(id)
    if row["status"] != "done":
        raise ApiError(409, "not_done", f"The forecast is {row['status']}, so there is no result.")
    return row


async def _wait(job: Job, request: Request, here: Services) -> Response:
    """Answer when the forecast is over; whoever hangs up before cancels it."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    over, gone = asyncio.ensure_future(job.wait()), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait([over, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not over.done():
            here.queue.cancel(job)
        over.cancel()
        gone.cancel()
    if job.status == "done":
        return await _document(job.id, here)
    if job.error is not None:
        raise ApiError(422, job.error["code"], job.error["message"])
    raise ApiError(409, job.status, f"The forecast was {job.status}.")


async def _events(job: Job | None, last: dict[str, Any], here: Services) -> AsyncIterator[bytes]:
    here.streams += 1
    try:
        while job is not None and not job.over:
            changed = job.changed  # taken before the event is sent, so that no change is missed meanwhile
            now = here.queue.detail(job)
            shown = now["progress"] or {"done": 0, "total": 0, "eta_seconds": None}
            yield _event("progress", shown | {"queue_position": now["queue_position"]})
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), _HEARTBEAT)
                except TimeoutError:
                    yield b": still here\n\n"
        if job is not None:
            last = here.queue.detail(job)
        yield _event(last["status"], last)
    finally:
        here.streams -= 1


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _document(id: str, here: Services, paths: int = 0, asked: dict[str, Any] | None = None) -> Response:
    document = here.history.result(id)
    try:
        text = await asyncio.to_thread(document.read_bytes)
    except OSError:
        raise not_found("result") from None
    path, more = str(document), {"paths": None}
    if paths:
        more["paths"] = await here.read("Reading the paths", "paths", path=path, count=paths)
    if asked and any(value not in (None, []) for value in asked.values()):
        more |= await here.read("Counting the touches", "touches", path=path, **asked)
    # The document was made by this server: only the closing brace is opened again.
    return Response(text[:-1] + b", " + json.dumps(more).encode()[1:], media_type="application/json")
