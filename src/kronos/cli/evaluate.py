"""``kronos evaluate``: judge checkpoints and baselines on bars, and write a report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kronos.cli.common import console, emit_json, note, output, progress
from kronos.cli.options import AsJson, Compute, Defects, with_options

if TYPE_CHECKING:
    import numpy as np

    from kronos.protocol import Forecaster

UNSEEN = "training"  # instead of a date: the end of the models' training


def make_forecasters(
    models: list[str],
    baselines: str,
    settings: str,
    sampling: dict[str, Any],
    device: str | None,
    away: str | None = None,
) -> Callable[[str], Sequence[Forecaster]]:
    """The forecasters of each task; with the paper's settings, models sample differently from task to task.

    Args:
        device, away: what models compute on here, and on the workers of an engine.
    """
    from kronos.errors import ConfigError
    from kronos.evaluation.baselines import make_baselines
    from kronos.evaluation.run import YARDSTICK
    from kronos.evaluation.tasks import TASKS
    from kronos.workflows.forecasters import Configured, load_any

    names = [name.strip() for name in baselines.split(",") if name.strip()]
    wanted = "all" if "all" in names else list(dict.fromkeys([*(n for n in names if n != "none"), YARDSTICK]))
    common = make_baselines(wanted)
    if settings == "own":
        loaded = [load_any(model, device, away, **sampling) for model in models]
        return lambda task: [*loaded, *common]
    if any(value is not None for value in sampling.values()):
        raise ConfigError("--temperature, --top-k and --top-p belong to --settings own; the paper fixes them")
    loaded = [load_any(model, device, away) for model in models]

    def of_task(task: str) -> Sequence[Forecaster]:
        temperature, top_p = TASKS[task].temperature, TASKS[task].top_p
        ours = [one.asked(temperature, 0, top_p) if isinstance(one, Configured) else one for one in loaded]
        return [*ours, *common]

    return of_task


def ends_of_training(forecasters: Sequence[Forecaster], markets: list[str]) -> dict[str, np.datetime64]:
    """For each market the date after which every model's training had ended.

    Raises:
        ConfigError: no model states one.
    """
    from kronos.errors import ConfigError
    from kronos.evaluation.rolling import training_end

    found = {}
    for market in markets:
        ends = [end for one in forecasters if (end := training_end(one, market)) is not None]
        if not ends:
            raise ConfigError(f"--after {UNSEEN}: no model states until when it was trained; give a date instead")
        found[market] = max(ends)
    return found


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
    import os
    from dataclasses import replace

    from kronos.cli.investment import trader
    from kronos.evaluation.report import clean, write_report
    from kronos.evaluation.run import Plan
    from kronos.evaluation.run import evaluate as run
    from kronos.evaluation.tasks import check_tasks
    from kronos.workflows.markets import find_bars, load_markets, read_date

    chosen = check_tasks([task.strip() for task in tasks.split(",") if task.strip()])
    trade = trader() if "investment" in chosen else None
    models = list(dict.fromkeys(model or []))
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    plan = Plan(
        tasks=tuple(chosen),
        context=context,
        horizon=horizon,
        n_windows=windows,
        step=step,
        max_symbols=symbols,
        num_samples=samples or (10 if settings == "paper" else 50),
        seed=seed,
        after=None if after == UNSEEN else read_date(after),
        workers=compute.workers or os.cpu_count() or 1,
    )
    elsewhere = compute.away()  # here, there are processes of one thread
    sources = find_bars(bars)
    there = None if elsewhere is None else compute.device or elsewhere.device()
    forecasters = make_forecasters(models, baselines, settings, sampling, compute.device, there)
    if after == UNSEEN:
        plan = replace(plan, after=ends_of_training(forecasters(chosen[0]), list(sources)))
    markets, hashes = load_markets(sources, on_defect)
    with progress("Evaluating") as report:
        result = run(
            markets,
            forecasters,
            plan,
            folder=out / ".parts",
            data_hashes=hashes,
            engine=elsewhere,
            progress=report,
            trade=trade,
        )
    result.summary["command"] = "kronos " + " ".join(sys.argv[1:])
    written = write_report(result, out)
    for line in result.summary["notes"]:
        note(f"Warning: {line}")
    if as_json:
        emit_json(clean(result.summary))
        return
    _show(result.summary)
    console.print(f"Wrote {', '.join(str(path) for path in written)}", markup=False, soft_wrap=True)


def _show(summary: dict[str, Any]) -> None:
    """The verdicts and the price figures, as a table on stdout."""
    from rich.table import Table

    for task, markets in summary["tasks"].items():
        if task != "price":
            continue
        for market, rows in markets.items():
            table = Table(title=f"{market}: CRPS over that of {summary['yardstick']}", title_justify="left")
            for title in ("forecaster", "ratio", "95 %", "covers 50 %", "80 %", "90 %"):
                table.add_column(title, justify="left" if title == "forecaster" else "right")
            for name, row in rows.items():
                ratio = row["crps_ratio"]
                cover = [_figure(row[f"coverage_{level}"]["value"]) for level in (50, 80, 90)]
                known = ratio["low"] == ratio["low"]  # NaN where there are too few clusters
                interval = f"{ratio['low']:.3f} – {ratio['high']:.3f}" if known else "too few dates"
                table.add_row(name, f"{ratio['value']:.4f}", interval, *cover)
            output.print(table)
    for line in summary["verdicts"]:
        output.print(f"{line['model']}, {line['task']}, {line['market']}: {line['verdict']}", markup=False)


def _figure(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"
