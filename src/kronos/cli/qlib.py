"""``kronos qlib``: bars into Qlib's format, a data set out of it, and signals."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kronos.cli.common import emit_json, moment, note, output, progress
from kronos.cli.options import AsJson, Compute, Defects, with_options
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

    done = export_provider(
        bars,
        out,
        sets=_named_files(sets or []),
        factors=factors,
        adjusted=adjusted,
        symbol=symbol,
        on_defect=on_defect,
        note=note,
    )
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
def prepare(
    config: Config,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
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

    settings, engine = read_research(config, overrides), engine_of(compute)
    with progress("Sampling signals") as report:
        made = make_signals(settings, device=compute.device, engine=engine, progress=report)
    for line in made.notes.values():
        note(f"Warning: {line}.")
    dates = made.panel.index.get_level_values("datetime").unique()
    say(
        f"{len(made.panel):,} signals on {len(dates):,} dates, {moment(dates.min())} … {moment(dates.max())}, "
        f"in {made.folder}"
    )


def engine_of(compute: Compute) -> WorkEngine | None:
    """What samples the signals, where it is not this process.

    Raises:
        ConfigError: a number of workers for this process.
    """
    engine = compute.away()
    if engine is None and compute.workers is not None:
        raise ConfigError("--workers is for --engine ray; this process shares each date among its cores by itself.")
    return engine


def say(line: str) -> None:
    """A line of results, unbroken, whatever is in it."""
    output.print(line, markup=False, soft_wrap=True)


def _named_files(pairs: list[str]) -> dict[str, Path]:
    """NAME=FILE pairs.

    Raises:
        ConfigError: not such a pair, or no such file.
    """
    found = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals or not Path(file).is_file():
            raise ConfigError(f"--instruments '{pair}' is not NAME=FILE with an existing file of one symbol a line")
        found[name] = Path(file)
    return found
