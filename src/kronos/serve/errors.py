"""Errors as callers see them: a code, a plain message, never a path and never a trace.

Whatever the parts of the server cannot do they say by raising :class:`ApiError`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from kronos import errors
from kronos.bars.samples import SAMPLES
from kronos.errors import KronosError

_PATH = re.compile(r"(?<![\w.:/])(?:~|[A-Za-z]:)?(?:[\\/][^\s\\/:'\"*?<>|,;()]+)*[\\/](?=[^\s\\/])")
_OPTION = re.compile(r"\b(columns|on_defect|dayfirst|epoch|decimal|encoding|timezone)=(?=(\W?))")
_CODES: tuple[tuple[type[KronosError], int, str], ...] = (
    (errors.DataError, 422, "bars_refused"),
    (errors.CalendarError, 422, "calendar"),
    (errors.CheckpointError, 422, "checkpoint"),
    (errors.ConfigError, 422, "setting"),
    (errors.CapacityError, 413, "too_large"),
    (errors.Cancelled, 409, "cancelled"),
    (errors.MissingExtraError, 422, "missing_extra"),
)

_SAMPLES = ", ".join(f"sample-{name}" for name in SAMPLES)
_LISTED = {
    "bars": f"There are no bars with this id; GET /api/bars lists them (samples are {_SAMPLES}).",
    "model": "There is no model with this id; GET /api/models lists them (kronos-nano is always there).",
}

log = logging.getLogger("kronos.serve")


class ApiError(HTTPException):
    """An error that a request ends with: a word for programs, and a message that says what was found and what to do.

    Args:
        retry_after: seconds after which to ask again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(status, message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def to_dict(self) -> dict[str, object]:
        """What a process tells the server."""
        return {"status": self.status, "code": self.code, "message": self.message}


class WorkerLost(ApiError):
    """A process of the server's ended in the middle of its work."""

    def __init__(self) -> None:
        super().__init__(
            422,
            "worker_lost",
            "The process that worked on this ended before it was done, most likely for want of memory. "
            "Ask for fewer paths or bars, or a smaller file.",
        )


def not_found(what: str) -> ApiError:
    """Nothing has the id."""
    told = _LISTED.get(what, f"There is no such {what}. It may have been deleted; look at the list.")
    return ApiError(404, "not_found", told)


def internal() -> ApiError:
    """An error that only the log explains."""
    return ApiError(500, "internal", "The server met an unexpected error; its log has the details.")


def from_error(error: Exception, hide: Sequence[tuple[Path, str]] = ()) -> ApiError:
    """Any error as the API's; one that nobody expects is logged.

    Args:
        hide: (path, what to call it): names that only the server knows.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, KronosError):
        text = without_paths(as_options(str(error)), hide)
        status, code = next((found[1:] for found in _CODES if isinstance(error, found[0])), (422, "refused"))
        return ApiError(status, code, text)
    if isinstance(error, MemoryError):
        return ApiError(413, "too_large", "There is not enough memory. Ask for fewer paths, or unload a model.")
    log.error("unexpected", exc_info=error)
    return internal()


def as_options(text: str) -> str:
    """Advice for callers of the library as advice for callers of the API.

    ``with on_defect='drop' (--on-defect drop)`` becomes ``with on_defect: drop``.
    """
    text = re.sub(r" \(--[^)]*\)", "", text)
    text = _OPTION.sub(lambda found: found[1] + ("" if found[2] in (".", ",", " ") else ": "), text)
    text = text.replace("on_defect: 'drop'", "on_defect: drop")
    return text.replace("dayfirst: True", "dayfirst: true").replace("dayfirst: False", "dayfirst: false")


def without_paths(text: str, hide: Sequence[tuple[Path, str]] = ()) -> str:
    """The text with every folder taken away: '/home/x/bars/a.csv' becomes 'a.csv'."""
    for path, name in hide:
        text = text.replace(str(path), name)
        if path.suffix:  # a file is also named without its folder; the name of a folder may be any word
            text = text.replace(path.name, name)
    return _PATH.sub("", text)


# -- as HTTP answers --------------------------------------------------------------------------------------------------


def answer(error: ApiError) -> JSONResponse:
    """The error as a response."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": {"code": error.code, "message": error.message}}, error.status, headers)


def install(app: FastAPI) -> None:
    """Give every error the same form."""

    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(ApiError(422, "invalid", in_words(error)))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method"}.get(error.status_code, "refused")
        response = answer(ApiError(error.status_code, code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        # the server's log has the trace; the caller needs none
        return answer(internal())


def in_words(error: RequestValidationError) -> str:
    """What is wrong with a request, by field; what was sent is not repeated."""
    parts = []
    for one in error.errors()[:5]:
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path"))
        parts.append(f"{place}: {one['msg']}" if place else str(one["msg"]))
    return "; ".join(parts)[:500]
