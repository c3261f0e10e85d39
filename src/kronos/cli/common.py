"""What the commands share: the two consoles, JSON on stdout, progress on stderr, how a file is to be read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console

from kronos.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from kronos.scale.engines import Engine as ScaleEngine

console = Console(stderr=True, highlight=False)
"""For people: notes, progress, errors. Goes to stderr, so that stdout holds results alone."""

output = Console(highlight=False)
"""For results that are tables. Goes to stdout."""

PATIENCE = 2.0  # seconds of work before a progress bar is worth showing


class OnDefect(StrEnum):
    """What to do with rows that are no valid bars."""

    strict = "strict"
    drop = "drop"


class Decimal(StrEnum):
    """The decimal mark of a text file."""

    point = "."
    comma = ","


class Epoch(StrEnum):
    """The unit of epoch timestamps."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


class Stamp(StrEnum):
    """The end of a bar that its timestamp names."""

    start = "start"
    end = "end"


class Engine(StrEnum):
    """Where the work on many series is done."""

    local = "local"
    ray = "ray"


# The options that say where the work on many series is done.
_MANY = "Many series"
EngineName = Annotated[Engine, typer.Option(help="Compute in this process, or on Ray.", rich_help_panel=_MANY)]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="A running Ray cluster, or auto. Default: Ray on this machine.", rich_help_panel=_MANY
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Pieces at once. Default: one a core, or a GPU.", rich_help_panel=_MANY)
]
Gpus = Annotated[
    float | None,
    typer.Option(
        min=0, help="Share of a GPU for each Ray worker. Default: 1 where there are any.", rich_help_panel=_MANY
    ),
]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps. Default: a CUDA GPU if there is one.")
]
PartitionSize = Annotated[
    int | None,
    typer.Option("--partition", min=1, help="Series in a file of results. Default: 16.", rich_help_panel=_MANY),
]


@dataclass(frozen=True)
class Compute:
    """Where the work on many series is done, as it was asked for; ``device`` None: a GPU if there is one."""

    engine: Engine
    address: str | None
    workers: int | None
    gpus: float | None
    device: str | None

    @property
    def asked(self) -> bool:
        """Whether anything was said of engines and workers."""
        return self.engine is not Engine.local or any(x is not None for x in (self.address, self.workers, self.gpus))

    def make(self) -> ScaleEngine:
        """The engine.

        Raises:
            ConfigError: options that belong to the other one.
            MissingExtraError: Ray is not installed.
        """
        from kronos.scale.engines import make_engine

        return make_engine(self.engine.value, workers=self.workers, address=self.address, gpus=self.gpus)

    def away(self) -> ScaleEngine | None:
        """The same, where it is not this process."""
        engine = self.make()
        return None if self.engine is Engine.local else engine


# The options that say how a file is to be read, the same in every command.
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="ROLE=NAME, such as close=Last, or a position from 0. Repeat as needed."),
]
Timezone = Annotated[str | None, typer.Option(help="IANA name: times without a zone are wall time there.")]
Dayfirst = Annotated[bool | None, typer.Option("--dayfirst/--monthfirst", help="Decide between 31/12 and 12/31.")]
DecimalMark = Annotated[Decimal | None, typer.Option("--decimal", help="Decide how decimals are written.")]
EpochUnit = Annotated[Epoch | None, typer.Option("--epoch", help="Decide the unit of epoch timestamps.")]
Encoding = Annotated[str | None, typer.Option(help="Decide how characters are written, such as gbk.")]
Newest = Annotated[bool | None, typer.Option("--newest-first/--oldest-first", help="Whether rows run backwards.")]
Frequency = Annotated[str | None, typer.Option(help="Bar size: 1m, 5m, 1h, 1d, 1w …")]
StampEnd = Annotated[Stamp | None, typer.Option("--stamp", help="Which end of a bar its timestamp names.")]


def reading_options(
    symbol: str | None,
    column: list[str] | None,
    timezone: str | None,
    dayfirst: bool | None,
    decimal: Decimal | None,
    epoch: Epoch | None,
    encoding: str | None,
    newest: bool | None,
) -> dict[str, Any]:
    """The reading options as ``read_bars`` takes them.

    Raises:
        ConfigError: a ``--column`` that is not ROLE=NAME.
    """
    return {
        "symbol": symbol,
        "columns": named_columns(column),
        "timezone": timezone,
        "dayfirst": dayfirst,
        "decimal": decimal.value if decimal else None,
        "epoch": epoch.value if epoch else None,
        "encoding": encoding,
        "newest_first": newest,
    }


def named_columns(pairs: list[str] | None) -> dict[str, str | int] | None:
    """ROLE=NAME pairs as ``read_bars`` takes them.

    Raises:
        ConfigError: something else.
    """
    if not pairs:
        return None
    columns: dict[str, str | int] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals or not role or not name:
            raise ConfigError(f"--column '{pair}' is not ROLE=NAME. Write it as close=Last or close=4.")
        columns[role] = int(name) if name.isdigit() else name
    return columns


class Progress(Protocol):
    """Told how much of the work is done, and in a few words how it goes."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout; numpy, pandas and dates are converted, NaN becomes null."""
    from kronos.files import to_json

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


def load_bars(
    source: str, symbol: str | None = None, on_defect: OnDefect = OnDefect.strict, **options: Any
) -> pd.DataFrame:
    """Read BARS: a file, or a packaged sample such as ``sample:sp500``, with the ``reading_options``.

    Raises:
        DataError: the file is missing or cannot be read as bars.
        ConfigError: there is no such sample.
    """
    from kronos.bars import read_bars

    return read_bars(source, **{"symbol": symbol, **options}, on_defect=on_defect.value)


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
