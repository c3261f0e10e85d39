"""The process that reads files: ``python -m kronos.serve.reader [bytes]``.

Its memory is limited, and the server ends it when it takes too long, so a hostile file costs one child, not the
server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kronos.bars import read_bars, write_bars
from kronos.errors import CapacityError, DataError, KronosError
from kronos.protocol import CLOSE
from kronos.serve.child import Channel, Message
from kronos.serve.documents import candles, description, one_series, read_forecast, read_samples, read_table
from kronos.serve.errors import ApiError, from_error, log

_MOST_ROWS = 5_000_000


def main(arguments: list[str]) -> None:
    """Answer calls until the input ends."""
    channel = Channel.open()
    if arguments:
        limit_memory(int(arguments[0]))
    reader = Reader()
    for message in channel.messages():
        channel.send(reader.answer(message))
        if reader.exhausted:
            return  # the server starts another, with its memory in order


def limit_memory(extra: int) -> None:
    """No more than ``extra`` bytes beyond what the process has now; a larger demand is a MemoryError.

    Only Linux counts memory in a way that can be limited so; elsewhere the limit of time has to do.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[5])  # data and stack, what RLIMIT_DATA counts
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Reader:
    """The operations, each named as the server calls it."""

    def __init__(self) -> None:
        self.exhausted = False
        operations = (self.describe, self.candles, self.accept, self.paths, self.export)
        self.operations: dict[str, Callable[..., Any]] = {one.__name__: one for one in operations}

    def answer(self, message: Message) -> Message:
        """One call's result or error."""
        number, name = message.pop("call"), str(message.pop("name", ""))
        hide = [(Path(message["path"]), name)] if name and "path" in message else []
        op = message.pop("op")
        try:
            return {"call": number, "result": self.operations[op](**message)}
        except KronosError as error:
            refusal = from_error(error, hide)
        except MemoryError:
            self.exhausted = True
            refusal = ApiError(413, "too_large", f"{name or 'The file'} needs more memory than a file of bars may.")
        except Exception:
            log.exception("operation %s", op)
            refusal = ApiError(422, "bars_refused", f"{name or 'The file'} cannot be read as bars; it may be damaged.")
        return {"call": number, "error": refusal.to_dict()}

    def describe(self, path: str, symbol: str | None = None) -> dict[str, Any]:
        """The report on a file's bars."""
        return description(read_table(Path(path), symbol))

    def candles(self, path: str, symbol: str | None, limit: int, before: str | None) -> dict[str, Any]:
        """Some bars of one series."""
        return candles(one_series(read_table(Path(path), symbol)), limit, before)

    def accept(self, path: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
        """Read an upload, and keep nothing of it but a plain table of bars."""
        refuse_by_header(Path(path))
        bars = read_bars(Path(path), **options)
        if len(bars) > _MOST_ROWS:
            raise CapacityError(f"{Path(path).name} holds {len(bars):,} bars; at most {_MOST_ROWS:,} are accepted.")
        found = description(bars)
        write_bars(bars, target)
        return found

    def paths(self, path: str, count: int) -> dict[str, Any]:
        """The closes of the first ``count`` sample paths of a result."""
        return {"close": read_samples(Path(path))[:count, :, CLOSE].round(8).tolist()}

    def export(self, path: str, target: str) -> dict[str, Any]:
        """Write a result in another form; the ending of the target chooses it."""
        read_forecast(Path(path)).save(target)
        return {}


def refuse_by_header(path: Path) -> None:
    """Refuse a Parquet or Arrow file that promises absurd numbers, before any of it is read."""
    with path.open("rb") as file:
        start = file.read(6)
    count = {b"PAR1": _parquet_rows, b"ARRO": _arrow_rows}.get(start[:4])
    if count is None:
        return
    try:
        rows = count(path)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path.name}: the file is damaged or cut. Write it again.") from error
    if rows > _MOST_ROWS:
        raise CapacityError(f"{path.name}: the header promises {rows:,} rows; at most {_MOST_ROWS:,} are accepted.")


def _parquet_rows(path: Path) -> int:
    facts = pq.read_metadata(path)
    size = sum(facts.row_group(k).total_byte_size for k in range(facts.num_row_groups))
    if size > 100 * path.stat().st_size + 64 * 2**20:
        raise CapacityError(f"{path.name}: the header promises {size:,} bytes, which no table of bars does.")
    return int(facts.num_rows)


def _arrow_rows(path: Path) -> int:
    """Nulls and runs take no room in the file: a billion of them fit in a kilobyte."""
    file, rows = pa.ipc.open_file(path), 0
    for number in range(file.num_record_batches):
        rows += file.get_batch(number).num_rows
        if rows > _MOST_ROWS:
            break
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
