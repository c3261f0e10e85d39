"""``kronos backtest``: signals of a research file through Qlib's TopkDropout, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import console, emit_json, note, output, progress
from kronos.cli.options import AsJson, Compute, with_options
from kronos.cli.qlib import Config, Overrides

if TYPE_CHECKING:
    import pandas as pd

    from kronos.backtest.config import ResearchConfig
    from kronos.backtest.provider import Provider


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
    from kronos.backtest.provider import Provider
    from kronos.backtest.report import write_report
    from kronos.backtest.run import run_backtest
    from kronos.cli.qlib import read_research
    from kronos.evaluation.report import clean

    settings = read_research(config, overrides)
    provider = Provider(settings.provider)
    check(settings, provider)
    panel, notes = load_panel(settings, provider, signals, compute)
    with progress("Trading") as report:
        done = run_backtest(settings, provider, panel, notes=notes, progress=report)
    written = write_report(done, out)
    if as_json:
        emit_json(clean(done.summary))
        return
    show(done.summary)
    console.print(f"Wrote {', '.join(str(path) for path in written[:3])} and charts", markup=False, soft_wrap=True)


def check(settings: ResearchConfig, provider: Provider) -> None:
    """Tell what is wrong with set, dates or benchmark before hours of sampling, not after."""
    from kronos.backtest.simulate import benchmark_returns, tradable_sessions
    from kronos.workflows.signals import scored_sessions

    spans = provider.members(settings.instrument)
    sessions = tradable_sessions(provider, scored_sessions(settings, provider))
    benchmark_returns(provider, settings.backtest.benchmark, spans, sessions)


def load_panel(
    settings: ResearchConfig, provider: Provider, given: Path | None, compute: Compute
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The given panel, or the research file's own, with what has to be said about it."""
    from kronos.backtest.signals import read_panel
    from kronos.errors import ConfigError
    from kronos.workflows.signals import make_panel, overlap_note

    if given is not None:
        if compute.chosen:
            raise ConfigError(
                "The panel of --signals is there already; leave --engine, --address, --workers and --gpus out."
            )
        return read_panel(given), {}
    panel, cutoff = make_panel(settings, provider, compute)
    return panel, overlap_note(panel, cutoff)


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
        output.print(f"{entry['signal']}: {entry['words']}", markup=False, soft_wrap=True)
