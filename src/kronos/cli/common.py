"""How commands speak: results and JSON on stdout; notes, progress and errors on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kronos.files import json_text

if TYPE_CHECKING:
    import pandas as pd

    from kronos.protocol import Progress

console = Console(stderr=True, highlight=False)
"""For people: notes, progress, errors. Goes to stderr, so that stdout holds results alone."""

output = Console(highlight=False)
"""For results that are tables. Goes to stdout."""

PATIENCE = 2.0  # seconds of work before a progress bar is worth showing


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout; numpy, pandas and dates are converted, NaN becomes null."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def note(text: str) -> None:
    """Tell the user something aside on stderr."""
    console.print(text, style="dim", markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """Tell the user on stderr what went wrong."""
    console.print("[bold red]Error:[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar for long work: yields a ``Progress``, shown on terminals and after two seconds only.

    While it lasts, stdout is stderr: libraries such as Ray write there too, and stdout belongs to results.
    """
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
        with redirect_stdout(sys.stderr):
            yield report
    finally:
        if bar.live.is_started:  # else rich would print an empty line
            bar.stop()


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
    if report.notes:
        note(f"Read as: {'; '.join(report.notes)}.")
    if report.left_out:
        note(f"Left out columns that are not needed: {', '.join(report.left_out)}.")
