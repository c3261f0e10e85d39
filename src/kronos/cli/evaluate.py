"""``kronos evaluate``: judge checkpoints and baselines on bars, and write a report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import kronos
from kronos.cli.common import console, emit_json, note, output, progress
from kronos.cli.options import AsJson, Compute, Defects, with_options


@with_options
def evaluate(
    bars: Annotated[
        list[str],
        typer.Argument(
            metavar="BARS",
            help="Files of bars (each a market, of one or many symbols), folders of such, stores, or samples.",
        ),
    ],
    compute: Compute,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, a folder, a hub id, chronos:ID or statsmodels:NAME; may repeat. Default: baselines alone."
        ),
    ] = None,
    baselines: Annotated[str, typer.Option(help="Names, 'all' or 'none'; rw-resampled is always in.")] = "all",
    tasks: Annotated[
        str, typer.Option(help="Of price, return, volatility, generation, investment.")
    ] = "price,return,volatility",
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the report; an interrupted run goes on.")
    ] = Path("report"),
    windows: Annotated[int, typer.Option(min=1, help="Cutoffs per market, counted back from the end.")] = 20,
    step: Annotated[int | None, typer.Option(min=1, help="Bars between cutoffs. Default: the horizon.")] = None,
    context: Annotated[
        int | None, typer.Option(min=3, help="Bars seen. Default: the paper's for the bar size.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Bars ahead. Default: the paper's.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Sample paths. Default: 50, the paper's 10.")] = None,
    symbols: Annotated[int, typer.Option(min=1, help="At most so many symbols per market, drawn by the seed.")] = 30,
    settings: Annotated[
        Literal["own", "paper"], typer.Option(help="Sampling: each checkpoint's own, or the paper's for each task.")
    ] = "own",
    after: Annotated[
        str | None,
        typer.Option(
            metavar="DATE|training", help="Forecast only bars later than this, or than the training of every model."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same report.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Judge checkpoints on bars against honest baselines.

    Rolling cutoffs, sample paths scored by proper rules, intervals on every figure, and a verdict in words. Writes
    metrics.parquet, summary.json and report.html.
    """
    with progress("Evaluating") as report:
        found = kronos.evaluate(
            bars,
            model or (),
            baselines=baselines,
            tasks=tasks,
            context=context,
            horizon=horizon,
            windows=windows,
            step=step,
            num_samples=samples,
            max_symbols=symbols,
            settings=settings,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            after=after,
            seed=seed,
            on_defect=on_defect,
            device=compute.device,
            workers=compute.workers or os.cpu_count() or 1,
            engine=compute.away(),  # here, there are processes of one thread
            out=out,
            progress=report,
            command="kronos " + " ".join(sys.argv[1:]),
        )
    for line in found.summary["notes"]:
        note(f"Warning: {line}")
    if as_json:
        emit_json(found.summary)
        return
    _show(found.summary)
    written = ", ".join(str(out / name) for name in ("metrics.parquet", "summary.json", "report.html"))
    console.print(f"Wrote {written}", markup=False, soft_wrap=True)


def _show(summary: dict[str, Any]) -> None:
    """The verdicts and the price figures, as a table on stdout."""
    from rich.table import Table

    for market, rows in summary["tasks"].get("price", {}).items():
        table = Table(title=f"{market}: CRPS over that of {summary['yardstick']}", title_justify="left")
        for title in ("forecaster", "ratio", "95 %", "covers 50 %", "80 %", "90 %"):
            table.add_column(title, justify="left" if title == "forecaster" else "right")
        for name, row in rows.items():
            ratio = row["crps_ratio"]
            covered = [row[f"coverage_{level}"]["value"] for level in (50, 80, 90)]
            known = ratio["low"] == ratio["low"]  # NaN where there are too few clusters
            interval = f"{ratio['low']:.3f} – {ratio['high']:.3f}" if known else "too few dates"
            cells = [f"{value:.3f}" if value == value else "–" for value in covered]
            table.add_row(name, f"{ratio['value']:.4f}", interval, *cells)
        output.print(table)
    for line in summary["verdicts"]:
        output.print(f"{line['model']}, {line['task']}, {line['market']}: {line['verdict']}", markup=False)
