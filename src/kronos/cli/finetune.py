"""``kronos finetune``: both stages on your own bars, a chart of the losses, and a verdict from real forecasts."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import emit_json, note, output, progress
from kronos.cli.options import AsJson, Defects, Device

if TYPE_CHECKING:
    from kronos.evaluation.windows import Window
    from kronos.protocol import Progress
    from kronos.training.finetune import Layout
    from kronos.training.run import RunResult

REPORT = "finetune.json"


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
    from kronos.errors import ConfigError
    from kronos.training.config import read_settings
    from kronos.training.engine import is_main, leave, main_first, restarted
    from kronos.training.finetune import fine_tune, lay_out
    from kronos.training.published import merge
    from kronos.workflows.verdict import ForecastJudge, choose, draw_windows, judge

    require_judge()
    if skip_tokenizer and skip_model:
        raise ConfigError("--skip-tokenizer and --skip-model together leave nothing to do")
    resume = resume or restarted()
    if is_main():
        refuse_finished(out, resume)
    flags: dict[str, Any] = {"seed": seed, "data": {"on_defect": on_defect}}
    flags |= ({"device": device} if device else {}) | ({"lora": {"rank": lora}} if lora else {})
    given = merge(flags, read_settings(config, overrides))
    with main_first(cpu=given.get("device") == "cpu"):
        layout = lay_out(bars, model, out, preset=preset, unseen_symbols=unseen_symbols, given=given, write=is_main())
    windows, choice = draw_windows(layout), draw_windows(layout, validation=True)
    if not choice:  # too short a period for forecasts: the token loss has to do
        layout = replace(layout, config=layout.config.model_copy(update={"choose_by": "loss"}))
    if is_main() and not as_json:
        tell_layout(layout, windows, choice)
    device = None if layout.config.device == "auto" else layout.config.device
    seed = layout.config.seed
    with ExitStack() as stack:
        results = fine_tune(
            layout,
            tokenizer=not skip_tokenizer,
            model=not skip_model,
            resume=resume,
            progress=_teller(layout, stack),
            judge=ForecastJudge(choice, layout.config.forecasts.samples, seed, device) if choice else None,
        )
    leave()
    if not is_main():
        return
    with progress("Judging by real forecasts") as report:
        verdict = judge(layout, windows, device, seed, report)
    with progress("Choosing by forecasts of the validation period") as report:
        chosen = choose(layout, choice, device, seed, report)
    document = finish(layout, bars, results, chosen, verdict)
    if as_json:
        emit_json(document)
    else:
        tell_verdict(document, out)


def refuse_finished(out: Path, resume: bool) -> None:
    """Leave an earlier run in the folder alone.

    Raises:
        ConfigError: it is finished, or it is not and nobody asked to go on with it.
    """
    from kronos.errors import ConfigError
    from kronos.training.finetune import ASIDE

    if (out / REPORT).exists():
        raise ConfigError(f"{out} holds a finished run (see {out / REPORT}); name another --out")
    if not resume and any((out / name).exists() for name in ("model", "tokenizer", ASIDE)):
        raise ConfigError(f"{out} holds a run already; go on with --resume, or name another --out")


def finish(
    layout: Layout, bars: list[str], results: dict[str, RunResult], chosen: dict[str, Any], verdict: dict[str, Any]
) -> dict[str, Any]:
    """Put the chosen weights in place, draw the losses, write report and model card; returns the report."""
    from kronos.cli.card import model_card
    from kronos.training.chart import save_loss_chart
    from kronos.training.finetune import set_aside, take_over
    from kronos.training.state import replace_text
    from kronos.workflows.verdict import START

    out = layout.config.out
    charts = save_loss_chart(out)
    if chosen["kept"] == START:
        set_aside(out)
        take_over(layout.start, out)
    document = {
        **describe(layout, bars, results),
        "chosen": chosen,
        "verdict": verdict,
        "charts": list(map(str, charts)),
    }
    replace_text(out / "README.md", model_card(document))
    replace_text(out / REPORT, json.dumps(document, indent=2, default=str) + "\n")  # where it is, the run is over
    return document


def tell_verdict(document: dict[str, Any], out: Path) -> None:
    """What became of it: the verdict, which weights are kept, and where things are."""
    from kronos.training.finetune import ASIDE
    from kronos.workflows.verdict import START

    for line in document["verdict"]["notes"]:
        note(f"Note: {line}.")
    output.print(document["verdict"]["words"], markup=False, soft_wrap=True)
    output.print(document["chosen"]["words"], markup=False, soft_wrap=True)
    for path in document["charts"]:
        note(f"Wrote {path}")
    if document["chosen"]["kept"] == START:
        note(f"The new weights are in {out / ASIDE}, should you want them all the same.")
    output.print(f"The pair is in {out}; use it with: kronos forecast BARS --model {out}", markup=False, soft_wrap=True)


def require_judge() -> None:
    """Ask for what the verdict needs before hours of training, not after.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    from importlib.util import find_spec

    from kronos.errors import MissingExtraError

    if find_spec("scipy") is None:
        raise MissingExtraError("scipy", "eval", "The verdict at the end of fine-tuning")


def describe(layout: Layout, bars: list[str], results: dict[str, RunResult]) -> dict[str, Any]:
    """What was done, for ``finetune.json``."""
    from kronos.training.engine import windows_a_step

    return {
        "sources": bars,
        "start": layout.start,
        "preset": layout.preset,
        "context": layout.context,
        "horizon": layout.horizon,
        "training_bars": layout.training_bars,
        "judged_after": {group: str(time) for group, time in layout.judged_after.items()},
        "data_hash": layout.data_hash,
        "windows_a_step": windows_a_step(layout.config, "model"),
        "stages": {
            stage: {"steps": r.steps, "best_validation": r.best_validation, "chosen_by": r.chosen_by}
            for stage, r in results.items()
        },
        "settings": layout.config.model_dump(mode="json"),
    }


def tell_layout(layout: Layout, windows: list[Window], choice: list[Window]) -> None:
    """In a few lines: how much there is to learn from, how long windows are, and what the verdict will rest on."""
    from kronos.training.engine import effective_batch

    data, optim = layout.config.data, layout.config.optim_of("model")
    symbols = sum(map(len, layout.tables.values()))
    note(f"{layout.training_bars:,} bars of {symbols:,} series to train on; {layout.preset} settings.")
    note(
        f"Windows of {data.window} bars, context {data.boundary[0]} to {data.boundary[1]}; {optim.steps:,} steps at "
        f"most; {effective_batch(layout.config, 'model')}"
    )
    by = "its token loss" if layout.config.choose_by == "loss" or not choice else f"{len(choice)} forecasts"
    note(f"Validation picks the best weights by {by} of the period after training.")
    note(f"Judged on {len(windows)} forecasts of {layout.horizon} bars, later than everything the run reads.")


def _teller(layout: Layout, stack: ExitStack) -> Callable[[str, dict[str, Any]], None]:
    """A bar for each stage, and a line for each validation."""
    bars: dict[str, Progress] = {}

    def tell(stage: str, record: dict[str, Any]) -> None:
        if stage not in bars:
            stack.pop_all().close()  # the bar of the stage before
            bars[stage] = stack.enter_context(progress(f"Training the {stage}"))
        step = int(record["step"])
        if "val_loss" in record:
            crps = f", CRPS {record['val_crps']:.3f} of a random walk's" if "val_crps" in record else ""
            note(f"{stage}, step {step:,}: validation loss {record['val_loss']:.4f}{crps}")
        else:
            bars[stage](step, layout.config.optim_of(stage).steps, f"loss {record['loss']:.4f}")

    return tell
