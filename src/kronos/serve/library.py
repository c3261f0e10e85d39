"""The bars at hand: packaged samples, files in the user's folder, and uploads. Callers know ids, never paths."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from kronos.bars.report import shown
from kronos.bars.samples import SAMPLES, sample_path
from kronos.errors import DataError, some_of
from kronos.files import bars_files, write_json
from kronos.serve.child import Child
from kronos.serve.errors import ApiError, not_found
from kronos.serve.schemas import READING_OPTIONS
from kronos.serve.settings import MB, UPLOAD_BYTES, digest_of_name

_SWITCH = {"true": True, "false": False}
_CHOICES: dict[str, dict[str, Any]] = {
    "dayfirst": _SWITCH,
    "newest_first": _SWITCH,
    "decimal": {".": ".", ",": ","},
    "epoch": {unit: unit for unit in ("s", "ms", "us", "ns")},
    "on_defect": {"refuse": "strict", "drop": "drop", "mend": "mend"},
}
_COLUMNS = TypeAdapter(dict[str, StrictStr | StrictInt])
_MOST_FILES = 2000  # of the user's folder
_MOST_DESCRIPTIONS = 512
_READ_SECONDS = 60.0
_PARSE_SECONDS = 20.0  # for an upload
_UPLOADS_AT_ONCE = 4  # being received or read
_MOST_UPLOADS = 500  # kept
_MOST_UPLOAD_BYTES = 2048 * MB  # of all that are kept
_FIELD_BYTES = 1024


@dataclass(frozen=True)
class Bars:
    """One file of bars.

    Attributes:
        source: ``sample``, ``folder`` or ``upload``.
        path: where it lies; never shown.
        created: of uploads, to list the newest first.
    """

    id: str
    name: str
    source: str
    path: Path
    symbols: list[str] | None = None
    rows: int | None = None
    created: float = 0.0

    @property
    def modified(self) -> int:
        """When the file was written, in nanoseconds; 0 where it is gone."""
        return self.path.stat().st_mtime_ns if self.path.exists() else 0

    def item(self) -> dict[str, Any]:
        """As the API shows it."""
        try:
            size = self.path.stat().st_size
        except OSError:
            size = None
        return {name: getattr(self, name) for name in ("id", "name", "source", "symbols", "rows")} | {"bytes": size}


class Library:
    """Finds bars by id, has them looked into, and takes uploads.

    Args:
        data: the data folder.
        reader: looks into what is already accepted.
        upload_reader: the reader of uploads, whose memory is limited.
    """

    def __init__(self, data: Path, reader: Child, upload_reader: Child) -> None:
        self.reader, self.upload_reader = reader, upload_reader
        self._folder, self._uploads_folder = data / "bars", data / "uploads"
        self._samples = {
            f"sample-{name}": Bars(f"sample-{name}", name, "sample", sample_path(name)) for name in SAMPLES
        }
        self._descriptions: OrderedDict[tuple[str, int, str | None], dict[str, Any]] = OrderedDict()
        self._uploads = {bars.id: bars for bars in _stored(self._uploads_folder)}
        self._uploading = 0

    async def list(self) -> list[Bars]:
        """Samples, the folder's files, uploads (newest first); with symbols and rows where they were looked at."""
        uploads = sorted(self._uploads.values(), key=lambda bars: -bars.created)
        folder = await asyncio.to_thread(self._in_folder)
        shown = []
        for bars in (*self._samples.values(), *folder.values(), *uploads):
            found = self._descriptions.get((bars.id, bars.modified, None))
            shown.append(bars if found is None else replace(bars, symbols=found["symbols"], rows=found["rows"]))
        return shown

    async def get(self, id: str) -> Bars:
        """The bars of an id."""
        found = self._samples.get(id) or self._uploads.get(id)
        if found is None and id.startswith("folder-"):
            found = (await asyncio.to_thread(self._in_folder)).get(id)
        if found is None:
            raise not_found("bars")
        return found

    async def describe(self, bars: Bars, symbol: str | None = None) -> dict[str, Any]:
        """Report, symbols, rows and a preview of one file."""
        key = (bars.id, bars.modified, symbol)
        if key not in self._descriptions:
            self._descriptions[key] = await self._ask("describe", bars, symbol)
            while len(self._descriptions) > _MOST_DESCRIPTIONS:
                self._descriptions.popitem(last=False)
        self._descriptions.move_to_end(key)
        return self._descriptions[key]

    async def candles(self, bars: Bars, symbol: str | None, limit: int, before: str | None) -> dict[str, Any]:
        """Some bars of one series."""
        return await self._ask("candles", bars, symbol, limit=limit, before=before)

    async def choose(self, bars: Bars, symbol: str | None) -> str | None:
        """The symbol to read: the one that is named, or the only one; None where the bars name none."""
        symbols = (await self.describe(bars))["symbols"]
        some = some_of(symbols) or "none"
        if symbol is None and len(symbols) > 1:
            raise ApiError(422, "symbol", f"These bars hold {len(symbols)} symbols ({some}); choose one.")
        if symbol is not None and symbol not in symbols:
            raise ApiError(422, "symbol", f"These bars hold no symbol '{symbol[:40]}'. They name {some}.")
        return symbol or next(iter(symbols), None)

    async def upload(self, request: Request) -> tuple[Bars, dict[str, Any]]:
        """The bars of a multipart request, and the report on them. They are kept as a plain table."""
        if self._uploading >= _UPLOADS_AT_ONCE:
            raise ApiError(429, "busy", "Several files are being read already. Try again in a second.", 1)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ApiError(415, "no_file", "Send the bars as the field 'file' of a multipart form.")
        held = sum(bars.path.stat().st_size for bars in self._uploads.values() if bars.path.exists())
        if len(self._uploads) >= _MOST_UPLOADS or held >= _MOST_UPLOAD_BYTES:
            raise ApiError(409, "store_full", "There is no room for more uploads. Delete some that are not needed.")
        self._uploading += 1
        id = f"upload-{secrets.token_hex(8)}"
        target = self._uploads_folder / f"{id}.parquet"
        part = target.with_name(f".{id}.{secrets.token_hex(4)}.part")
        try:
            async with request.form(max_files=1, max_fields=len(READING_OPTIONS), max_part_size=_FIELD_BYTES) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise ApiError(422, "no_file", "Send the bars as the field 'file' of a multipart form.")
                options = reading_options({key: value for key, value in form.items() if isinstance(value, str)})
                name = shown(Path((file.filename or "upload").replace("\\", "/")).name or "upload", 100)
                if (file.size or 0) > UPLOAD_BYTES:
                    most = f"{UPLOAD_BYTES / MB:g} MB"
                    raise ApiError(413, "too_large", f"The request is too large; at most {most} are accepted.")
                try:
                    with part.open("xb") as out:
                        await asyncio.to_thread(shutil.copyfileobj, file.file, out)
                except OSError as error:
                    raise ApiError(409, "store_full", f"The file cannot be stored: {error.strerror}.") from error
            words = {"path": str(part), "target": str(target), "name": name, "options": options}
            try:
                found = dict(await self.upload_reader.call("accept", timeout=_PARSE_SECONDS, **words))
            except TimeoutError:
                told = f"{name} was not read within {_PARSE_SECONDS:g} s; send fewer bars."
                raise ApiError(413, "too_slow", told) from None
            facts = {"name": name, "symbols": found["symbols"], "rows": found["rows"], "created": time.time()}
            write_json(target.with_suffix(".json"), {**facts, "found": found}, indent=None, durable=True)
            self._uploads[id] = bars = Bars(id=id, source="upload", path=target, **facts)
            self._descriptions[(id, bars.modified, None)] = found
            return bars, found
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            part.unlink(missing_ok=True)
            self._uploading -= 1

    def remove_upload(self, bars: Bars) -> None:
        """Delete an upload."""
        if bars.source != "upload":
            raise ApiError(409, "not_yours", f"{bars.name} was not uploaded here, so it is not deleted here.")
        self._uploads.pop(bars.id, None)
        for ending in (".json", ".parquet"):
            bars.path.with_suffix(ending).unlink(missing_ok=True)

    async def _ask(self, op: str, bars: Bars, symbol: str | None, **words: Any) -> dict[str, Any]:
        if symbol is not None:
            await self.choose(bars, symbol)
        words = {"path": str(bars.path), "name": bars.name, "symbol": symbol, **words}
        try:
            return dict(await self.reader.call(op, timeout=_READ_SECONDS, **words))
        except TimeoutError:
            raise ApiError(422, "too_slow", f"{bars.name} takes too long to read; it is too large for this.") from None

    def _in_folder(self) -> dict[str, Bars]:
        """Files of bars in the user's folder and the folders in it; links that lead out of it are left out."""
        root = self._folder.resolve()
        try:
            files = bars_files([self._folder])[:_MOST_FILES]
        except DataError:  # none
            return {}
        found = {}
        for path in files:
            real, name = path.resolve(), path.relative_to(self._folder).as_posix()
            if real.is_relative_to(root) and real.is_file():
                id = f"folder-{digest_of_name(name)}"
                found[id] = Bars(id, name.encode(errors="replace").decode(), "folder", real)
        return found


def reading_options(fields: dict[str, str]) -> dict[str, Any]:
    """The form's fields as ``read_bars`` takes them.

    ``columns`` is ``{"close": "Last", "open": 1}``: role to name, or to position from 0.
    """
    if unknown := sorted(set(fields) - set(READING_OPTIONS)):
        names = ", ".join(READING_OPTIONS)
        raise ApiError(422, "form", f"There is no option '{shown(unknown[0])}'; there are {names}.")
    options: dict[str, Any] = {key: value for key, value in fields.items() if value}
    for key in options.keys() & _CHOICES.keys():
        if options[key] not in _CHOICES[key]:
            raise ApiError(422, "form", f"{key} is one of {'  '.join(_CHOICES[key])}.")
        options[key] = _CHOICES[key][options[key]]
    if "columns" in options:
        try:
            options["columns"] = _COLUMNS.validate_json(options["columns"])
        except ValidationError:
            told = 'columns is a JSON object of roles, such as {"close": "Last", "open": 1}.'
            raise ApiError(422, "form", told) from None
    return options


def _stored(folder: Path) -> list[Bars]:
    """Uploads of earlier runs. What was left half written is deleted."""
    kept = []
    for path in sorted(folder.iterdir()):
        table = path.with_suffix(".parquet")
        if path.name.startswith(".") or not (path.with_suffix(".json").exists() and table.exists()):
            path.unlink(missing_ok=True)
        elif path.suffix == ".json":
            facts = json.loads(path.read_text(encoding="utf-8"))
            known = {name: facts[name] for name in ("name", "symbols", "rows", "created")}
            kept.append(Bars(id=path.stem, source="upload", path=table, **known))
    return kept
