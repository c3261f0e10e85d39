"""``kronos bars``: look over, convert, clean, resample, fetch and store tables of bars."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from kronos import bars as kb  # loads nothing until a name of it is used
from kronos.cli.common import (
    AsJson,
    Defects,
    Frequency,
    ReadingOptions,
    console,
    emit_json,
    note,
    output,
    progress,
    with_options,
)

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Look over, convert, clean, resample, fetch and store bars.", no_args_is_help=True)


File = Annotated[str, typer.Argument(metavar="FILE", help="CSV, Excel, JSON, Parquet or Feather, or sample:sp500.")]
Files = Annotated[list[str], typer.Argument(metavar="FILES", help="Files, or folders of them.")]
Output = Annotated[Path, typer.Option("--output", "-o", help=".parquet, .csv, .csv.gz or .feather.")]
Calendar = Annotated[str | None, typer.Option(help="MIC code such as XNYS or XSHG, 24/7, FX or observed.")]
Stamp = Annotated[Literal["start", "end"] | None, typer.Option(help="Which end of a bar its timestamp names.")]
Store = Annotated[Path, typer.Option(help="Folder of the bar store.")]


def _print_table(headings: Iterable[str], rows: Iterable[Iterable[Any]], **style: Any) -> None:
    """A table of plain text on stdout, with counts to the right."""
    table = Table(title_justify="left", **style)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("rows", "bars") else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else escape(str(cell or "")) for cell in row))
    output.print(table)


def _tell(bars: pd.DataFrame, target: Path, as_json: bool) -> None:
    """What was written."""
    report = bars.attrs["report"]
    if as_json:
        emit_json({"output": str(target), **report.to_dict()})
        return
    dropped = f", {report.dropped:,} defective rows dropped" if report.dropped else ""
    note(f"Wrote {len(bars):,} bars to {target}{dropped}.")
    for line in report.notes:
        note(f"  {line}")


@app.command()
@with_options
def inspect(file: File, reading: ReadingOptions, calendar: Calendar = None, as_json: AsJson = False) -> None:
    """Name layout, symbol, bar size, time zone, calendar, rows and every defect of a file."""
    report = kb.inspect_bars(file, calendar=calendar, **reading.keywords())
    if as_json:
        emit_json(report.to_dict())
        return
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, value in report.facts().items():
        facts.add_row(f"[bold]{name}[/]", escape(value))
    output.print(facts)
    for title, defects in (
        ("Defects: these rows are refused, or dropped with --on-defect drop", report.defects),
        ("Accepted, but worth knowing", report.warnings),
    ):
        if defects:
            rows = ((d.text, d.count, ", ".join(map(str, d.rows[:5])), d.column, d.example) for d in defects)
            _print_table(("what", "rows", "first rows", "column", "found"), rows, title=title)


@app.command()
@with_options
def convert(
    file: File, target: Output, reading: ReadingOptions, on_defect: Defects = "strict", as_json: AsJson = False
) -> None:
    """Read any layout and write a plain table of bars."""
    bars = kb.read_bars(file, on_defect=on_defect, **reading.keywords())
    kb.write_bars(bars, target)
    _tell(bars, target, as_json)


@app.command()
@with_options
def clean(
    file: File,
    reading: ReadingOptions,
    target: Annotated[Path | None, typer.Option("--output", "-o", help="Write the pieces here.")] = None,
    frequency: Frequency = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Cut series for training where they jump, stop trading or stand still, by the published thresholds."""
    bars = kb.read_bars(file, on_defect=on_defect, **reading.keywords())
    cleaned = kb.clean_bars(bars, frequency=frequency)
    if target is not None:
        kb.write_bars(cleaned.to_frame(), target)
    if as_json:
        emit_json({"output": str(target) if target else None, **cleaned.to_dict()})
        return
    output.print(cleaned.summary)
    if target is not None:
        note(f"Wrote {target}; each piece is a symbol of its own.")


@app.command()
@with_options
def resample(
    file: File,
    to: Annotated[str, typer.Option(help="The larger bar size: 15m, 1h, 1d, 1w, 1mo.")],
    target: Output,
    reading: ReadingOptions,
    calendar: Calendar = None,
    stamp: Stamp = None,
    keep_forming: Annotated[bool, typer.Option(help="Keep a last bar that is not over in the data.")] = False,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Make larger bars, within sessions: none spans a lunch break, a night or a weekend."""
    bars = kb.read_bars(file, on_defect=on_defect, **reading.keywords())
    larger = kb.resample_bars(bars, to, calendar=calendar, stamp=stamp, keep_forming=keep_forming)
    kb.write_bars(larger, target)
    _tell(larger, target, as_json)


@app.command()
def fetch(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE:SYMBOL", help="binance:BTC/USDT, yfinance:AAPL, akshare:600519.")
    ],
    target: Output,
    timeframe: Annotated[str, typer.Option(help="Bar size.")] = "1d",
    since: Annotated[str | None, typer.Option(help="First date; one year back by default.")] = None,
    until: Annotated[str | None, typer.Option(help="End date, not included.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download bars; a broken download is resumed by the same command."""
    with progress(f"Fetching {source}") as report:

        def told(count: int, share: float) -> None:
            report(int(share * 1000), 1000, f"{count:,} bars")

        bars = kb.fetch_bars(source, timeframe=timeframe, since=since, until=until, output=target, progress=told)
    _tell(bars, target, as_json)


@app.command("import")
@with_options
def import_files(
    files: Files,
    store: Store,
    reading: ReadingOptions,
    frequency: Frequency = None,
    on_defect: Defects = "strict",
    replace: Annotated[bool, typer.Option(help="Let new values win over stored ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put files into a bar store, by bar size and symbol; doing it twice changes nothing."""
    options = {"frequency": frequency, "replace": replace, "on_defect": on_defect, **reading.keywords()}
    with progress("Importing") as report:
        done = kb.import_bars(kb.BarStore(store), files, progress=report, **options)
    if as_json:
        emit_json([vars(item) for item in done])
    else:
        series = len({(item.symbol, item.frequency) for item in done})
        note(f"{series} series, {sum(item.added for item in done):,} new bars in {store}.")


@app.command("list")
def list_store(store: Store, frequency: Frequency = None, as_json: AsJson = False) -> None:
    """List what a bar store holds."""
    entries = kb.BarStore(store, create=False).entries(frequency)
    if as_json:
        emit_json([vars(entry) for entry in entries])
        return
    rows = ((e.symbol, e.frequency, e.rows, e.first, e.last, e.timezone) for e in entries)
    _print_table(("symbol", "bar size", "bars", "from", "to", "time zone"), rows)
    if not entries:
        console.print("The store is empty.")


@app.command()
def calendars(as_json: AsJson = False) -> None:
    """List the names that --calendar takes, with their other names."""
    names = kb.calendar_aliases()
    if as_json:
        emit_json(names)
    else:
        _print_table(("calendar", "also called"), ((name, ", ".join(names[name])) for name in sorted(names)), box=None)
