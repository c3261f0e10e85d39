"""What the commands share: the two consoles, JSON on stdout, progress on stderr, packaged samples."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

console = Console(stderr=True, highlight=False)
"""For people: notes, progress, errors. Goes to stderr, so that stdout holds results alone."""

output = Console(highlight=False)
"""For results that are tables. Goes to stdout."""

PATIENCE = 2.0  # seconds of work before a progress bar is worth showing


class OnDefect(StrEnum):
    """What to do with rows that are no valid bars."""

    strict = "strict"
    drop = "drop"


class Progress(Protocol):
    """Told how much of the work is done, and in a few words how it goes."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout; numpy, pandas and dates are converted, NaN becomes null."""
    from kronos.inference.export import to_json

    sys.stdout.write(json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def note(text: str) -> None:
    """Tell the user something aside on stderr."""
    console.print(text, style="dim", markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """Tell the user on stderr what went wrong."""
    console.print("[bold red]Error:[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar for long work: yields a ``Progress``, shown on terminals and after two seconds only."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    started = time.monotonic()
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(what, total=None)

    def report(done: int, total: int, detail: str = "") -> None:
        if console.is_terminal and time.monotonic() - started >= PATIENCE:
            bar.start()
            bar.update(task, description=f"{what}  {detail}".rstrip(), completed=done, total=total)

    try:
        yield report
    finally:
        if bar.live.is_started:  # else rich would print an empty line
            bar.stop()


def load_bars(source: str, symbol: str | None = None, on_defect: OnDefect = OnDefect.strict) -> pd.DataFrame:
    """Read BARS: a file, or a packaged sample such as ``sample:sp500``.

    Raises:
        DataError: the file is missing or cannot be read as bars.
        ConfigError: there is no such sample.
    """
    from kronos.bars import read_bars

    return read_bars(source, symbol=symbol, on_defect=on_defect.value)


def moment(time: pd.Timestamp) -> str:
    """A time as people write it: without the hour where it is a whole day's."""
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M}"


def tell_report(table: pd.DataFrame) -> None:
    """Say in a line what was read, and what was left out."""
    report = table.attrs["report"]
    size = f"{report.frequency} bars" if report.frequency else "bars"
    of = f" of {report.symbol}" if report.symbol else ""
    note(f"Read {report.rows:,} {size}{of}, {moment(report.first)} … {moment(report.last)}.")
    if report.dropped:
        note(f"Dropped {report.dropped:,} defective rows of {report.rows_read:,}.")
    if report.left_out:
        note(f"Left out columns that are not needed: {', '.join(report.left_out)}.")
