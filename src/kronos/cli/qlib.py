"""``kronos qlib``: bars into Qlib's format, and a data set out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import emit_json, moment, note, output
from kronos.cli.options import AsJson, Compute, Defects, with_options

if TYPE_CHECKING:
    import pandas as pd

    from kronos.backtest.config import ResearchConfig

app = typer.Typer(help="Qlib: export bars to a provider, prepare a data set from one.", no_args_is_help=True)

RUN_FILE = "finetune.yaml"

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
    from dataclasses import asdict

    from kronos.backtest.export import write_provider

    table = read_many(bars, symbol, on_defect)
    done = write_provider(table, out, sets=read_sets(sets or []), factors=read_factors(factors), adjusted=adjusted)
    if as_json:
        emit_json({**asdict(done), "folder": str(done.folder)})
        return
    for before, name in list(done.renamed.items())[:5]:
        note(f"Qlib cannot hold the name '{before}'; there it is '{name}'.")
    output.print(
        f"Wrote {done.bars:,} bars of {done.instruments:,} instruments, {moment(done.first)} … {moment(done.last)}, "
        f"to {out}; {done.suspended:,} suspended days. Sets: {', '.join(f'{k} ({v:,})' for k, v in done.sets.items())}",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def prepare(
    config: Config,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Cut a provider's bars into train, val and test, no bar scored twice, and write the run file for training."""
    import yaml

    from kronos.backtest import dataset

    settings = read_research(config, overrides)
    done = dataset.prepare(settings)
    run_file = done.folder / RUN_FILE
    run_file.write_text(yaml.safe_dump(dataset.run_settings(done, settings), sort_keys=False), encoding="utf-8")
    if as_json:
        emit_json({**dataset.describe(done, settings), "run_file": str(run_file)})
        return
    for split in done.splits:
        shortened = f", {split.purged} sessions purged at its end" if split.purged > 0 else ""
        output.print(
            f"{split.name}: {done.bars[split.name]:,} bars of {done.symbols[split.name]:,} symbols; context from "
            f"{moment(split.start)}, scored {moment(split.scored_from)} … {moment(split.end)}{shortened}",
            markup=False,
            soft_wrap=True,
        )
    if done.untraded:
        note(f"Left out {done.untraded:,} bars of days on which nothing was traded.")
    output.print(f"Fine-tune with: kronos train tokenizer --config {run_file}", markup=False, soft_wrap=True)
    output.print(f"          then: kronos train model --config {run_file}", markup=False, soft_wrap=True)


@app.command()
@with_options
def signals(config: Config, compute: Compute, overrides: Overrides = None) -> None:
    """Sample the signals of a research file; a run that was stopped goes on where it stopped."""
    from kronos.backtest.provider import Provider
    from kronos.workflows.signals import make_panel, overlap_note, signal_folder

    settings = read_research(config, overrides)
    panel, cutoff = make_panel(settings, Provider(settings.provider), compute)
    for line in overlap_note(panel, cutoff).values():
        note(f"Warning: {line}.")
    dates = panel.index.get_level_values("datetime").unique()
    output.print(
        f"{len(panel):,} signals on {len(dates):,} dates, {moment(dates.min())} … {moment(dates.max())}, "
        f"in {signal_folder(settings)}",
        markup=False,
        soft_wrap=True,
    )


def read_research(config: Path, overrides: list[str] | None) -> ResearchConfig:
    """A research file with overrides applied.

    Raises:
        ConfigError: it cannot be read, or a setting does not hold.
    """
    from kronos.backtest.config import ResearchConfig
    from kronos.training.config import read_settings

    return ResearchConfig.from_dict(read_settings(config, overrides))


def read_many(sources: list[str], symbol: str | None, on_defect: Defects) -> pd.DataFrame:
    """All bars of files, folders of files, samples and stores in one long table.

    Raises:
        DataError: a source that cannot be read, or a symbol in two of them.
    """
    import pandas as pd

    from kronos.bars import BarStore, read_bars
    from kronos.errors import DataError
    from kronos.files import bars_files

    tables: list[pd.DataFrame] = []
    files: list[str | Path] = []
    for source in sources:
        folder = Path(source)
        if not folder.is_dir():
            files.append(source)  # a file, or the name of a sample
        elif not any(folder.glob("frequency=*")):
            files += bars_files([folder])
        else:
            store = BarStore(folder)
            names = store.symbols("1d")
            if not names:
                raise DataError(f"{source} is a bar store without daily bars; see kronos bars list --store {source}")
            tables += [store.read(name, "1d") for name in names]
    for file in files:
        table = read_bars(file, symbol=symbol, on_defect=on_defect)
        if dropped := table.attrs["report"].dropped:
            note(f"Dropped {dropped:,} defective rows of {file}.")
        if "symbol" not in table.columns:
            table.insert(1, "symbol", symbol or Path(file).name.partition(".")[0])
        tables.append(table)
    joined = pd.concat([_plain(table) for table in tables], ignore_index=True)
    twice = joined.duplicated(["symbol", "timestamp"])
    if twice.any():
        row = joined[twice].iloc[0]
        raise DataError(f"two sources hold {row['symbol']} on {row['timestamp']:%Y-%m-%d}; leave one out")
    return joined


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    table.attrs = {}
    return table


def read_sets(pairs: list[str]) -> dict[str, list[str]]:
    """NAME=FILE pairs as sets of symbols; what follows a tab in a line is left out.

    Raises:
        ConfigError: not such a pair, or no such file.
    """
    from kronos.errors import ConfigError

    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals or not Path(file).is_file():
            raise ConfigError(f"--instruments '{pair}' is not NAME=FILE with an existing file of one symbol a line")
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        found[name] = [line.split("\t")[0].strip() for line in lines if line.strip()]
    return found


def read_factors(path: Path | None) -> pd.DataFrame | None:
    """The table of adjustment factors.

    Raises:
        DataError: it cannot be read.
    """
    import pandas as pd

    from kronos.errors import DataError

    if path is None:
        return None
    try:
        table: Any = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"symbol": str})
        return table.assign(timestamp=pd.to_datetime(table["timestamp"]))  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as factors (symbol, timestamp, factor): {error}") from error
