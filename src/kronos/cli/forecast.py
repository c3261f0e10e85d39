"""``kronos forecast``: the next bars of one series, as a table, a file or a chart; or of many series."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict, dataclass
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
    import pandas as pd

    from kronos.inference.forecast import Forecast
    from kronos.inference.views import Touches

_risk = functools.partial(typer.Option, rich_help_panel="Risk")


@dataclass(frozen=True)
class RiskOptions:
    """What of a forecast's risk is shown beside its bars."""

    volatility: Annotated[bool, _risk("--volatility", help="Show the cone of volatility, a year's.")] = False
    touch: Annotated[
        list[float] | None, _risk(metavar="PRICE", help="Show the chance that this price is touched. May repeat.")
    ] = None
    take_profit: Annotated[
        float | None,
        _risk(metavar="PRICE", help="With --stop-loss: which is touched first, and when. Below the close: a short."),
    ] = None
    stop_loss: Annotated[float | None, _risk(metavar="PRICE", help="The other side of --take-profit.")] = None

    @property
    def asked(self) -> str:
        """The first option that was given; empty: none."""
        return next((f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value), "")

    def touches(self) -> Touches:
        """What is asked about touches; ConfigError: one barrier without the other."""
        from kronos.inference.views import Touches

        return Touches(tuple(self.touch or ()), self.take_profit, self.stop_loss)

    def refuse_many(self) -> None:
        """Says so where a question about one series is asked of many."""
        if self.asked:
            raise ConfigError(f"{self.asked} is of one series; choose one with --symbol, or name its file.")


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
    risk: RiskOptions,
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

    Prints the median and the intervals of each bar ahead, the chance of a rise where the model gives a direction, and
    the volatility a year; -o writes charts and tables. --volatility, --touch and --take-profit add tables.

    Of a bar store, a folder or a file of many symbols, every series is forecast and -o names a folder: Parquet files
    of quantiles (or of --paths), and a table of the series that could not be forecast. Run again, it goes on where it
    was stopped. The exit status is 0 if any series was forecast, 1 if none.
    """
    words: dict[str, Any] = {**asdict(checkpoint), "device": compute.device, "partition_size": partition}
    words |= {"paths": paths, "layout": layout, "on_defect": on_defect, "reading": reading.keywords(), "until": until}
    words |= {} if quantiles is None else {"quantile_levels": _levels(quantiles)}
    with standard_input(bars) as source:
        if Path(source).is_dir() or (Path(source).is_file() and _is_folder(out or [], layout)):
            risk.refuse_many()
            _forecast_many(Path(source), out or [], spec, compute, words, as_json)
        else:
            _forecast_one(source, out or [], spec, compute, risk, words, as_json)


def _is_folder(targets: list[Path], layout: str | None) -> bool:
    """Whether -o names a folder for many series: one that is there, or a name without an ending."""
    from kronos.inference.layouts import PATHS  # which write a folder of one series

    return layout not in PATHS and len(targets) == 1 and (targets[0].is_dir() or not targets[0].suffix)


def _forecast_one(
    source: str,
    targets: list[Path],
    spec: ForecastSpec,
    compute: Compute,
    risk: RiskOptions,
    words: dict[str, Any],
    as_json: bool,
) -> None:
    """Forecast one series, and show it or print its document."""
    if compute.chosen or words.pop("partition_size") is not None:
        raise ConfigError(
            "--engine, --address, --workers, --gpus and --partition are for many series: name a bar store or a folder, "
            "or with a file of many symbols a folder as -o."
        )
    touches = risk.touches()
    if as_json and touches and words["layout"] is not None:
        raise ConfigError("--json tells touches in the document of the forecast; leave --layout out.")

    def told(table: pd.DataFrame) -> None:
        touches.check(float(table["close"].iloc[-1]))
        if not as_json:
            tell_report(table)

    with progress(f"Forecasting {spec.horizon} bars") as report:
        result = kronos.forecast_file(source, spec, targets=targets, on_read=told, progress=report, **words)
    levels = words.get("quantile_levels")
    if as_json:
        from kronos.inference.layouts import shown_as_json

        found = shown_as_json(result, words["layout"], levels, paths=words["paths"])
        emit_json({**found, **touches.document(result)} if touches else found)
    else:
        _show(result, levels, risk, targets)


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


def _show(result: Forecast, levels: tuple[float, ...] | None, risk: RiskOptions, written: list[Path]) -> None:
    """The bars ahead, the headline and what of risk was asked as tables; cautions and what was written as notes."""
    from kronos.inference.certainty import Shown
    from kronos.inference.charts import facts, next_bars, series_title
    from kronos.inference.told import volatility_line

    _print_rows(series_title(result), next_bars(result, levels))
    output.print()
    headline = Table(box=None, header_style="dim", padding=(0, 4, 0, 0))
    names, values = map(list, zip(*facts(result), strict=True))
    for name in names:
        headline.add_column(name, no_wrap=True)
    headline.add_row(*values)
    print_table(headline)
    if (line := volatility_line(result)) is not None:
        output.print(line, soft_wrap=True)
    errors = _show_risk(result, risk) or any("±" in value for value in values)
    if errors:
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


def _show_risk(result: Forecast, risk: RiskOptions) -> bool:
    """Print the tables that were asked for; whether one of them holds a sampling error."""
    from kronos.inference import told

    touches, found = risk.touches(), []
    if risk.volatility:
        found.append(("Volatility a year of the paths so far", told.cone(result)))
    if touches.prices:
        found.append(("Chance that a price is touched", told.touch_chances(result, touches.prices)))
    if touches.barriers:
        profit, loss = touches.barriers
        title = f"Take profit {profit:,.10g}, stop loss {loss:,.10g}, within {result.horizon} bars"
        found.append((title, told.first_touch_chances(result, profit, loss)))
    for title, rows in found:
        output.print()
        _print_rows(title, rows)
    return any("±" in text for _, (_, rows) in found for row in rows for text in row)


def _print_rows(title: str, found: tuple[list[str], list[list[str]]]) -> None:
    """A table of texts, its first column on the left."""
    (first, *names), rows = found
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge = table.pad_edge = False  # so that five-digit rates by the hour fit into 80 columns
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_table(table)
