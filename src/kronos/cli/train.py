"""``kronos train``: the tokenizer, the model, or a whole recipe, each from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kronos
from kronos.cli.common import note, output, progress

app = typer.Typer(help="Train a tokenizer or a model from a run file.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The run file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, for instance optim.lr=1e-3. May repeat."),
]
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
    out = kronos.train_recipe(config, part=part, overrides=overrides or [], resume=resume, note=note, progress=progress)
    _end(f"Trained all; the pair is in {out}" if part is None else f"Trained; in {out}")


def _stage(stage: str, config: Path, overrides: list[str] | None, resume: bool) -> None:
    result = kronos.train(stage, config, overrides=overrides or [], resume=resume, note=note, progress=progress)
    plural = "s" if result.steps != 1 else ""
    best = f"best validation {'CRPS' if result.chosen_by == 'crps' else 'loss'} {result.best_validation:.4f}"
    _end(f"Trained {result.steps:,} step{plural}; {best}; in {result.folder}")


def _end(words: str) -> None:
    """Parts from the other processes; the first one says what came of it."""
    from kronos.training.parallel import is_main, leave

    leave()
    if is_main():
        output.print(words)
