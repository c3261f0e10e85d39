"""``kronos evaluate`` and ``kronos calibrate``: judge checkpoints on bars, and mend the width of their intervals."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

import kronos
from kronos.cli.common import (
    AsJson,
    Compute,
    Defects,
    Device,
    Tokenizer,
    console,
    emit_json,
    note,
    output,
    print_table,
    progress,
    stoppable,
    with_options,
)


@dataclass(frozen=True)
class EvaluationOptions:
    """Which windows are forecast, and how."""

    windows: Annotated[
        int | None,
        typer.Option(min=1, help="Cutoffs per market, back from the end. Default: for about 1,500 forecasts in all."),
    ] = None
    step: Annotated[int | None, typer.Option(min=1, help="Bars between cutoffs. Default: the horizon.")] = None
    context: Annotated[int | None, typer.Option(min=3, help="Bars seen. Default: as many as a forecast reads.")] = None
    horizon: Annotated[
        str | None,
        typer.Option(metavar="BARS", help="Bars ahead, or several to judge, such as 1,6,24. Default: the paper's."),
    ] = None
    num_samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Sample paths. Default: 50, the paper's 10.")
    ] = None
    max_symbols: Annotated[
        int, typer.Option("--symbols", min=1, help="At most this many symbols per market, drawn by the seed.")
    ] = 30
    symbol: Annotated[str | None, typer.Option(help="Judge this series alone, of the files that have it.")] = None
    settings: Annotated[
        Literal["own", "paper"], typer.Option(help="Sampling: each checkpoint's own, or the paper's for each task.")
    ] = "own"
    after: Annotated[
        str | None,
        typer.Option(
            metavar="DATE|training", help="Forecast only bars later than this, or than the training of every model."
        ),
    ] = None
    market: Annotated[
        str | None,
        typer.Option(help="What all bars are of, such as us_equity, where --after training cannot tell from them."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same report.")] = 0
    temperature: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None
    top_k: Annotated[int | None, typer.Option(help="Overrides the checkpoint's own.")] = None
    top_p: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None
    direction: Annotated[
        Literal["model", "none"] | None, typer.Option(help="Overrides the checkpoint's own; none mirrors the paths.")
    ] = None
    har_weight: Annotated[
        float | None, typer.Option(help="Overrides the checkpoint's own: share of HAR in the volatility of the paths.")
    ] = None
    baselines: Annotated[str, typer.Option(help="Names, 'all' or 'none'; rw-resampled is always in.")] = "all"
    tasks: Annotated[str, typer.Option(help="Of price, return, volatility, touch, generation, investment.")] = (
        "price,return,volatility,touch"
    )
    on_defect: Defects = "strict"
    tokenizer: Tokenizer = None


@with_options
def evaluate(
    bars: Annotated[
        list[str],
        typer.Argument(
            metavar="BARS",
            help="Files of bars (each a market, of one or many symbols), folders of such, stores, or samples.",
        ),
    ],
    options: EvaluationOptions,
    compute: Compute,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, a folder or a hub id, with +har behind it half by HAR in volatility; chronos:ID or "
            "statsmodels:NAME; may repeat. Default: baselines alone."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the report; an interrupted run goes on.")
    ] = Path("report"),
    as_json: AsJson = False,
) -> None:
    """Judge checkpoints on bars against honest baselines.

    Rolling cutoffs, sample paths scored by proper rules, intervals on every figure, and a verdict in words. Writes
    metrics.parquet, summary.json and report.html.
    """
    words: dict[str, Any] = {**asdict(options), "out": out, "command": "kronos " + " ".join(sys.argv[1:])}
    words["device"] = compute.device
    words["engine"] = compute.remote_engine()  # None: here, in processes of one thread
    words["workers"] = compute.workers or os.cpu_count() or 1
    how = f"What is scored lies in {out / '.parts'}; the same command goes on from there."
    with stoppable(how), progress("Evaluating") as report:
        found = kronos.evaluate(bars, model or (), progress=report, note=note, **words)
    for line in found.summary["notes"]:
        note(f"Warning: {line}")
    for market, facts in found.summary["markets"].items():
        if left := sum(facts["refused"].values()):
            reasons = ", ".join(f"{reason} ({n:,})" for reason, n in facts["refused"].items() if n)
            note(f"{market}: {left:,} of {left + facts['windows']:,} windows left out: {reasons}.")
    if as_json:
        emit_json(found.summary)
        return
    _show_scores(found.summary)
    written = ", ".join(str(out / name) for name in ("metrics.parquet", "summary.json", "report.html"))
    console.print(f"Wrote {written}", markup=False, soft_wrap=True)


def _show_scores(summary: dict[str, Any]) -> None:
    """The answers in plain sentences, then the price figures as tables and every verdict, on stdout."""
    from kronos.evaluation.baselines import MEANINGS

    for line in summary["headlines"]:
        output.print(line, markup=False, soft_wrap=True)
    for market, rows in summary["tasks"].get("price", {}).items():
        table = Table(title=f"{market}: CRPS over that of {summary['yardstick']}", title_justify="left")
        for title in ("forecaster", "ratio", "95 %", "covers 50 %", "80 %", "90 %"):
            table.add_column(title, justify="left" if title == "forecaster" else "right")
        for name, row in rows.items():
            ratio = row["crps_ratio"]
            covered = [row[f"coverage_{level}"]["value"] for level in (50, 80, 90)]
            cells = [f"{value:.3f}" if value == value else "–" for value in covered]
            table.add_row(name, f"{ratio['value']:.4f}", _interval(ratio), *cells)
        print_table(table)
    for market, rows in summary["by_horizon"].items():
        _show_horizons(market, rows, summary["yardstick"])
    output.print(f"{summary['yardstick']}: {MEANINGS[summary['yardstick']]}", markup=False, soft_wrap=True)
    for line in summary["verdicts"]:
        output.print(f"{line['model']}, {line['task']}, {line['market']}: {line['verdict']}", markup=False)


def _show_horizons(market: str, rows: dict[str, Any], yardstick: str) -> None:
    """The close at single bars ahead: CRPS over the yardstick's, and what the 90 % interval covers."""
    table = Table(title=f"{market}: the close so many bars ahead", title_justify="left")
    for title in ("forecaster", "bars ahead", f"CRPS / {yardstick}", "95 %", "covers 90 %"):
        table.add_column(title, justify="left" if title == "forecaster" else "right")
    for name, by_step in rows.items():
        for step, row in by_step.items() if name != yardstick else ():
            ratio, covered = row["crps_ratio"], row["coverage_90"]["value"]
            share = f"{covered:.3f}" if covered == covered else "–"
            table.add_row(name, step, f"{ratio['value']:.4f}", _interval(ratio), share)
    print_table(table)


def _interval(figure: dict[str, float]) -> str:
    """The ends of a figure's interval; NaN where there are too few clusters."""
    known = figure["low"] == figure["low"]
    return f"{figure['low']:.3f} – {figure['high']:.3f}" if known else "too few dates"


@dataclass(frozen=True)
class CalibrationOptions:
    """What is fitted, and on which windows."""

    horizon: Annotated[int, typer.Option(min=1, help="Bars ahead: the longest that shall be right.")] = 24
    context: Annotated[int, typer.Option(min=3, help="Bars seen.")] = 256
    windows: Annotated[int, typer.Option(min=40, help="The earlier half fits, the later half judges.")] = 400
    temperatures: Annotated[str, typer.Option(help="To choose from, by CRPS.")] = "0.8,0.9,1,1.1,1.25"
    num_samples: Annotated[int, typer.Option("--samples", min=19, help="Sample paths; 19 carry a 90 % interval.")] = 60
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only forecast bars later than this: the end of the training.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the windows and of the paths.")] = 0
    device: Device = None
    on_defect: Defects = "strict"
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Write a copy without a gain too, into OUT/unproven.")
    ] = False


@with_options
def calibrate(
    bars: Annotated[
        list[str], typer.Argument(metavar="BARS", help="Files of bars, folders or stores of them, or samples.")
    ],
    model: Annotated[str, typer.Option(help="The checkpoint: a name, a folder or a hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the calibrated copy of the checkpoint.")],
    options: CalibrationOptions,
    tokenizer: Tokenizer = None,
    as_json: AsJson = False,
) -> None:
    """Fit a temperature and a width by horizon on past windows, and judge them on later ones.

    The later windows also decide whether forecasts give the model's directions, or none where those are not better.
    Where the later windows show a gain, writes a copy of the checkpoint whose forecasts use them from then on. What the
    checkpoint had of this kind is replaced, not added to.
    """
    how = "Nothing was written; the same command starts anew, and fewer --windows take less time."
    with stoppable(how), progress("Calibrating") as report:
        found = kronos.calibrate(bars, model, out, tokenizer=tokenizer, progress=report, **asdict(options))
    summary = found.summary
    if as_json:
        emit_json(summary)
        return
    for line in summary["notes"]:
        note(f"Warning: {line}.")
    fitted = summary["calibration"]
    curve = zip(fitted["width"]["horizon"], fitted["width"]["factor"], strict=True)
    width = ", ".join(f"{horizon}: {factor:g}" for horizon, factor in curve)
    output.print(f"Temperature {fitted['temperature']:g}; width by bars ahead {width}.", markup=False)
    table = Table(title=f"Coverage of {summary['judged_on']['windows']} later windows", title_justify="left")
    for title in ("interval", "before", "95 %", "after", "95 %"):
        table.add_column(title, justify="right")
    for level in summary["coverage"]["before"]:
        sides = [summary["coverage"][when][level] for when in ("before", "after")]
        cells = [text for one in sides for text in (f"{one['value']:.3f}", _interval(one))]
        table.add_row(level, *cells)
    print_table(table)
    output.print(summary["words"], markup=False, soft_wrap=True)
    output.print(summary["direction"]["words"], markup=False, soft_wrap=True)
    if summary["written"] is None:
        note(
            f"No checkpoint was written (--keep-rejected does): go on with {model}. Figures: {out / 'calibration.json'}"
        )
    else:
        note(f"Wrote {summary['written']}; use it with: kronos forecast BARS --model {summary['written']}")
