"""What commands share: how they speak, and options declared once.

Results and JSON go to stdout; notes, progress and errors to stderr.

A command asks for a bundle of options by the type of a parameter: :class:`~kronos.spec.ForecastSpec` for what is asked
of a forecast, :class:`ReadingOptions` for how files are read, :class:`Compute` for where many series are computed.
Under :func:`with_options` it gets an option for every field, and is handed one value, already checked.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from rich.console import Console

from kronos.errors import ConfigError, KronosError
from kronos.files import json_text
from kronos.spec import ForecastSpec, Setting, settings

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from kronos.protocol import Progress, WorkEngine

console = Console(stderr=True, highlight=False)  # for people: notes, progress, errors; stdout holds results alone
output = Console(highlight=False)  # for results that are tables
PATIENCE = 2.0  # seconds of work before a progress bar is worth showing


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout; numpy, pandas and dates are converted, NaN becomes null."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def note(text: str) -> None:
    """Tell the user something aside on stderr."""
    console.print(text, style="dim", markup=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table as wide as it is: names and numbers are never cut, also where the terminal is narrow or none."""
    from rich.measure import Measurement

    most = output.options.update(width=100_000)
    needed = Measurement.get(output, most, table).maximum
    (output if needed <= output.width else Console(highlight=False, width=needed)).print(table)


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


@contextmanager
def stoppable(how: str) -> Iterator[None]:
    """Long work that Ctrl-C may end: says then how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"Stopped. {how}")
        raise


def moment(time: pd.Timestamp) -> str:
    """A time as people write it: without the hour where it is a whole day's."""
    wall = time.tz_localize(None)  # zones that skip a midnight have none to compare with
    return f"{wall:%Y-%m-%d}" if wall == wall.normalize() else f"{wall:%Y-%m-%d %H:%M}"


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


@contextmanager
def standard_input(bars: str) -> Iterator[str]:
    """The file that was named; for ``-`` what comes on standard input, as a file for as long as the block lasts."""
    if bars != "-":
        yield bars
        return
    with tempfile.TemporaryDirectory(prefix="kronos-") as folder:
        path = Path(folder) / "standard input"
        path.write_bytes(sys.stdin.buffer.read())
        try:
            yield str(path)
        except KronosError as error:  # nobody knows the folder
            error.args = tuple(str(one).replace(str(path), path.name) for one in error.args)
            raise


MANY = "Many series"  # of the help, a panel of its own
_many = functools.partial(typer.Option, rich_help_panel=MANY)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Defects = Annotated[
    Literal["strict", "drop", "mend"],
    typer.Option(
        "--on-defect",
        help="Refuse defective rows, drop them, or set opens of 0 to the close before and drop the others.",
    ),
]
Model = Annotated[str, typer.Option(help="A name (see 'kronos models list'), a folder or a hub id.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="The tokenizer, where it is not the one that belongs to the model or lies by it.")
]
Device = Annotated[
    str | None,
    typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps. Default: a GPU if there is one (CUDA, else Apple's)."),
]
Frequency = Annotated[str | None, typer.Option(help="Bar size: 1m, 5m, 1h, 1d, 1w …")]


@dataclass(frozen=True)
class CheckpointOptions:
    """Which checkpoint forecasts."""

    model: Model = "kronos-nano"
    tokenizer: Tokenizer = None
    revision: Annotated[str | None, typer.Option(help="Pin a hub checkpoint to a commit or tag.")] = None


@dataclass(frozen=True)
class ReadingOptions:
    """How a file of bars is to be read; what is None is found out from the file."""

    symbol: Annotated[str | None, typer.Option(help="Take this series; or, where the file names none, call it so.")] = (
        None
    )
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME, such as close=Last, or a position from 0. Repeat as needed."),
    ] = None
    timezone: Annotated[str | None, typer.Option(help="IANA name: times without a zone are wall time there.")] = None
    dayfirst: Annotated[
        bool | None, typer.Option("--dayfirst/--monthfirst", help="Decide between 31/12 and 12/31.")
    ] = None
    decimal: Annotated[Literal[".", ","] | None, typer.Option(help="Decide how decimals are written.")] = None
    epoch: Annotated[
        Literal["s", "ms", "us", "ns"] | None, typer.Option(help="Decide the unit of epoch timestamps.")
    ] = None
    encoding: Annotated[str | None, typer.Option(help="Decide how characters are written, such as gbk.")] = None
    newest_first: Annotated[
        bool | None, typer.Option("--newest-first/--oldest-first", help="Whether rows run backwards.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """What was decided, as ``read_bars`` takes it; ConfigError: a ``--column`` that is not ROLE=NAME."""
        words, columns = dict(vars(self)), {}
        for pair in words.pop("column") or ():
            role, equals, name = pair.partition("=")
            if not equals or not role or not name:
                raise ConfigError(f"--column '{pair}' is not ROLE=NAME. Write it as close=Last or close=4.")
            columns[role] = int(name) if name.isdigit() else name
        words["columns"] = columns or None
        return {name: value for name, value in words.items() if value is not None}


@dataclass(frozen=True)
class Compute:
    """Where the work on many series is done; ``device`` None: a GPU if there is one."""

    engine: Annotated[Literal["local", "ray"], _many(help="Compute in this process, or on Ray.")] = "local"
    address: Annotated[
        str | None, _many(metavar="HOST:PORT", help="A running Ray cluster, or auto. Default: Ray on this machine.")
    ] = None
    workers: Annotated[int | None, _many(min=1, help="Pieces at once. Default: one a core, or a GPU.")] = None
    gpus: Annotated[
        float | None, _many(min=0, help="Share of a GPU for each Ray worker. Default: 1 where there are any.")
    ] = None
    device: Device = None

    @property
    def chosen(self) -> bool:
        """Whether anything was said of engines and workers."""
        return self.engine != "local" or any(x is not None for x in (self.address, self.workers, self.gpus))

    def make(self) -> WorkEngine:
        """The engine; ConfigError: options that belong to the other one."""
        from kronos.scale.engines import make_engine

        return make_engine(self.engine, workers=self.workers, address=self.address, gpus=self.gpus)

    def remote_engine(self) -> WorkEngine | None:
        """The same where it is not this process, else None."""
        engine = self.make()
        return None if self.engine == "local" else engine


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer shall read it: each bundle among its parameters spelled out as options.

    Raises:
        ConfigError: when it is called with a value that a bundle refuses.
    """
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, tuple[Any, list[str]]] = {}  # parameter → what makes it, from which options
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        options = list(_options_of(kind))
        bundles[parameter.name] = kind, [option.name for option in options]
        parameters += options

    @functools.wraps(command)
    def call(**words: Any) -> None:
        made = {name: kind(**{field: words.pop(field) for field in fields}) for name, (kind, fields) in bundles.items()}
        command(**words, **made)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _options_of(bundle: Any) -> Iterator[inspect.Parameter]:
    """One parameter a field of a bundle."""
    if issubclass(bundle, ForecastSpec):
        fields = [(one.name, _annotation(one), one.default) for one in settings(bundle)]
    else:
        hints = get_type_hints(bundle, include_extras=True)
        fields = [(field.name, hints[field.name], field.default) for field in dataclasses.fields(bundle)]
    for name, kind, default in fields:
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _annotation(setting: Setting) -> Any:
    """A setting as an option. Its range is told here and checked by the spec, like that of every other surface."""
    kind: Any = Literal[setting.choices] if setting.choices else setting.kind
    bounded = setting.kind is not str and (setting.low, setting.high, setting.above) != (None, None, None)
    told = f"{setting.help.rstrip('.')} ({setting.range})." if bounded else setting.help
    return Annotated[kind | None if setting.optional else kind, typer.Option(f"--{setting.flag}", help=told)]
