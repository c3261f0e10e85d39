"""Errors as callers see them: a code, a plain message, never a path and never a trace.

Whatever the parts of the server cannot do they say by raising :class:`ApiError`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from kronos import errors
from kronos.bars.samples import SAMPLES
from kronos.serve.schemas import READING_OPTIONS

_PATH = re.compile(r"(?<![\w.:/])(?:~|[A-Za-z]:)?(?:[\\/][^\s\\/:'\"*?<>|,;()]+)*[\\/](?=[^\s\\/])")
_OPTION = re.compile(rf"\b({'|'.join(READING_OPTIONS)})=(?=(\W?))")
_CODES: dict[type[Exception], tuple[int, str]] = {
    errors.DataError: (422, "bars_refused"),
    errors.CalendarError: (422, "calendar"),
    errors.CheckpointError: (422, "checkpoint"),
    errors.ConfigError: (422, "setting"),
    errors.CapacityError: (413, "too_large"),
    errors.Cancelled: (409, "cancelled"),
    errors.MissingExtraError: (422, "missing_extra"),
}
_LISTED = {
    "bars": "There are no bars with this id; GET /api/bars lists them (samples are {}).".format(
        ", ".join(f"sample-{name}" for name in SAMPLES)
    ),
    "model": "There is no model with this id; GET /api/models lists them (kronos-nano is always there).",
}
_INTERNAL = "The server met an unexpected error; its log has the details."

log = logging.getLogger("kronos.serve")


class ApiError(HTTPException):
    """An error that a request ends with: a word for programs, and a message that says what was found and what to do.

    Args:
        retry_after: seconds after which to ask again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.status, self.code, self.message = status, code, message

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


def from_error(error: Exception, hide: Sequence[tuple[Path, str]] = ()) -> ApiError:
    """Any error as the API's; one that nobody expects is logged.

    Args:
        hide: (path, what to call it): names that only the server knows.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, errors.KronosError):
        status, code = _CODES.get(type(error), (422, "refused"))
        return ApiError(status, code, without_paths(as_options(str(error)), hide))
    if isinstance(error, MemoryError):
        return ApiError(413, "too_large", "There is not enough memory. Ask for fewer paths, or unload a model.")
    log.error("unexpected", exc_info=error)
    return ApiError(500, "internal", _INTERNAL)


def as_options(text: str) -> str:
    """``with on_defect='drop' (--on-defect drop)`` as callers of the API write it: ``with on_defect: drop``."""
    text = re.sub(r" \(--[^)]*\)", "", text)
    text = _OPTION.sub(lambda found: found[1] + ("" if found[2] in (".", ",", " ") else ": "), text)
    text = re.sub(r": (True|False)\b", lambda found: found[0].lower(), text)
    return re.sub(r"on_defect: '(\w+)'", r"on_defect: \1", text)


def without_paths(text: str, hide: Sequence[tuple[Path, str]] = ()) -> str:
    """The text with every folder taken away: '/home/x/bars/a.csv' becomes 'a.csv'."""
    for path, name in hide:
        text = text.replace(str(path), name)
        if path.suffix:  # a file is also named without its folder; the name of a folder may be any word
            text = text.replace(path.name, name)
    return _PATH.sub("", text)


def answer(error: HTTPException) -> JSONResponse:
    """The error as a response."""
    code = getattr(error, "code", None) or {404: "not_found", 405: "method"}.get(error.status_code, "refused")
    content = {"error": {"code": code, "message": str(error.detail)}}
    return JSONResponse(content, error.status_code, error.headers)


async def handle(_: Request, error: Exception) -> JSONResponse:
    """Give every error of a request the same form; what was sent is not repeated."""
    if isinstance(error, RequestValidationError):
        named = [
            {**one, "loc": [part for part in one["loc"] if part not in ("body", "query", "path")]}
            for one in error.errors()
        ]
        told = errors.settings_in_words(named, "the request", 5, repeat=False)
        return answer(ApiError(422, "invalid", told[:500]))
    return answer(error if isinstance(error, HTTPException) else ApiError(500, "internal", _INTERNAL))  # logged already
