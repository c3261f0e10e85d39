"""``kronos train`` and ``kronos finetune``: from a run file, a recipe, or bars of one's own with a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import kronos
from kronos.cli.common import (
    AsJson,
    Defects,
    Device,
    Tokenizer,
    emit_json,
    note,
    output,
    progress,
    stoppable,
    with_options,
)

app = typer.Typer(help="Train a tokenizer or a model from a run file.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The run file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, for instance optim.lr=1e-3. May repeat."),
]
AGAIN = "Go on with the same command and --resume."
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last saved state.")]


@app.command()
def tokenizer(config: Config, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train the tokenizer: the first stage."""
    _stage("tokenizer", config, overrides, resume)


@app.command()
def model(config: Config, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train the model on a trained tokenizer: the second stage."""
    _stage("model", config, overrides, resume)


@app.command()
def recipe(
    config: Config,
    part: Annotated[str | None, typer.Option(help="Train this part alone.")] = None,
    overrides: Overrides = None,
    resume: Resume = False,
) -> None:
    """Train all parts of a recipe, in order, such as configs/kronos-nano.yaml."""
    how: dict[str, Any] = {
        "part": part,
        "overrides": overrides or [],
        "resume": resume,
        "note": note,
        "progress": progress,
    }
    with stoppable(AGAIN):
        out = kronos.train_recipe(config, **how)
    _end(f"Trained all; the pair is in {out}" if part is None else f"Trained; in {out}")


def _stage(stage: str, config: Path, overrides: list[str] | None, resume: bool) -> None:
    with stoppable(AGAIN):
        result = kronos.train(stage, config, overrides=overrides or [], resume=resume, note=note, progress=progress)
    plural = "s" if result.steps != 1 else ""
    best = f"best validation {'CRPS' if result.chosen_by == 'crps' else 'loss'} {result.best_validation:.4f}"
    _end(f"Trained {result.steps:,} step{plural}; {best}; in {result.folder}")


def _end(words: str) -> None:
    """Parts from the other processes; the first one says what came of it."""
    from kronos.training.parallel import is_main, leave_group

    leave_group()
    if is_main():
        output.print(words)


@dataclass(frozen=True)
class FinetuneOptions:
    """What is trained, from where, and how."""

    model: Annotated[
        str | None, typer.Option(help="Where to start: a name, a folder or a hub id. Default: kronos-nano.")
    ] = None
    tokenizer: Tokenizer = None
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings that differ (YAML), or a file of the published fine-tuning code."),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as epochs=10. May repeat."),
    ] = None
    preset: Annotated[str | None, typer.Option(help="daily or intraday; by default as the bars are.")] = None
    skip_tokenizer: Annotated[
        bool, typer.Option("--skip-tokenizer", "--freeze-tokenizer", help="Keep the tokenizer as it is.")
    ] = False
    skip_model: Annotated[bool, typer.Option("--skip-model", "--skip-basemodel", help="Train the tokenizer only.")] = (
        False
    )
    lora: Annotated[
        int | None, typer.Option(metavar="RANK", help="Train low-rank adapters of the model, such as 8, not all of it.")
    ] = None
    on_defect: Defects = "strict"
    unseen_symbols: Annotated[
        bool, typer.Option("--unseen-symbols", help="Keep some symbols out of training, and judge on those.")
    ] = False
    seed: Annotated[int, typer.Option(help="Of the windows, and of the paths that are judged.")] = 0
    device: Device = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave a finished run in --out as it is, go on with one that stopped."),
    ] = False


@with_options
def finetune(
    options: FinetuneOptions,
    bars: Annotated[
        list[str] | None, typer.Argument(metavar="BARS", help="Files of bars, folders of them, or sample:NAME.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the new checkpoint pair.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a checkpoint on your own bars, and say whether it became better.

    The last 15 % of the bars are kept for the verdict: the run never reads them, not even to stop early.
    """
    words = asdict(options) | {"overrides": options.overrides or []}
    how = AGAIN if out is None else f"The run is in {out}; go on with the same command and --resume."
    with stoppable(how):
        report = kronos.finetune(bars or (), out, note=note, progress=progress, **words)
    if as_json and report:
        emit_json(report)
    if as_json or not report:
        return
    out = Path(report["settings"]["out"])
    for line in report["verdict"]["notes"]:
        note(f"Note: {line}.")
    for part in ("verdict", "chosen"):
        output.print(report[part]["words"], markup=False, soft_wrap=True)
    for path in report["charts"]:
        note(f"Wrote {path}")
    told, name = f"The pair is in {out}; use it with", str(out)
    if report["chosen"]["kept"] == "start":
        note(f"The new weights are in {out / 'unproven'}, should you want them all the same.")
        start, tokenizer = report["start"], report["start_tokenizer"]
        told = f"The pair in {out} is {start}, unchanged; go on with"
        name = start if tokenizer is None else f"{start} --tokenizer {tokenizer}"
    output.print(f"{told}: kronos forecast BARS --model {name}", markup=False, soft_wrap=True)
