"""What was asked for and what became of it: one SQLite table, written ahead, in a thread of its own.

The documents of the results lie beside it. A document is complete once it has its name, so after a crash the
documents say which forecasts were finished; all others were interrupted.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from kronos.errors import ConfigError
from kronos.serve.results import headline

T = TypeVar("T")
Row = dict[str, Any]

FINAL = ("done", "failed", "cancelled", "interrupted")

_TABLE = """
CREATE TABLE IF NOT EXISTS forecasts (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    created TEXT NOT NULL,
    finished TEXT,
    bars_name TEXT NOT NULL,
    symbol TEXT,
    model TEXT NOT NULL,
    horizon INTEGER NOT NULL,
    num_samples INTEGER NOT NULL,
    mode TEXT NOT NULL,
    parameters TEXT NOT NULL,
    summary TEXT,
    error TEXT
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_status ON forecasts (status, number)"
_JSON = ("parameters", "summary", "error")
_COLUMNS = (
    "id",
    "status",
    "created",
    "finished",
    "bars_name",
    "symbol",
    "model",
    "horizon",
    "num_samples",
    "mode",
    *_JSON,
)


class History:
    """The table of forecasts. One server at a time may hold it.

    Args:
        file: the database.
        results: the folder of the documents.

    Raises:
        ConfigError: another server holds it, or it is no database.
    """

    def __init__(self, file: Path, results: Path) -> None:
        self._results = results
        self._thread = ThreadPoolExecutor(1, "kronos-history")
        self._base = self._thread.submit(_open, file).result()

    # -- what the server asks -----------------------------------------------------------------------------------------

    async def add(self, row: Row) -> None:
        """Remember a forecast that was accepted."""
        await self._do(lambda: self._insert(row))

    async def update(self, id: str, **values: Any) -> None:
        """Remember what became of it."""
        await self._do(lambda: self._update(id, values))

    async def get(self, id: str) -> Row | None:
        """One forecast."""
        return await self._do(lambda: self._one(id))

    async def summary(self, id: str) -> Row | None:
        """What a list shows of a result; None where there is none."""
        return await self._do(lambda: self._summary(id))

    async def discard(self, id: str) -> None:
        """Delete the files of a result that came too late; those of a finished forecast stay."""
        await self._do(lambda: self._discard(id))

    async def remove(self, id: str) -> None:
        """Forget a forecast, and delete its files."""
        await self._do(lambda: self._delete(id))

    async def page(self, page: int, size: int, text: str, status: str | None) -> tuple[list[Row], int]:
        """Some forecasts, the newest first, and how many there are.

        Args:
            page: from 1.
            text: what name, symbol, model or id must contain; empty for all.
        """
        return await self._do(lambda: self._page(page, size, text, status))

    async def recover(self) -> int:
        """After a start: what was finished is done, everything else that was not is interrupted; how many of these."""
        return await self._do(self._recover)

    async def close(self) -> None:
        """Close the database."""
        await self._do(self._base.close)
        self._thread.shutdown(wait=False)

    def result(self, id: str) -> Path:
        """Where the document of a forecast lies."""
        return self._results / f"{id}.json"

    # -- in the thread ------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _insert(self, row: Row) -> None:
        names = [name for name in _COLUMNS if name in row]
        marks = ", ".join(f":{name}" for name in names)
        self._base.execute(f"INSERT INTO forecasts ({', '.join(names)}) VALUES ({marks})", _written(row))

    def _update(self, id: str, values: Row) -> None:
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self._base.execute(f"UPDATE forecasts SET {changes} WHERE id = :id", _written({**values, "id": id}))

    def _one(self, id: str) -> Row | None:
        found = self._base.execute("SELECT * FROM forecasts WHERE id = ?", (id,)).fetchone()
        return None if found is None else _read(found)

    def _delete(self, id: str) -> None:
        self._base.execute("DELETE FROM forecasts WHERE id = ?", (id,))
        self._unlink(id)

    def _discard(self, id: str) -> None:
        row = self._one(id)
        if row is None or row["status"] != "done":
            self._unlink(id)

    def _unlink(self, id: str) -> None:
        for ending in (".json", ".npy"):
            self._results.joinpath(id + ending).unlink(missing_ok=True)

    def _summary(self, id: str) -> Row | None:
        try:
            return headline(json.loads(self.result(id).read_text(encoding="utf-8")))
        except OSError:
            return None

    def _page(self, page: int, size: int, text: str, status: str | None) -> tuple[list[Row], int]:
        where, values = ["1"], list[Any]()
        if text:
            pattern = "%" + "".join(f"\\{mark}" if mark in "%_\\" else mark for mark in text) + "%"
            columns = ("bars_name", "symbol", "model", "id")
            where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in columns) + ")")
            values += [pattern] * len(columns)
        if status:
            where.append("status = ?")
            values.append(status)
        condition = " AND ".join(where)
        total = self._base.execute(f"SELECT count(*) FROM forecasts WHERE {condition}", values).fetchone()[0]
        rows = self._base.execute(
            f"SELECT * FROM forecasts WHERE {condition} ORDER BY number DESC LIMIT ? OFFSET ?",
            [*values, size, (page - 1) * size],
        )
        return [_read(row) for row in rows], int(total)

    def _recover(self) -> int:
        for file in self._results.glob(".*.part*"):  # half written results, and downloads that were broken off
            file.unlink(missing_ok=True)
        known = {row[0] for row in self._base.execute("SELECT id FROM forecasts")}
        for file in self._results.glob("*.npy"):
            if not file.with_suffix(".json").exists() or file.stem not in known:
                file.unlink(missing_ok=True)
        interrupted = 0
        for row in self._base.execute("SELECT id FROM forecasts WHERE status IN ('queued', 'running')").fetchall():
            if (summary := self._summary(row[0])) is not None:
                finished = _modified(self.result(row[0]))
                self._update(row[0], {"status": "done", "finished": finished, "summary": summary})
            else:
                self._update(row[0], {"status": "interrupted"})
                interrupted += 1
        return interrupted


def _open(file: Path) -> sqlite3.Connection:
    base = sqlite3.connect(file, isolation_level=None, timeout=2.0)
    base.row_factory = sqlite3.Row
    try:
        base.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second server on the same folder is refused
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(_TABLE)
        base.execute(_INDEX)
    except sqlite3.OperationalError as error:
        raise ConfigError(
            f"The history in '{file.parent}' is in use: another kronos serve runs with this data folder. "
            "Stop it, or give another --data-dir."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"'{file}' is no history of forecasts ({error}). Move it away and start again.") from error
    return base


def _written(row: Row) -> Row:
    return {name: json.dumps(value) if name in _JSON and value is not None else value for name, value in row.items()}


def _read(row: sqlite3.Row) -> Row:
    found = {name: row[name] for name in _COLUMNS}
    return found | {name: json.loads(found[name]) for name in _JSON if found[name] is not None}


def _modified(file: Path) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
