"""What was asked for and what became of it: one SQLite table, written ahead, in a thread of its own.

The documents of the results lie beside it. A document is complete once it has its name, so after a crash the
documents say which forecasts were finished; all others were interrupted.
"""

from __future__ import annotations

import asyncio
import json
import re
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

_OPENING = (
    "PRAGMA locking_mode = EXCLUSIVE",  # a second server on the same folder is refused
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS forecasts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, "
    "created TEXT NOT NULL, finished TEXT, bars_name TEXT NOT NULL, symbol TEXT, model TEXT NOT NULL, "
    "horizon INTEGER NOT NULL, num_samples INTEGER NOT NULL, mode TEXT NOT NULL, parameters TEXT NOT NULL, "
    "summary TEXT, error TEXT)",
    "CREATE INDEX IF NOT EXISTS by_status ON forecasts (status, number)",
)
_JSON = ("parameters", "summary", "error")
_MATCHES = " OR ".join(f"{name} LIKE :text ESCAPE '\\'" for name in ("bars_name", "symbol", "model", "id"))


def now(seconds: float | None = None) -> str:
    """A moment of the system's clock as text; None: this one."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds")


def _in_thread(work: Callable[Concatenate[History, P], T]) -> Callable[Concatenate[History, P], Coroutine[Any, Any, T]]:
    """The method, done in the thread that holds the database, one call after another."""

    @wraps(work)
    async def call(self: History, /, *args: P.args, **words: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, partial(work, self, *args, **words))

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
        self._base = sqlite3.connect(file, isolation_level=None, timeout=2.0, check_same_thread=False)
        self._base.row_factory = sqlite3.Row
        try:
            for statement in _OPENING:
                self._base.execute(statement)
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f"The history in '{file.parent}' is in use: another kronos serve runs with this data folder. "
                "Stop it, or give another --data-dir."
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"'{file}' is no history of forecasts ({error}). Move it away and start again."
            ) from error

    def result(self, id: str) -> Path:
        """Where the document of a forecast lies."""
        return self._results / f"{id}.json"

    @_in_thread
    def add(self, row: Row) -> None:
        """Remember a forecast that was accepted."""
        marks = ", ".join(f":{name}" for name in row)
        self._base.execute(f"INSERT INTO forecasts ({', '.join(row)}) VALUES ({marks})", _written(row))

    @_in_thread
    def update(self, id: str, /, **values: Any) -> None:
        """Remember what became of a forecast."""
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self._base.execute(f"UPDATE forecasts SET {changes} WHERE id = :id", _written({**values, "id": id}))

    @_in_thread
    def get(self, id: str) -> Row | None:
        """One forecast."""
        found = self._base.execute("SELECT * FROM forecasts WHERE id = ?", (id,)).fetchone()
        return None if found is None else _read(found)

    @_in_thread
    def discard(self, id: str) -> None:
        """Delete the files of a result that came too late; those of a finished forecast stay."""
        if not self._base.execute("SELECT 1 FROM forecasts WHERE id = ? AND status = 'done'", (id,)).fetchone():
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
        found = f"FROM forecasts WHERE (:text = '%%' OR {_MATCHES}) AND (:status IS NULL OR status = :status)"
        pattern = re.sub(r"([%_\\])", r"\\\1", text)
        values = {"text": f"%{pattern}%", "status": status, "size": size, "skip": (page - 1) * size}
        total = self._base.execute(f"SELECT count(*) {found}", values).fetchone()[0]
        rows = self._base.execute(f"SELECT * {found} ORDER BY number DESC LIMIT :size OFFSET :skip", values)
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
            if (summary := stored_headline(self.result(id))) is not None:
                values = (now(self.result(id).stat().st_mtime), json.dumps(summary), id)
                self._base.execute(
                    "UPDATE forecasts SET status = 'done', finished = ?, summary = ? WHERE id = ?", values
                )
        self._base.execute("UPDATE forecasts SET status = 'interrupted' WHERE status IN ('queued', 'running')")

    async def close(self) -> None:
        """Close the database."""
        await asyncio.get_running_loop().run_in_executor(self.thread, self._base.close)
        self.thread.shutdown(wait=False)

    def _unlink(self, id: str) -> None:
        for ending in (".json", ".npy"):
            self._results.joinpath(id + ending).unlink(missing_ok=True)


def stored_headline(result: Path) -> Row | None:
    """What a list shows of a result; None where there is none."""
    try:
        return dict(headline(json.loads(result.read_text(encoding="utf-8"))))
    except OSError:
        return None


def _written(row: Row) -> Row:
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}


def _read(row: sqlite3.Row) -> Row:
    found = dict(row)
    del found["number"]
    return found | {name: json.loads(found[name]) for name in _JSON if found[name] is not None}
