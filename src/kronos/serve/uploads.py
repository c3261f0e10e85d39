"""Takes a file of bars from a stranger: streamed to the disk, read in a process with limits, kept as a plain table."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from kronos.bars.report import shown
from kronos.serve.child import Child
from kronos.serve.errors import ApiError
from kronos.serve.library import Bars, Library
from kronos.serve.settings import MB, Limits

OPTIONS = ("symbol", "timezone", "dayfirst", "decimal", "epoch", "encoding", "on_defect", "columns")
_AT_ONCE = 4  # uploads that are being received or read
_FIELD_BYTES = 1024
_CHOICES: dict[str, dict[str, Any]] = {
    "dayfirst": {"true": True, "false": False},
    "decimal": {".": ".", ",": ","},
    "epoch": {unit: unit for unit in ("s", "ms", "us", "ns")},
    "on_defect": {"refuse": "strict", "drop": "drop"},
}
_PIECE = 1 * MB


class Uploads:
    """The door for files.

    Args:
        child: the reader of what is not yet accepted; its memory is limited.
    """

    def __init__(self, library: Library, child: Child, limits: Limits) -> None:
        self.library, self.child, self.limits = library, child, limits
        self._busy = 0

    async def take(self, request: Request) -> tuple[Bars, dict[str, Any]]:
        """The bars of a multipart request, and the report on them.

        Raises:
            ApiError: too large, not to be read as bars, or too much at once. Nothing is left on the disk.
        """
        if self._busy >= _AT_ONCE:
            raise ApiError(429, "busy", "Several files are being read already. Try again in a second.", 1)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ApiError(415, "no_file", "Send the bars as the field 'file' of a multipart form.")
        self._check_room()
        self._busy += 1
        try:
            return await self._take(request)
        finally:
            self._busy -= 1

    async def _take(self, request: Request) -> tuple[Bars, dict[str, Any]]:
        id, target = self.library.new_upload()
        part = target.with_name(f".{id}.{secrets.token_hex(4)}")
        try:
            async with request.form(max_files=1, max_fields=len(OPTIONS), max_part_size=_FIELD_BYTES) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise ApiError(422, "no_file", "Send the bars as the field 'file' of a multipart form.")
                options = reading_options({key: value for key, value in form.items() if isinstance(value, str)})
                name = shown(Path((file.filename or "upload").replace("\\", "/")).name or "upload", 100)
                await self._save(file, part)
            found = await self._accept(part, target, name, options)
            return self.library.add_upload(id, target, name, found, time.time()), found
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            part.unlink(missing_ok=True)

    async def _save(self, file: UploadFile, part: Path) -> None:
        size = 0
        with part.open("xb") as out:
            while piece := await file.read(_PIECE):
                size += len(piece)
                if size > self.limits.upload_bytes:
                    raise too_large(self.limits.upload_bytes)
                try:
                    await asyncio.to_thread(out.write, piece)
                except OSError as error:
                    raise ApiError(409, "store_full", f"The file cannot be stored: {error.strerror}.") from error

    async def _accept(self, part: Path, target: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
        try:
            asked = {"path": str(part), "target": str(target), "name": name, "options": options}
            return dict(await self.child.call("accept", timeout=self.limits.parse_seconds, **asked))
        except TimeoutError:
            raise ApiError(
                413, "too_slow", f"{name} was not read within {self.limits.parse_seconds:g} s; send fewer bars."
            ) from None

    def _check_room(self) -> None:
        full = self.library.uploads >= self.limits.stored_uploads
        if full or self.library.upload_bytes() >= self.limits.stored_upload_bytes:
            raise ApiError(409, "store_full", "There is no room for more uploads. Delete some that are not needed.")


def too_large(limit: int) -> ApiError:
    """A body beyond the limit."""
    return ApiError(413, "too_large", f"The request is too large; at most {limit / MB:g} MB are accepted.")


def reading_options(fields: dict[str, str]) -> dict[str, Any]:
    """The form's fields as ``read_bars`` takes them.

    Raises:
        ApiError: an unknown field, or a value that no option has.
    """
    if unknown := sorted(set(fields) - set(OPTIONS)):
        raise ApiError(422, "form", f"There is no option '{shown(unknown[0])}'; there are {', '.join(OPTIONS)}.")
    options: dict[str, Any] = {key: value for key, value in fields.items() if value}
    for key in options.keys() & _CHOICES.keys():
        if options[key] not in _CHOICES[key]:
            raise ApiError(422, "form", f"{key} is one of {'  '.join(_CHOICES[key])}.")
        options[key] = _CHOICES[key][options[key]]
    if "columns" in options:
        options["columns"] = named_columns(options["columns"])
    return options


def named_columns(text: str) -> dict[str, str | int]:
    """``{"close": "Last", "open": 1}``: role to name, or to position from 0.

    Raises:
        ApiError: something else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(type(name) in (str, int) for name in found.values()):
        raise ApiError(422, "form", 'columns is a JSON object of roles, such as {"close": "Last", "open": 1}.')
    return found
