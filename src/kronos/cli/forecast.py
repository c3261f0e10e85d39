"""``kronos forecast``: the next bars of one series, as a table, a file or a chart; or of all series of a folder."""

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
    progress,
    tell_report,
    with_options,
)
from kronos.errors import ConfigError
from kronos.spec import ForecastSpec

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast

PATHS_FOR_90 = 19  # fewer have no 5% and 95% quantile of their own: (S + 1) / 20 must reach one


@with_options
def forecast(
    bars: Annotated[
        str,
        typer.Argument(
            metavar="BARS",
            help="CSV, Parquet or Feather file of bars, or a packaged sample such as sample:sp500; or a bar store or a "
            "folder of files, for all of their series.",
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
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .html .png .csv .parquet or .json; may repeat. Of many series: a folder.",
        ),
    ] = None,
    on_defect: Defects = "strict",
    partition: Annotated[
        int | None, typer.Option(min=1, help="Series in a file of results. Default: 16.", rich_help_panel=MANY)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next bars of a series as sample paths.

    Prints the median, the intervals and the chance of a rise for each bar ahead; -o writes charts and tables.

    Of a bar store or a folder, every series is forecast and -o names a folder: Parquet files of quantiles (or of
    --paths), and a table of the series that could not be forecast. Run again, it goes on where it was stopped. The
    exit status is 0 if any series was forecast, 1 if none.
    """
    levels = None if quantiles is None else _levels(quantiles)
    chosen: dict[str, Any] = {} if levels is None else {"quantile_levels": levels}
    words: dict[str, Any] = {**asdict(checkpoint), "device": compute.device, **chosen}
    words |= {"paths": paths, "on_defect": on_defect, "reading": reading.keywords()}
    if Path(bars).is_dir():
        _forecast_folder(Path(bars), out or [], spec, compute, words | {"partition_size": partition}, as_json)
        return
    if compute.chosen or partition is not None:
        raise ConfigError(
            "--engine, --address, --workers, --gpus and --partition are for many series: name a bar store or a folder."
        )
    told = None if as_json else tell_report
    with progress(f"Forecasting {spec.horizon} bars") as report:
        result = kronos.forecast_file(bars, spec, targets=out or (), on_read=told, progress=report, **words)
    if as_json:
        from kronos.inference.forecast import document

        emit_json(document(result, paths=paths, **chosen))
    else:
        _show(result, levels, out or [])


def _levels(text: str) -> tuple[float, ...]:
    """'.1,.5,.9' as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a list of numbers between 0 and 1, such as .1,.5,.9.", param_hint="--quantiles"
        ) from None


def _forecast_folder(
    folder: Path, targets: list[Path], spec: ForecastSpec, compute: Compute, words: dict[str, Any], as_json: bool
) -> None:
    """Forecast all series and say what became of them."""
    if len(targets) != 1:
        raise ConfigError(f"{folder} is a folder, so -o must name one folder for the forecasts of all its series.")
    if "symbol" in words["reading"]:
        raise ConfigError(f"--symbol chooses a series within one file; {folder} is a folder. Name the file instead.")
    engine, out, began = compute.make(), targets[0], time.perf_counter()
    with progress("Forecasting files") as report:
        result = kronos.forecast_universe(folder, out, spec, engine=engine, progress=report, **words)
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
    note(f"Wrote {out}")


def _show(result: Forecast, levels: tuple[float, ...] | None, written: list[Path]) -> None:
    """The bars ahead and the headline as tables; what has to be said about them, and what was written, as notes."""
    from kronos.inference.charts import facts

    output.print(_next_bars(result, levels))
    output.print()
    headline = Table(box=None, header_style="dim", padding=(0, 4, 0, 0))
    names, values = zip(*facts(result), strict=True)
    for name in names:
        headline.add_column(name)
    headline.add_row(*values)
    output.print(headline)
    for warning in result.metadata.get("warnings", ()):
        note(f"Note: {warning}.")
    if 1 < result.num_samples < PATHS_FOR_90:
        note(f"Note: {result.num_samples} paths are too few for a 90% interval; give --samples {PATHS_FOR_90} or more.")
    for path in written:
        size = path.stat().st_size / 1e6
        inside = ", the charting code inside, so that it opens without a network"
        told = f" ({size:.1f} MB{inside if path.suffix.lower() == '.html' else ''})" if size > 1 else ""
        note(f"Wrote {path}{told}")


def _next_bars(result: Forecast, levels: tuple[float, ...] | None) -> Table:
    """A table of the closes ahead: median and intervals, or the quantiles asked for, and the chance of a rise."""
    from kronos.inference.charts import price_decimals, series_title

    decimals = price_decimals(result.history["close"]) if result.history is not None else 2
    shown = (0.5, 0.25, 0.75, 0.05, 0.95) if levels is None else levels
    close = result.quantile_array(shown)[:, :, result.columns.index("close")]
    texts = [[f"{value:,.{decimals}f}" for value in row] for row in close]
    names = [f"Close {level:.4g}" for level in shown]
    if levels is None:
        middle, *edges = texts
        names = ["Median", "50% interval", "90% interval"]
        texts = [middle, *([f"{a}–{b}" for a, b in zip(*edges[i : i + 2], strict=True)] for i in (0, 2))]
    table = Table(title=series_title(result), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge = table.pad_edge = False  # so that five-digit rates by the hour fit into 80 columns
    table.add_column("Time", no_wrap=True)
    for name in (*names, "P(up)"):
        table.add_column(name, justify="right")
    times = result.timestamps
    whole_days = bool((times == times.normalize()).all())
    for step, (moment, chance) in enumerate(zip(times, result.prob_up(), strict=True)):
        time = f"{moment:%Y-%m-%d}" if whole_days else f"{moment:%Y-%m-%d %H:%M}"
        table.add_row(time, *(row[step] for row in texts), f"{chance:.0%}")
    return table
