"""``kronos bars``: look over, convert, clean, resample, fetch and store tables of bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kronos.cli.common import console, emit_json, note, output, progress
from kronos.cli.options import AsJson, Defects, Frequency, ReadingOptions, with_options
from kronos.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from kronos.bars import BarsReport

app = typer.Typer(help="Look over, convert, clean, resample, fetch and store bars.", no_args_is_help=True)


File = Annotated[str, typer.Argument(metavar="FILE", help="CSV, Parquet or Feather, or sample:sp500.")]
Files = Annotated[list[str], typer.Argument(metavar="FILES", help="Files, or folders of them.")]
Output = Annotated[Path, typer.Option("--output", "-o", help=".parquet, .csv, .csv.gz or .feather.")]
Calendar = Annotated[str | None, typer.Option(help="MIC code such as XNYS or XSHG, 24/7, FX or observed.")]
Stamp = Annotated[Literal["start", "end"] | None, typer.Option(help="Which end of a bar its timestamp names.")]
Store = Annotated[Path, typer.Option(help="Folder of the bar store.")]


@app.command()
@with_options
def inspect(
    file: File,
    reading: ReadingOptions,
    as_json: AsJson = False,
) -> None:
    """Name layout, symbol, bar size, time zone, calendar, rows and every defect of a file."""
    from kronos.bars import inspect_bars

    report = inspect_bars(file, **reading.keywords())
    if as_json:
        emit_json(report.to_dict())
    else:
        _show(report)


def _show(report: BarsReport) -> None:
    from rich.table import Table

    zone = report.timezone or "not said; the times are wall time"
    if report.timezone_guess:
        zone = f"not said; the hours are those of {report.timezone_guess}"
    calendar = report.calendar or "none stands out"
    if report.stamp:
        calendar += f", stamps name the {report.stamp} of the bar"
    symbols = ", ".join(report.symbols[:8]) + (f" … ({len(report.symbols)})" if len(report.symbols) > 8 else "")
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("file", report.source),
        ("layout", report.layout),
        ("symbol", symbols or "not named"),
        ("bar size", report.frequency or "cannot be told"),
        ("time zone", zone),
        ("calendar", calendar),
        ("rows", f"{report.rows:,}" + (f" of {report.rows_read:,}" if report.dropped else "")),
        ("from", str(report.first)),
        ("to", str(report.last)),
        ("left out", ", ".join(report.left_out) or "no column"),
        ("read as", "; ".join(report.notes) or "written"),
    ):
        facts.add_row(f"[bold]{name}[/]", _plain(value))
    output.print(facts)
    _show_defects("Defects: these rows are refused, or dropped with --on-defect drop", report.defects)
    _show_defects("Accepted, but worth knowing", report.warnings)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _show_defects(title: str, defects: tuple[Any, ...]) -> None:
    from rich.table import Table

    if not defects:
        return
    table = Table(title=title, title_justify="left")
    for heading in ("what", "rows", "first rows", "column", "found"):
        table.add_column(heading, justify="right" if heading == "rows" else "left")
    for defect in defects:
        rows = ", ".join(str(row) for row in defect.rows[:5])
        table.add_row(defect.text, f"{defect.count:,}", rows, defect.column or "", _plain(defect.example or ""))
    output.print(table)


@app.command()
@with_options
def convert(
    file: File,
    target: Output,
    reading: ReadingOptions,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Read any layout and write a plain table of bars."""
    from kronos.bars import read_bars, write_bars

    bars = read_bars(file, on_defect=on_defect, **reading.keywords())
    write_bars(bars, target)
    _tell(bars, target, as_json)


def _tell(bars: pd.DataFrame, target: Path, as_json: bool) -> None:
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
def clean(
    file: File,
    reading: ReadingOptions,
    target: Annotated[Path | None, typer.Option("--output", "-o", help="Write the pieces here.")] = None,
    frequency: Frequency = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Cut series for training where they jump, stop trading or stand still, by the published thresholds."""
    from kronos.bars import clean_bars, read_bars, write_bars

    cleaned = clean_bars(read_bars(file, on_defect=on_defect, **reading.keywords()), frequency=frequency)
    summary = cleaned.to_dict()
    if target is not None:
        write_bars(cleaned.to_frame(), target)
    if as_json:
        emit_json({"output": str(target) if target else None, **summary})
        return
    kept = f"{summary['rows_kept']:,} of {summary['rows']:,} bars in {summary['pieces']:,} pieces"
    output.print(f"Kept {kept}; a piece has at least {cleaned.rule.min_length} bars.")
    output.print(
        f"Cut: {summary['jumps']:,} jumps above {cleaned.rule.jump:.0%}, {summary['idle_bars']:,} bars without volume, "
        f"{summary['flat_bars']:,} at an unchanged close, {summary['short_bars']:,} in pieces that are too short."
    )
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
    as_json: AsJson = False,
) -> None:
    """Make larger bars, within sessions: none spans a lunch break, a night or a weekend."""
    from kronos.bars import read_bars, resample_bars, write_bars

    bars = read_bars(file, **reading.keywords())
    larger = resample_bars(bars, to, calendar=calendar, stamp=stamp, keep_forming=keep_forming)
    write_bars(larger, target)
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
    from kronos.bars import fetch_bars

    with progress(f"Fetching {source}") as report:
        bars = fetch_bars(
            source,
            timeframe=timeframe,
            since=since,
            until=until,
            output=target,
            progress=lambda count, share: report(int(share * 1000), 1000, f"{count:,} bars"),
        )
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
    from kronos.bars import BarStore, import_bars
    from kronos.bars.samples import locate

    paths: list[str | Path] = [locate(name) for name in files]
    with progress("Importing") as report:
        done = import_bars(
            BarStore(store),
            paths,
            frequency=frequency,
            replace=replace,
            progress=report,
            on_defect=on_defect,
            **reading.keywords(),
        )
    if as_json:
        emit_json([vars(item) for item in done])
        return
    added = sum(item.added for item in done)
    note(f"{len(done)} series, {added:,} new bars in {store}.")


@app.command("list")
def list_store(store: Store, frequency: Frequency = None, as_json: AsJson = False) -> None:
    """List what a bar store holds."""
    from rich.table import Table

    from kronos.bars import BarStore

    if not store.is_dir():
        raise ConfigError(f"{store} is not a bar store. Make one with kronos bars import FILES --store {store}.")
    entries = BarStore(store).entries(frequency)
    if as_json:
        emit_json([vars(entry) for entry in entries])
        return
    table = Table()
    for heading in ("symbol", "bar size", "bars", "from", "to", "time zone"):
        table.add_column(heading, justify="right" if heading == "bars" else "left")
    for entry in entries:
        table.add_row(
            _plain(entry.symbol), entry.frequency, f"{entry.rows:,}", entry.first, entry.last, entry.timezone or ""
        )
    output.print(table)
    if not entries:
        console.print("The store is empty.")


@app.command()
def calendars(as_json: AsJson = False) -> None:
    """List the names that --calendar takes, with their other names."""
    from rich.table import Table

    from kronos.bars import calendar_names
    from kronos.bars.calendar import resolve_calendar

    others: dict[str, list[str]] = {}
    for name in calendar_names():
        aliases = others.setdefault(resolve_calendar(name), [])
        if name != resolve_calendar(name):
            aliases.append(name)
    if as_json:
        emit_json(others)
        return
    table = Table(box=None)
    table.add_column("calendar")
    table.add_column("also called")
    for name, aliases in sorted(others.items()):
        table.add_row(name, ", ".join(aliases))
    output.print(table)
