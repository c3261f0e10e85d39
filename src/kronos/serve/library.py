"""The bars at hand: packaged samples, files in the user's folder, and uploads. Callers know ids, never paths."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kronos.bars.samples import SAMPLES, sample_path
from kronos.serve.child import Child
from kronos.serve.errors import ApiError, not_found
from kronos.serve.results import durable
from kronos.serve.settings import Settings

ENDINGS = (".csv", ".csv.gz", ".csv.zip", ".txt", ".tsv", ".parquet", ".feather", ".arrow", ".zip", ".gz")
_MOST_FILES = 2000
_MOST_DESCRIPTIONS = 512
_READ_SECONDS = 60.0


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

    def item(self) -> dict[str, Any]:
        """As the API shows it."""
        try:
            size = self.path.stat().st_size
        except OSError:
            size = None
        return {
            "id": self.id,
            "name": self.name,
            "source": self.source,
            "symbols": self.symbols,
            "rows": self.rows,
            "bytes": size,
        }


class Library:
    """Finds bars by id, and has the reader look into them.

    Args:
        child: the reader of what is already accepted.
    """

    def __init__(self, settings: Settings, child: Child) -> None:
        self.settings, self.child = settings, child
        self._samples = {
            f"sample-{name}": Bars(f"sample-{name}", name, "sample", sample_path(name)) for name in SAMPLES
        }
        self._descriptions: OrderedDict[tuple[str, int, str | None], dict[str, Any]] = OrderedDict()
        self._uploads = {bars.id: bars for bars in _stored(settings.uploads_dir)}

    # -- finding ------------------------------------------------------------------------------------------------------

    async def list(self) -> list[Bars]:
        """Samples, the folder's files, uploads (newest first)."""
        uploads = sorted(self._uploads.values(), key=lambda bars: -bars.created)
        folder = await asyncio.to_thread(self._folder)
        return [self._known(bars) for bars in (*self._samples.values(), *folder.values(), *uploads)]

    async def get(self, id: str) -> Bars:
        """The bars of an id.

        Raises:
            ApiError: there are none.
        """
        found = self._samples.get(id) or self._uploads.get(id)
        if found is None and id.startswith("folder-"):
            found = (await asyncio.to_thread(self._folder)).get(id)
        if found is None:
            raise not_found("bars")
        return found

    async def describe(self, bars: Bars, symbol: str | None = None) -> dict[str, Any]:
        """Report, symbols, rows and a preview of one file.

        Raises:
            ApiError: it cannot be read, or lacks the symbol.
        """
        key = (bars.id, bars.path.stat().st_mtime_ns if bars.path.exists() else 0, symbol)
        if key not in self._descriptions:
            if symbol is not None:
                whole = await self.describe(bars)
                check_symbol(whole["symbols"], symbol)
            found = await self._ask("describe", bars, path=str(bars.path), name=bars.name, symbol=symbol)
            self._descriptions[key] = found
            while len(self._descriptions) > _MOST_DESCRIPTIONS:
                self._descriptions.popitem(last=False)
        self._descriptions.move_to_end(key)
        return self._descriptions[key]

    async def candles(self, bars: Bars, symbol: str | None, limit: int, before: str | None) -> dict[str, Any]:
        """Some bars of one series.

        Raises:
            ApiError: they cannot be read, or hold several symbols of which none is named.
        """
        if symbol is not None:
            check_symbol((await self.describe(bars))["symbols"], symbol)
        asked = {"symbol": symbol, "limit": limit, "before": before}
        return dict(await self._ask("candles", bars, path=str(bars.path), name=bars.name, **asked))

    # -- uploads ------------------------------------------------------------------------------------------------------

    @property
    def uploads(self) -> int:
        return len(self._uploads)

    def upload_bytes(self) -> int:
        """What the uploads take on the disk."""
        return sum(bars.path.stat().st_size for bars in self._uploads.values() if bars.path.exists())

    def new_upload(self) -> tuple[str, Path]:
        """A new id, and the file for its bars."""
        id = f"upload-{secrets.token_hex(8)}"
        return id, self.settings.uploads_dir / f"{id}.parquet"

    def add_upload(self, id: str, path: Path, name: str, found: dict[str, Any], created: float) -> Bars:
        """Remember an upload that was accepted, and its report."""
        facts = {"name": name, "symbols": found["symbols"], "rows": found["rows"], "created": created}
        durable(path.with_suffix(".json"), lambda file: file.write(json.dumps({**facts, "found": found}).encode()))
        self._uploads[id] = Bars(id, name, "upload", path, found["symbols"], found["rows"], created)
        self._descriptions[(id, path.stat().st_mtime_ns, None)] = found
        return self._uploads[id]

    def remove_upload(self, bars: Bars) -> None:
        """Delete an upload.

        Raises:
            ApiError: the bars are no upload.
        """
        if bars.source != "upload":
            raise ApiError(409, "not_yours", f"{bars.name} was not uploaded here, so it is not deleted here.")
        self._uploads.pop(bars.id, None)
        for ending in (".json", ".parquet"):
            bars.path.with_suffix(ending).unlink(missing_ok=True)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _ask(self, op: str, bars: Bars, **arguments: Any) -> Any:
        try:
            return await self.child.call(op, timeout=_READ_SECONDS, **arguments)
        except TimeoutError:
            raise ApiError(422, "too_slow", f"{bars.name} takes too long to read; it is too large for this.") from None

    def _known(self, bars: Bars) -> Bars:
        """With symbols and rows where the file has been looked at."""
        if bars.rows is not None or not bars.path.exists():
            return bars
        found = self._descriptions.get((bars.id, bars.path.stat().st_mtime_ns, None))
        if found is None:
            return bars
        return Bars(bars.id, bars.name, bars.source, bars.path, found["symbols"], found["rows"])

    def _folder(self) -> dict[str, Bars]:
        """Files of bars in the user's folder and the folders in it; links that lead out of it are left out."""
        root = self.settings.bars_dir.resolve()
        found: dict[str, Bars] = {}
        for path in sorted(self.settings.bars_dir.rglob("*")):
            name = path.relative_to(self.settings.bars_dir).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden or not name.lower().endswith(ENDINGS) or len(found) >= _MOST_FILES:
                continue
            try:
                real = path.resolve()
            except (OSError, RuntimeError):  # a link that leads to itself
                continue
            if real.is_relative_to(root) and real.is_file():
                digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).hexdigest()
                shown = name.encode(errors="replace").decode()
                found[f"folder-{digest}"] = Bars(f"folder-{digest}", shown, "folder", real)
        return found


def check_symbol(symbols: list[str], symbol: str) -> None:
    """Refuse a symbol that bars do not hold.

    Raises:
        ApiError: names those they hold.
    """
    if symbol not in symbols:
        some = ", ".join(symbols[:6]) + (" …" if len(symbols) > 6 else "") if symbols else "none"
        raise ApiError(422, "symbol", f"These bars hold no symbol '{symbol[:40]}'. They name {some}.")


def _stored(folder: Path) -> list[Bars]:
    """Uploads of earlier runs. What was left half written is deleted."""
    for path in folder.iterdir():
        complete = path.with_suffix(".json").exists() and path.with_suffix(".parquet").exists()
        if path.name.startswith(".") or not complete:
            path.unlink(missing_ok=True)
    kept = []
    for path in folder.glob("upload-*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        kept.append(
            Bars(
                path.stem,
                facts["name"],
                "upload",
                path.with_suffix(".parquet"),
                facts["symbols"],
                facts["rows"],
                facts["created"],
            )
        )
    return kept
