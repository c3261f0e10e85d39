"""``kronos calibrate``: make a checkpoint's intervals cover what they say, and show whether they do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import kronos
from kronos.cli.common import emit_json, note, output, progress
from kronos.cli.options import AsJson, Defects, Device

if TYPE_CHECKING:
    from kronos.workflows.calibrate import Calibration


def calibrate(
    bars: Annotated[
        list[str], typer.Argument(metavar="BARS", help="Files of bars, folders or stores of them, or samples.")
    ],
    model: Annotated[str, typer.Option(help="The checkpoint: a name, a folder or a hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the calibrated copy of the checkpoint.")],
    horizon: Annotated[int, typer.Option(min=1, help="Bars ahead: the longest that shall be right.")] = 24,
    context: Annotated[int, typer.Option(min=3, help="Bars seen.")] = 256,
    windows: Annotated[int, typer.Option(min=40, help="The earlier half fits, the later half judges.")] = 400,
    temperatures: Annotated[str, typer.Option(help="To choose from, by CRPS.")] = "0.8,0.9,1,1.1,1.25",
    samples: Annotated[int, typer.Option(min=19, help="Sample paths; 19 carry a 90 % interval.")] = 60,
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only forecast bars later than this: the end of the training.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the windows and of the paths.")] = 0,
    device: Device = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Fit a temperature and a width by horizon on past windows, and judge them on later ones.

    Writes a copy of the checkpoint whose forecasts use them from then on. What the checkpoint had of this kind is
    replaced, not added to.
    """
    with progress("Calibrating") as report:
        found = kronos.calibrate(
            bars,
            model,
            out,
            horizon=horizon,
            context=context,
            windows=windows,
            temperatures=temperatures,
            num_samples=samples,
            after=after,
            seed=seed,
            device=device,
            on_defect=on_defect,
            progress=report,
        )
    if as_json:
        emit_json(found.summary)
    else:
        _show(found)


def _show(found: Calibration) -> None:
    """The coverage before and after, and the verdict."""
    from rich.table import Table

    for line in found.summary["notes"]:
        note(f"Warning: {line}.")
    fitted = found.summary["calibration"]
    curve = zip(fitted["width"]["horizon"], fitted["width"]["factor"], strict=True)
    width = ", ".join(f"{horizon}: {factor:g}" for horizon, factor in curve)
    output.print(f"Temperature {fitted['temperature']:g}; width by bars ahead {width}.", markup=False)
    table = Table(title=f"Coverage of {found.summary['judged_on']['windows']} later windows", title_justify="left")
    for title in ("interval", "before", "95 %", "after", "95 %"):
        table.add_column(title, justify="right")
    for level, before in found.judgement.before.items():
        sides = (before, found.judgement.after[level])
        cells = [text for side in sides for text in (f"{side.value:.3f}", f"{side.low:.3f} – {side.high:.3f}")]
        table.add_row(f"{level:.0%}", *cells)
    output.print(table)
    output.print(found.words, markup=False, soft_wrap=True)
