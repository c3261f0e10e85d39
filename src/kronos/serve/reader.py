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
from kronos.files import to_json
from kronos.inference.views import Touches
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
    for message in channel.messages():
        reply, exhausted = answer(message)
        channel.send(reply)
        if exhausted:
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


def answer(message: Message) -> tuple[Message, bool]:
    """One call's result or error, and whether it took all the memory there is."""
    number, name, op = message.pop("call"), str(message.pop("name", "")), message.pop("op")
    hide = [(Path(message["path"]), name)] if name and "path" in message else []
    exhausted = False
    try:
        return {"call": number, "result": OPERATIONS[op](**message)}, False
    except KronosError as error:
        refusal = from_error(error, hide)
    except MemoryError:
        exhausted = True
        refusal = ApiError(413, "too_large", f"{name or 'The file'} needs more memory than a file of bars may.")
    except Exception:
        log.exception("operation %s", op)
        refusal = ApiError(422, "bars_refused", f"{name or 'The file'} cannot be read as bars; it may be damaged.")
    return {"call": number, "error": refusal.to_dict()}, exhausted


def accept(path: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
    """Read an upload, and keep nothing of it but a plain table of bars."""
    refuse_by_header(Path(path))
    bars = read_bars(Path(path), **options)
    if len(bars) > _MOST_ROWS:
        raise CapacityError(f"{Path(path).name} holds {len(bars):,} bars; at most {_MOST_ROWS:,} are accepted.")
    found = description(bars)
    write_bars(bars, target)
    return found


def export(path: str, target: str) -> dict[str, Any]:
    """Write a result in another form; the ending of the target chooses it."""
    read_forecast(Path(path)).save(target)
    return {}


def touches(path: str, prices: list[float], take_profit: float | None, stop_loss: float | None) -> dict[str, Any]:
    """What is asked about the prices that a result's paths touch."""
    found = Touches(tuple(prices), take_profit, stop_loss).document(read_forecast(Path(path)))
    return dict(to_json(found))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "describe": lambda path, symbol: description(read_table(Path(path), symbol)),
    "candles": lambda path, symbol, limit, before: candles(one_series(read_table(Path(path), symbol)), limit, before),
    "accept": accept,
    "paths": lambda path, count: {"close": read_samples(Path(path))[:count, :, CLOSE].round(8).tolist()},
    "export": export,
    "touches": touches,
}
"""What the server may call, by name."""


def refuse_by_header(path: Path) -> None:
    """Refuse a Parquet or Arrow file that promises absurd numbers, before any of it is read."""
    with path.open("rb") as file:
        start = file.read(4)
    rows = 0
    try:
        if start == b"PAR1":
            facts = pq.read_metadata(path)
            rows, size = facts.num_rows, sum(facts.row_group(k).total_byte_size for k in range(facts.num_row_groups))
            if size > 100 * path.stat().st_size + 64 * 2**20:
                raise CapacityError(f"{path.name}: the header promises {size:,} bytes, which no table of bars does.")
        elif start == b"ARRO":  # nulls and runs take no room in the file: a billion of them fit in a kilobyte
            table, number = pa.ipc.open_file(path), 0
            while number < table.num_record_batches and rows <= _MOST_ROWS:
                rows += table.get_batch(number).num_rows
                number += 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path.name}: the file is damaged or cut. Write it again.") from error
    if rows > _MOST_ROWS:
        raise CapacityError(f"{path.name}: the header promises {rows:,} rows; at most {_MOST_ROWS:,} are accepted.")


if __name__ == "__main__":
    main(sys.argv[1:])
