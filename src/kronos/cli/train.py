"""``kronos train``: the tokenizer, then the model, each from one run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kronos.cli.common import progress

app = typer.Typer(help="Train a tokenizer or a model from a run file.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The run file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, for instance training.lr=1e-3. May repeat."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last saved state.")]


@app.command()
def tokenizer(config: Config, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train the tokenizer: the first stage."""
    from kronos.training.run import RunConfig, train_tokenizer

    run = RunConfig.from_yaml(config, overrides=overrides or [])
    with progress("Training the tokenizer") as report:
        train_tokenizer(run, resume=resume, progress=report)


@app.command()
def model(config: Config, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train the model on a trained tokenizer: the second stage."""
    from kronos.training.run import RunConfig, train_model

    run = RunConfig.from_yaml(config, overrides=overrides or [])
    with progress("Training the model") as report:
        train_model(run, resume=resume, progress=report)
