"""``kronos forecast``: the next bars of one series, as a table, a file or a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import (
    Address,
    Columns,
    Compute,
    Dayfirst,
    DecimalMark,
    Device,
    Encoding,
    Engine,
    EngineName,
    EpochUnit,
    Frequency,
    Gpus,
    Newest,
    OnDefect,
    PartitionSize,
    StampEnd,
    Timezone,
    Workers,
    emit_json,
    load_bars,
    note,
    output,
    progress,
    reading_options,
    tell_report,
)

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from kronos.inference.forecast import Forecast

PATHS_FOR_90 = 19  # fewer have no 5% and 95% quantile of their own: (S + 1) / 20 must reach one


def forecast(
    bars: Annotated[
        str,
        typer.Argument(
            metavar="BARS",
            help="CSV, Parquet or Feather file of bars, or a packaged sample such as sample:sp500; "
            "or a bar store or a folder of files, for all of their series.",
        ),
    ],
    horizon: Annotated[int, typer.Option(help="Bars ahead.")] = 24,
    model: Annotated[
        str, typer.Option(help="A name (see 'kronos models list'), a folder or a hub id.")
    ] = "kronos-nano",
    samples: Annotated[int, typer.Option(help="Sample paths: 30 for a look, 100 or more to steady the tails.")] = 30,
    calendar: Annotated[
        str | None,
        typer.Option(help="Exchange by MIC code (XNYS, XSHG), or 24/7. Without it, inferred from the bars."),
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(metavar="LEVELS", help="Quantile levels, for instance .1,.5,.9.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same paths.")] = 0,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .html .png .csv .parquet or .json; may repeat. Of many series: a folder.",
        ),
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Write every sample path instead of the summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    symbol: Annotated[str | None, typer.Option(help="Which series, where the file holds several.")] = None,
    on_defect: Annotated[OnDefect, typer.Option(help="Refuse defective rows, or drop them.")] = OnDefect.strict,
    temperature: Annotated[
        float | None, typer.Option(help="Spread of the sampling; 0 is greedy. Default: the model's own.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k likeliest tokens; 0 is off.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the likeliest tokens of this total chance.")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Last bars to read. Default: as many as the model can.")
    ] = None,
    frequency: Frequency = None,
    stamp: StampEnd = None,
    column: Columns = None,
    timezone: Timezone = None,
    dayfirst: Dayfirst = None,
    decimal: DecimalMark = None,
    epoch: EpochUnit = None,
    encoding: Encoding = None,
    newest_first: Newest = None,
    device: Device = None,
    revision: Annotated[str | None, typer.Option(help="Pin a hub checkpoint to a commit or tag.")] = None,
    engine: EngineName = Engine.local,
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = None,
    partition: PartitionSize = None,
) -> None:
    """Forecast the next bars of a series as sample paths.

    Prints the median, the intervals and the chance of a rise for each bar ahead; -o writes charts and tables.

    Of a bar store or a folder, every series is forecast and -o names a folder: Parquet files of quantiles (or of
    --paths), and a table of the series that could not be forecast. Run again, it goes on where it was stopped. The
    exit status is 0 if any series was forecast, 1 if none.
    """
    from kronos.inference.export import DEFAULT_LEVELS, check_levels, check_target, document

    # What can be wrong is asked first; only then is torch imported, the model loaded and the work begun.
    levels = DEFAULT_LEVELS if quantiles is None else parse_levels(quantiles)
    check_levels(levels)
    options = reading_options(symbol, column, timezone, dayfirst, decimal, epoch, encoding, newest_first)
    if Path(bars).is_dir():
        from kronos.cli.universe import forecast_folder

        asked: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "horizon": horizon,
            "num_samples": samples,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "calendar": calendar,
            "context_length": context,
            "stamp": stamp.value if stamp else None,
            "frequency": frequency,
            "quantile_levels": levels,
            "paths": paths,
            "on_defect": on_defect.value,
        }
        compute = Compute(engine, address, workers, gpus, device)
        forecast_folder(Path(bars), out, asked, options, compute, partition=partition, as_json=as_json)
        return
    refuse_engine(engine, address, workers, gpus, partition)
    targets = [check_target(target) for target in out or []]
    table = load_bars(bars, on_defect=on_defect, **options)
    check_one_series(table)
    if not as_json:
        tell_report(table)
    from kronos.inference.predictor import KronosPredictor

    predictor = KronosPredictor.from_pretrained(model, device=device, revision=revision)
    with progress(f"Forecasting {horizon} bars") as report:
        result = predictor.forecast(
            table,
            horizon=horizon,
            num_samples=samples,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            calendar=calendar,
            progress=report,
            context_length=context,
            stamp=stamp.value if stamp else None,
            frequency=frequency,
        )
    written = [result.save(target, quantile_levels=levels, paths=paths) for target in targets]
    if as_json:
        emit_json(document(result, levels, paths=paths))
        return
    show(result, None if quantiles is None else levels)
    for path in written:
        tell_written(path)


def show(result: Forecast, levels: tuple[float, ...] | None) -> None:
    """The bars ahead and the headline as tables; what has to be said about them as notes."""
    output.print(next_bars(result, levels))
    output.print()
    output.print(headline(result))
    for warning in result.metadata.get("warnings", ()):
        note(f"Note: {warning}.")
    if 1 < result.num_samples < PATHS_FOR_90:
        note(f"Note: {result.num_samples} paths are too few for a 90% interval; give --samples {PATHS_FOR_90} or more.")


def tell_written(path: Path) -> None:
    """A file that was written, and its size where that may surprise."""
    size = path.stat().st_size / 1e6
    inside = ", the charting code inside, so that it opens without a network"
    told = f" ({size:.1f} MB{inside if path.suffix.lower() == '.html' else ''})" if size > 1 else ""
    note(f"Wrote {path}{told}")


def refuse_engine(engine: Engine, *options: object) -> None:
    """One file needs no engine: refuse what would have no effect.

    Raises:
        ConfigError: says so.
    """
    from kronos.errors import ConfigError

    if engine is not Engine.local or any(option is not None for option in options):
        raise ConfigError(
            "--engine, --address, --workers, --gpus and --partition are for many series: name a bar store or a folder."
        )


def check_one_series(table: pd.DataFrame) -> None:
    """Refuse a table of several symbols.

    Raises:
        DataError: names the symbols and the option that chooses one.
    """
    from kronos.errors import DataError

    report = table.attrs["report"]
    if len(report.symbols) > 1:
        some = ", ".join(report.symbols[:6]) + (" …" if len(report.symbols) > 6 else "")
        raise DataError(f"{report.source} holds {len(report.symbols)} symbols ({some}); choose one with --symbol.")


def parse_levels(text: str) -> tuple[float, ...]:
    """'.1,.5,.9' as numbers.

    Raises:
        typer.BadParameter: something between the commas is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a list of numbers between 0 and 1, such as .1,.5,.9.", param_hint="--quantiles"
        ) from None


def next_bars(result: Forecast, levels: tuple[float, ...] | None) -> Table:
    """A table of the closes ahead: median and intervals, or the quantiles asked for, and the chance of a rise."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from kronos.inference.charts.scene import price_decimals, series_title

    decimals = price_decimals(result.history["close"]) if result.history is not None else 2
    shown = (0.5, 0.25, 0.75, 0.05, 0.95) if levels is None else levels
    close = result.quantile_array(shown)[:, :, result.columns.index("close")]
    texts = [[f"{value:,.{decimals}f}" for value in row] for row in close]
    if levels is None:
        middle, *edges = texts
        bands = [[f"{low}–{high}" for low, high in zip(*edges[i : i + 2], strict=True)] for i in (0, 2)]
        texts = [middle, *bands]
    names = ["Median", "50% interval", "90% interval"] if levels is None else [f"Close {x:.4g}" for x in shown]

    table = Table(title=series_title(result), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge = table.pad_edge = False  # so that five-digit rates by the hour fit into 80 columns
    table.add_column("Time", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("P(up)", justify="right")
    times = result.timestamps
    whole_days = bool((times == times.normalize()).all())
    for step, (moment, chance) in enumerate(zip(times, result.prob_up(), strict=True)):
        time = f"{moment:%Y-%m-%d}" if whole_days else f"{moment:%Y-%m-%d %H:%M}"
        table.add_row(time, *(row[step] for row in texts), f"{chance:.0%}")
    return table


def headline(result: Forecast) -> Table:
    """The few numbers that sum the forecast up, each under its name."""
    from rich.table import Table

    from kronos.inference.charts.scene import facts

    table = Table(box=None, header_style="dim", padding=(0, 4, 0, 0))
    names, values = zip(*facts(result), strict=True)
    for name in names:
        table.add_column(name)
    table.add_row(*values)
    return table
