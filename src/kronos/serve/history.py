"""What was asked for and what became of it: one SQLite table, written ahead, in a thread of its own.

The documents of the results lie beside it. A document is complete once it has its name, so after a crash the
documents say which forecasts were finished; all others were interrupted.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from kronos.errors import ConfigError
from kronos.files import clear_leftovers
from kronos.serve.documents import headline

P = ParamSpec("P")
T = TypeVar("T")
Row = dict[str, Any]

FINAL = ("done", "failed", "cancelled", "interrupted")

_COLUMNS = {
    "id": "TEXT NOT NULL UNIQUE",
    "status": "TEXT NOT NULL",
    "created": "TEXT NOT NULL",
    "finished": "TEXT",
    "bars_name": "TEXT NOT NULL",
    "symbol": "TEXT",
    "model": "TEXT NOT NULL",
    "horizon": "INTEGER NOT NULL",
    "num_samples": "INTEGER NOT NULL",
    "mode": "TEXT NOT NULL",
    "parameters": "TEXT NOT NULL",
    "summary": "TEXT",
    "error": "TEXT",
}
_TABLE = "CREATE TABLE IF NOT EXISTS forecasts (number INTEGER PRIMARY KEY, {})".format(
    ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
)
_INDEX = "CREATE INDEX IF NOT EXISTS by_status ON forecasts (status, number)"
_JSON = ("parameters", "summary", "error")
_SEARCHED = ("bars_name", "symbol", "model", "id")


def _in_thread(work: Callable[Concatenate[History, P], T]) -> Callable[Concatenate[History, P], Coroutine[Any, Any, T]]:
    """The method, done in the thread that holds the database, one call after another."""

    @wraps(work)
    async def call(self: History, /, *args: P.args, **words: P.kwargs) -> T:
        done = asyncio.get_running_loop().run_in_executor(self.thread, partial(work, self, *args, **words))
        return await done

    return call


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
        self.thread = ThreadPoolExecutor(1, "kronos-history")
        self._base = self.thread.submit(_open, file).result()

    def result(self, id: str) -> Path:
        """Where the document of a forecast lies."""
        return self._results / f"{id}.json"

    @_in_thread
    def add(self, row: Row) -> None:
        """Remember a forecast that was accepted."""
        marks = ", ".join(f":{name}" for name in row)
        self._base.execute(f"INSERT INTO forecasts ({', '.join(row)}) VALUES ({marks})", _written(row))

    @_in_thread
    def discard(self, id: str) -> None:
        """Delete the files of a result that came too late; those of a finished forecast stay."""
        row = self._get(id)
        if row is None or row["status"] != "done":
            self._unlink(id)

    @_in_thread
    def remove(self, id: str) -> None:
        """Forget a forecast, and delete its files."""
        self._base.execute("DELETE FROM forecasts WHERE id = ?", (id,))
        self._unlink(id)

    @_in_thread
    def page(self, page: int, size: int, text: str, status: str | None) -> tuple[list[Row], int]:
        """Some forecasts, the newest first, and how many there are.

        Args:
            page: from 1.
            text: what name, symbol, model or id must contain; empty for all.
        """
        where, values = ["1"], list[Any]()
        if text:
            pattern = "%" + "".join(f"\\{mark}" if mark in "%_\\" else mark for mark in text) + "%"
            where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in _SEARCHED) + ")")
            values += [pattern] * len(_SEARCHED)
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

    @_in_thread
    def recover(self) -> None:
        """After a start: what was finished is done, everything else that was not is interrupted."""
        clear_leftovers(self._results)  # half written results, and downloads that were broken off
        known = {row[0] for row in self._base.execute("SELECT id FROM forecasts")}
        for file in self._results.glob("*.npy"):
            if not file.with_suffix(".json").exists() or file.stem not in known:
                file.unlink(missing_ok=True)
        for (id,) in self._base.execute("SELECT id FROM forecasts WHERE status IN ('queued', 'running')").fetchall():
            if (summary := self._summary(id)) is not None:
                written = datetime.fromtimestamp(self.result(id).stat().st_mtime, UTC)
                finished = written.isoformat(timespec="milliseconds")
                self._update(id, status="done", finished=finished, summary=summary)
            else:
                self._update(id, status="interrupted")

    async def close(self) -> None:
        """Close the database."""
        await asyncio.get_running_loop().run_in_executor(self.thread, self._base.close)
        self.thread.shutdown(wait=False)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _update(self, id: str, /, **values: Any) -> None:
        """Remember what became of a forecast."""
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self._base.execute(f"UPDATE forecasts SET {changes} WHERE id = :id", _written({**values, "id": id}))

    def _get(self, id: str) -> Row | None:
        """One forecast."""
        found = self._base.execute("SELECT * FROM forecasts WHERE id = ?", (id,)).fetchone()
        return None if found is None else _read(found)

    def _summary(self, id: str) -> Row | None:
        """What a list shows of a result; None where there is none."""
        try:
            return dict(headline(json.loads(self.result(id).read_text(encoding="utf-8"))))
        except OSError:
            return None

    def _unlink(self, id: str) -> None:
        for ending in (".json", ".npy"):
            self._results.joinpath(id + ending).unlink(missing_ok=True)

    update, get, summary = _in_thread(_update), _in_thread(_get), _in_thread(_summary)


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
