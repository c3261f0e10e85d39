"""``kronos backtest``: signals of a research file through Qlib's TopkDropout, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import kronos
from kronos.cli.common import console, emit_json, note, output, progress
from kronos.cli.options import AsJson, Compute, with_options
from kronos.cli.qlib import Config, Overrides, engine_of, say
from kronos.errors import ConfigError


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
    settings, engine = read_research(config, overrides), engine_of(compute)
    with progress("Backtest") as report:
        done = kronos.backtest(settings, out, signals=signals, device=compute.device, engine=engine, progress=report)
    if as_json:
        emit_json(done.summary)
        return
    show(done.summary)
    names = ("report.html", "summary.json", "daily.parquet")
    console.print(f"Wrote {', '.join(str(out / name) for name in names)} and charts", markup=False, soft_wrap=True)


def show(summary: dict[str, Any]) -> None:
    """The figures as a table, the verdict in words."""
    from rich.table import Table

    span = summary["sessions"]
    table = Table(
        title=f"A year after cost, {span['first']} … {span['last']}, benchmark {summary['benchmark']}",
        title_justify="left",
        box=None,
    )
    for title in ("signal", "return", "excess", "95 %", "IR", "fall", "rank IC", "t"):
        table.add_column(title, justify="left" if title == "signal" else "right", no_wrap=True)
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
