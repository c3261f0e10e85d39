"""``kronos forecast``: the next bars of one series, as a table, a file or a chart; or of many series."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

import kronos
from kronos.cli.common import (
    MANY,
    AsJson,
    CheckpointOptions,
    Compute,
    Defects,
    ReadingOptions,
    emit_json,
    note,
    output,
    print_table,
    progress,
    standard_input,
    stoppable,
    tell_report,
    with_options,
)
from kronos.errors import ConfigError
from kronos.spec import ForecastSpec, Layout

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast


@with_options
def forecast(
    bars: Annotated[
        str,
        typer.Argument(
            metavar="BARS",
            help="CSV, Excel, JSON, Parquet or Feather file of bars, - for standard input, or a packaged sample such "
            "as sample:sp500; or a bar store, a folder of files, or a file of many symbols, for all of their series: "
            "these need -o FOLDER, or of a file of many choose one with --symbol.",
        ),
    ],
    spec: ForecastSpec,
    reading: ReadingOptions,
    compute: Compute,
    checkpoint: CheckpointOptions,
    quantiles: Annotated[
        str | None, typer.Option(metavar="LEVELS", help="Quantile levels, for instance .1,.5,.9.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Write every sample path instead of the summary.")] = False,
    layout: Annotated[
        Layout | None,
        typer.Option(help="Write the layout of another tool; freqtrade and backtesting write a folder, a file a path."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .html .png .csv .parquet or .json; may repeat. Of many series: a folder.",
        ),
    ] = None,
    on_defect: Defects = "strict",
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Replay: forecast from the bars up to and including this day or time."),
    ] = None,
    partition: Annotated[
        int | None, typer.Option(min=1, help="Series in a file of results. Default: 16.", rich_help_panel=MANY)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next bars of a series as sample paths.

    Prints the median, the intervals and the chance of a rise for each bar ahead; -o writes charts and tables.

    Of a bar store, a folder or a file of many symbols, every series is forecast and -o names a folder: Parquet files
    of quantiles (or of --paths), and a table of the series that could not be forecast. Run again, it goes on where it
    was stopped. The exit status is 0 if any series was forecast, 1 if none.
    """
    levels = None if quantiles is None else _levels(quantiles)
    chosen: dict[str, Any] = {} if levels is None else {"quantile_levels": levels}
    words: dict[str, Any] = {**asdict(checkpoint), "device": compute.device, **chosen}
    words |= {"paths": paths, "layout": layout, "on_defect": on_defect, "reading": reading.keywords(), "until": until}
    with standard_input(bars) as source:
        if Path(source).is_dir() or (Path(source).is_file() and _is_folder(out or [], layout)):
            many = words | {"partition_size": partition}
            _forecast_many(Path(source), out or [], spec, compute, many, as_json)
        else:
            _forecast_one(source, out or [], spec, compute, words | {"partition_size": partition}, as_json)


def _is_folder(targets: list[Path], layout: str | None) -> bool:
    """Whether -o names a folder for many series: one that is there, or a name without an ending."""
    from kronos.inference.layouts import PATHS  # which write a folder of one series

    return layout not in PATHS and len(targets) == 1 and (targets[0].is_dir() or not targets[0].suffix)


def _forecast_one(
    source: str, targets: list[Path], spec: ForecastSpec, compute: Compute, words: dict[str, Any], as_json: bool
) -> None:
    """Forecast one series, and show it or print its document."""
    if compute.chosen or words.pop("partition_size") is not None:
        raise ConfigError(
            "--engine, --address, --workers, --gpus and --partition are for many series: name a bar store or a folder, "
            "or with a file of many symbols a folder as -o."
        )
    told = None if as_json else tell_report
    with progress(f"Forecasting {spec.horizon} bars") as report:
        result = kronos.forecast_file(source, spec, targets=targets, on_read=told, progress=report, **words)
    levels = words.get("quantile_levels")
    if as_json:
        from kronos.inference.layouts import shown_as_json

        emit_json(shown_as_json(result, words["layout"], levels, paths=words["paths"]))
    else:
        _show(result, levels, targets)


def _levels(text: str) -> tuple[float, ...]:
    """'.1,.5,.9' as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a list of numbers between 0 and 1, such as .1,.5,.9.", param_hint="--quantiles"
        ) from None


def _forecast_many(
    source: Path, targets: list[Path], spec: ForecastSpec, compute: Compute, words: dict[str, Any], as_json: bool
) -> None:
    """Forecast all series and say what became of them."""
    if len(targets) != 1:
        raise ConfigError(f"{source} is a folder, so -o must name one folder for the forecasts of all its series.")
    if source.is_dir() and "symbol" in words["reading"]:
        raise ConfigError(f"--symbol chooses a series within one file; {source} is a folder. Name the file instead.")
    engine, out, began = compute.make(), targets[0], time.perf_counter()
    with (
        stoppable(f"What is done lies in {out}; the same command goes on from there."),
        progress("Forecasting files") as report,
    ):
        result = kronos.forecast_universe(source, out, spec, engine=engine, progress=report, **words)
    seconds = time.perf_counter() - began
    if as_json:
        emit_json({"output": out, **asdict(result), "seconds": round(seconds, 1)})
        return
    note(f"Forecast {result.series:,} series, {spec.horizon} bars ahead, in {seconds:.0f} s.")
    if result.kept:
        note(f"{result.kept:,} of {result.partitions:,} files were there already.")
    if result.failed:
        note(f"{result.failed:,} series could not be forecast, for instance {result.trouble}")
        note(f"All of them are in {out / 'errors'}")
    if result.noted:
        note(f"{result.noted:,} forecasts carry notes (column 'notes'), for instance {result.note}")
    note(f"Wrote {out}" + (f", in it {words['layout']}.parquet" if words["layout"] else ""))


def _show(result: Forecast, levels: tuple[float, ...] | None, written: list[Path]) -> None:
    """The bars ahead and the headline as tables; cautions and what was written as notes."""
    from kronos.inference.certainty import Shown
    from kronos.inference.charts import facts, next_bars, series_title

    (first, *names), rows = next_bars(result, levels)
    table = Table(title=series_title(result), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge = table.pad_edge = False  # so that five-digit rates by the hour fit into 80 columns
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_table(table)
    output.print()
    headline = Table(box=None, header_style="dim", padding=(0, 4, 0, 0))
    names, values = map(list, zip(*facts(result), strict=True))
    for name in names:
        headline.add_column(name, no_wrap=True)
    headline.add_row(*values)
    print_table(headline)
    if any("±" in value for value in values):
        output.print("± is one standard error of drawing this many paths.", style="dim")
    shown = Shown(result)
    if shown.direction:
        output.print(shown.direction, style="dim", markup=False, soft_wrap=True)
    for text in shown.notes:
        note(f"Note: {text}.")
    for path in written:
        size = 0 if path.is_dir() else path.stat().st_size / 1e6
        inside = ", the charting code inside, so that it opens without a network"
        told = f" ({size:.1f} MB{inside if path.suffix.lower() == '.html' else ''})" if size > 1 else ""
        note(f"Wrote {path}{told}")
