"""``kronos qlib`` and ``kronos backtest``: bars into Qlib's format, a data set, signals, and their trades."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import kronos
from kronos.cli.common import AsJson, Compute, Defects, console, emit_json, moment, note, output, progress, with_options
from kronos.errors import ConfigError

if TYPE_CHECKING:
    from kronos.protocol import WorkEngine

app = typer.Typer(help="Qlib: export bars to a provider, prepare a data set from one.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The research file (YAML), such as configs/qlib_cn.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as backtest.topk=30. May repeat."),
]


@app.command()
def export(
    bars: Annotated[
        list[str], typer.Argument(metavar="BARS", help="Daily bars: files, folders, samples, a bar store.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new provider.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--instruments", metavar="NAME=FILE", help="A set: a symbol a line. May repeat; 'all' is always."),
    ] = None,
    factors: Annotated[
        Path | None, typer.Option(help="Adjustment factors: symbol, timestamp, factor (CSV or Parquet).")
    ] = None,
    adjusted: Annotated[
        bool, typer.Option("--adjusted/--raw", help="Whether the prices are already multiplied by the factors.")
    ] = False,
    symbol: Annotated[str | None, typer.Option(help="Name of a series that names none.")] = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Write daily bars as a Qlib provider: calendar, instruments with listing ranges, nine features."""
    from kronos.workflows.backtest import export_provider

    files = {}
    for pair in sets or ():
        name, equals, file = pair.partition("=")
        if not equals or not Path(file).is_file():
            raise ConfigError(f"--instruments '{pair}' is not NAME=FILE with an existing file of one symbol a line")
        files[name] = Path(file)
    how: dict[str, Any] = {"adjusted": adjusted, "symbol": symbol, "on_defect": on_defect, "note": note}
    done = export_provider(bars, out, sets=files, factors=factors, **how)
    if as_json:
        emit_json(asdict(done))
        return
    for before, name in list(done.renamed.items())[:5]:
        note(f"Qlib cannot hold the name '{before}'; there it is '{name}'.")
    say(
        f"Wrote {done.bars:,} bars of {done.instruments:,} instruments, {moment(done.first)} … {moment(done.last)}, "
        f"to {out}; {done.suspended:,} suspended days. Sets: {', '.join(f'{k} ({v:,})' for k, v in done.sets.items())}"
    )


@app.command()
def prepare(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Cut a provider's bars into train, val and test, no bar scored twice, and write the run file for training."""
    from kronos.workflows.backtest import prepare_data, read_research

    settings = read_research(config, overrides)
    done = prepare_data(settings)
    if as_json:
        emit_json(done.to_dict(settings) | {"run_file": done.run_file})
        return
    for split in done.splits:
        shortened = f", {split.purged} sessions purged at its end" if split.purged > 0 else ""
        say(
            f"{split.name}: {done.bars[split.name]:,} bars of {done.symbols[split.name]:,} symbols; context from "
            f"{moment(split.start)}, scored {moment(split.scored_from)} … {moment(split.end)}{shortened}"
        )
    if done.untraded:
        note(f"Left out {done.untraded:,} bars of days on which nothing was traded.")
    say(f"Fine-tune with: kronos train tokenizer --config {done.run_file}")
    say(f"          then: kronos train model --config {done.run_file}")


@app.command()
@with_options
def signals(config: Config, compute: Compute, overrides: Overrides = None) -> None:
    """Sample the signals of a research file; a run that was stopped goes on where it stopped."""
    from kronos.workflows.backtest import make_signals, read_research

    settings, engine = read_research(config, overrides), _engine(compute)
    with progress("Sampling signals") as report:
        made = make_signals(settings, device=compute.device, engine=engine, progress=report)
    for line in made.notes.values():
        note(f"Warning: {line}.")
    dates = made.panel.index.get_level_values("datetime").unique()
    say(
        f"{len(made.panel):,} signals on {len(dates):,} dates, {moment(dates.min())} … {moment(dates.max())}, "
        f"in {made.folder}"
    )


@with_options
def backtest(
    config: Config,
    compute: Compute,
    overrides: Overrides = None,
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of report.html, PNG charts, summary.json, daily.parquet.")
    ] = Path("report"),
    signals: Annotated[
        Path | None, typer.Option(help="A panel of signals to use (Parquet: datetime, instrument, columns).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trade the signals of a research file, with costs, beside random and momentum signals.

    Signals that are not there yet are sampled first; a run that was stopped goes on.
    """
    from kronos.workflows.backtest import read_research

    if signals is not None and compute.chosen:
        raise ConfigError(
            "The panel of --signals is there already; leave --engine, --address, --workers and --gpus out."
        )
    settings, engine = read_research(config, overrides), _engine(compute)
    with progress("Backtest") as report:
        done = kronos.backtest(settings, out, signals=signals, device=compute.device, engine=engine, progress=report)
    if as_json:
        emit_json(done.summary)
        return
    _show(done.summary)
    names = ("report.html", "summary.json", "daily.parquet")
    console.print(f"Wrote {', '.join(str(out / name) for name in names)} and charts", markup=False, soft_wrap=True)


def _show(summary: dict[str, Any]) -> None:
    """The figures as a table, the verdict in words."""
    span = summary["sessions"]
    title = f"A year after cost, {span['first']} … {span['last']}, benchmark {summary['benchmark']}"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("signal", "return", "excess", "95 %", "IR", "fall", "rank IC", "t"):
        table.add_column(name, justify="left" if name == "signal" else "right", no_wrap=True)
    for name, one in summary["strategies"].items():
        excess, rank = one["excess_annual"], summary["studies"][name]["rank_ic"]
        known = excess["low"] == excess["low"]
        table.add_row(
            name,
            f"{one['annual_return']:+.1%}",
            f"{excess['value']:+.1%}",
            f"{excess['low']:+.1%} {excess['high']:+.1%}" if known else "too short",
            f"{one['information_ratio']['value']:.2f}",
            f"{one['max_drawdown']:.1%}",
            f"{rank['mean']:+.4f}" if rank["n"] else "–",
            f"{rank['t']:.1f}" if rank["n"] else "–",
        )
    output.print(table)
    for line in summary["notes"]:
        note(f"Warning: {line}.")
    for entry in summary["verdict"]:
        say(f"{entry['signal']}: {entry['words']}")


def _engine(compute: Compute) -> WorkEngine | None:
    """What samples the signals, where it is not this process; which takes no number of workers."""
    engine = compute.remote_engine()
    if engine is None and compute.workers is not None:
        raise ConfigError("--workers is for --engine ray; this process shares each date among its cores by itself.")
    return engine


def say(line: str) -> None:
    """A line of results, unbroken, whatever is in it."""
    output.print(line, markup=False, soft_wrap=True)
