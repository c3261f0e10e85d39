"""``kronos finetune``: both stages on your own bars, a chart of the losses, and a verdict from real forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import kronos
from kronos.cli.common import emit_json, note, output, progress
from kronos.cli.options import AsJson, Defects, Device


def finetune(
    bars: Annotated[list[str], typer.Argument(metavar="BARS", help="Files of bars, folders of them, or sample:NAME.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new checkpoint pair.")],
    model: Annotated[str, typer.Option(help="Where to start: a name, a folder or a hub id.")] = "kronos-nano",
    config: Annotated[Path | None, typer.Option("--config", help="Settings that differ (YAML).")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as epochs=10. May repeat."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="daily or intraday; by default as the bars are.")] = None,
    skip_tokenizer: Annotated[
        bool, typer.Option("--skip-tokenizer", "--freeze-tokenizer", help="Keep the tokenizer as it is.")
    ] = False,
    skip_model: Annotated[bool, typer.Option("--skip-model", help="Train the tokenizer only.")] = False,
    lora: Annotated[
        int | None, typer.Option(metavar="RANK", help="Train low-rank adapters of the model, such as 8, not all of it.")
    ] = None,
    on_defect: Defects = "strict",
    unseen_symbols: Annotated[
        bool, typer.Option("--unseen-symbols", help="Keep some symbols out of training, and judge on those.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the windows, and of the paths that are judged.")] = 0,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a checkpoint on your own bars, and say whether it became better.

    The last 15 % of the bars are kept for the verdict: the run never reads them, not even to stop early.
    """
    report = kronos.finetune(
        bars,
        out,
        model=model,
        config=config,
        overrides=overrides or [],
        preset=preset,
        skip_tokenizer=skip_tokenizer,
        skip_model=skip_model,
        lora=lora,
        on_defect=on_defect,
        unseen_symbols=unseen_symbols,
        seed=seed,
        device=device,
        resume=resume,
        note=note,
        progress=progress,
    )
    if as_json and report:
        emit_json(report)
    elif report:
        tell_verdict(report, out)


def tell_verdict(report: dict[str, Any], out: Path) -> None:
    """What became of it: the verdict, which weights are kept, and where things are."""
    for line in report["verdict"]["notes"]:
        note(f"Note: {line}.")
    for part in ("verdict", "chosen"):
        output.print(report[part]["words"], markup=False, soft_wrap=True)
    for path in report["charts"]:
        note(f"Wrote {path}")
    if report["chosen"]["kept"] == "start":
        note(f"The new weights are in {out / 'unproven'}, should you want them all the same.")
    output.print(f"The pair is in {out}; use it with: kronos forecast BARS --model {out}", markup=False, soft_wrap=True)
