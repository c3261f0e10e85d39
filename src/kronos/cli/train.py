"""``kronos train``: the tokenizer, then the model, each from one run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
    run_stage("tokenizer", config, overrides, resume)


@app.command()
def model(config: Config, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train the model on a trained tokenizer: the second stage."""
    run_stage("model", config, overrides, resume)


def run_stage(stage: str, config: Path, overrides: list[str] | None, resume: bool) -> None:
    """Train one stage: a bar for the steps, a line for each validation, and where the weights are."""
    from kronos.training.config import RunConfig
    from kronos.training.engine import effective_batch, is_main, leave
    from kronos.training.run import train
    from kronos.workflows.verdict import judge_of_run

    run = RunConfig.from_yaml(config, overrides or [])
    steps = run.optim_of(stage).steps
    if is_main():
        note(effective_batch(run, stage))
    with progress(f"Training the {stage}") as report:

        def tell(record: dict[str, Any]) -> None:
            step = int(record["step"])
            if "val_loss" in record:
                crps = f", CRPS {record['val_crps']:.3f} of a random walk's" if "val_crps" in record else ""
                note(f"step {step:,}: validation loss {record['val_loss']:.4f}{crps}")
            else:
                report(step, steps, f"loss {record['loss']:.4f}, {record['bars_per_s']:,.0f} bars/s")

        result = train(stage, run, resume=resume, progress=tell, judge=judge_of_run(run))
    leave()
    if not is_main():
        return
    plural = "s" if result.steps != 1 else ""
    best = f"best validation {'CRPS' if result.chosen_by == 'crps' else 'loss'} {result.best_validation:.4f}"
    output.print(f"Trained {result.steps:,} step{plural}; {best}; in {result.folder}")
