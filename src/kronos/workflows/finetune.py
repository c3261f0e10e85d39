"""Training from end to end: a stage, a recipe of several runs, and fine-tuning with a verdict.

Each may be watched: ``note`` is told a line now and then, ``progress`` opens a bar for what comes next, a context
manager that yields a :class:`~kronos.protocol.Progress`. Started by torchrun, the first process alone reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, MissingExtraError
from kronos.files import write_json, write_text
from kronos.model.layout import CARD_FILE
from kronos.protocol import Progress
from kronos.training.config import STAGE_NAMES, RunConfig, merge, override, read_recipe, read_settings
from kronos.training.finetune import (
    UNPROVEN,
    FinetunePlan,
    fresh_start,
    plan_finetune,
    put_back,
    set_aside,
    state_end,
    take_over,
)
from kronos.training.log import save_loss_chart
from kronos.training.parallel import effective_batch, is_main, leave_group, main_first, restarted, windows_a_step
from kronos.training.published import (
    fresh_stages,
    is_published_file,
    notes,
    skipped_stages,
    skips_existing,
    translate,
)
from kronos.training.run import Judge, RunResult
from kronos.training.run import train as run_stage
from kronos.training.state import PREVIOUS_FILE
from kronos.workflows import verdict

REPORT = "finetune.json"

Note = Callable[[str], None]
Bar = Callable[[str], AbstractContextManager[Progress]]


def _no_note(text: str) -> None:
    pass


def _no_bar(what: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total, detail="": None)


def train(
    stage: str,
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    note: Note = _no_note,
    progress: Bar = _no_bar,
) -> RunResult:
    """Trains one stage; real forecasts judge the candidates where ``forecasts`` asks for them.

    Args:
        stage: "tokenizer" or "model".
        config: a run file (YAML), or its settings; see docs/training.md.
        overrides: ``section.name=value``, as after ``--set``; not for a ``RunConfig``.
        resume: go on from the run's last saved state.
        note, progress: who watches, see above.

    Raises:
        ConfigError: no such stage, or a setting does not hold.
        DataError, CapacityError, CheckpointError, MissingExtraError: as :func:`kronos.training.run.train`.
    """
    if stage not in STAGE_NAMES:
        raise ConfigError(f"there is no stage '{stage}'; choose of {', '.join(STAGE_NAMES)}")
    settings = {} if isinstance(config, RunConfig) else _settings(config, overrides)
    run = config if isinstance(config, RunConfig) else RunConfig.from_dict(settings)
    resume = resume or skips_existing(settings)
    if stage in fresh_stages(settings):
        raise ConfigError(f"pre_trained is false: name the shape of a new {stage}, such as {stage}: {{preset: …}}")
    if stage in run.passes:
        raise ConfigError("epochs over all windows are counted by kronos finetune; for kronos train set optim.steps")
    if is_main():
        note(effective_batch(run, stage))
    return _train(stage, run, resume, verdict.ForecastJudge(run) if run.forecasts.windows else None, note, progress)


def train_recipe(
    path: str | Path,
    *,
    part: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    note: Note = _no_note,
    progress: Bar = _no_bar,
) -> Path:
    """Trains the parts of a recipe one after the other, and ends with the pair of the last ones in its folder.

    Args:
        path: the recipe (YAML), such as ``configs/kronos-nano.yaml``.
        part: train this one alone; those that it goes on from are there already.
        overrides, resume, note, progress: as for :func:`train`.

    Returns:
        The folder of the pair: the recipe's, or that of the part.

    Raises:
        ConfigError: the recipe cannot be read, or has no such part. Others as :func:`train`.
    """
    parts = read_recipe(path, list(overrides))
    chosen = [one for one in parts if part in (None, one.name)]
    if not chosen:
        raise ConfigError(f"{path} has no part '{part}'; choose of {', '.join(one.name for one in parts)}")
    newest: dict[str, Path] = {}
    for one in chosen:
        for stage in one.stages:
            if is_main():
                note(f"Part {one.name}, {stage}:")
            newest[stage] = train(stage, one.config, resume=resume, note=note, progress=progress).folder
    if part is not None:
        return chosen[0].config.out
    out = chosen[0].config.out.parent
    for stage, folder in newest.items():
        _by_main(take_over, str(folder), out, [stage])
    return out


def finetune(
    bars: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
    config: Mapping[str, Any] | str | Path | None = None,
    overrides: Sequence[str] = (),
    preset: str | None = None,
    skip_tokenizer: bool = False,
    skip_model: bool = False,
    lora: int | None = None,
    on_defect: OnDefect = "strict",
    unseen_symbols: bool = False,
    seed: int = 0,
    device: str | None = None,
    resume: bool = False,
    skip_existing: bool = False,
    note: Note = _no_note,
    progress: Bar = _no_bar,
) -> dict[str, Any]:
    """Fine-tunes a checkpoint on bars, and says whether it became better.

    The last 15 % of the bars are kept for the verdict: the run never reads them, not even to stop early. ``out`` ends
    with the pair ``tokenizer/`` and ``model/``, new or, where the new weights are not shown to be better, the start's.

    Args:
        bars: files of bars, folders of them, ``sample:NAME``. A file of the published code names them, ``out``, model
            and tokenizer itself; what is named here goes before.
        model, tokenizer: where to start: names, folders or hub ids; None: kronos-nano, and what belongs to the model.
        config, overrides: settings that differ (docs/training.md), as for :func:`train`; also ``epochs``. A file of the
            published code, the YAML of ``finetune_csv`` or ``finetune/config.py``, is read as it is.
        skip_tokenizer, skip_model: leave that stage as it is. lora: rank of adapters to train in place of all weights.
        on_defect: "strict" refuses files with defective rows, "drop" and "mend" are those of ``read_bars``.
        preset, unseen_symbols: "daily" or "intraday", None: as the bars are; judge on symbols kept out of training.
        seed, device: of the windows and of the paths that are judged; where to compute, None: a GPU if there is one.
        resume, skip_existing: go on with the run in ``out``; and where it is finished, leave it as it is.

    Returns:
        The report, as in ``finetune.json``: ``verdict``, ``chosen``, ``stages`` …; empty but in the first process.

    Raises:
        ConfigError, DataError, CheckpointError: a setting, the bars or the start will not do, or ``out`` is taken.
        CapacityError, MissingExtraError: the disk is full; accelerate or scipy is not installed.
    """
    settings = _settings(config, overrides)
    skip_existing = skip_existing or skips_existing(settings)
    resume = resume or skip_existing or restarted()
    skipped = [stage for stage, skip in zip(STAGE_NAMES, (skip_tokenizer, skip_model), strict=True) if skip]
    skipped = [stage for stage in STAGE_NAMES if stage in (*skipped, *skipped_stages(settings))]
    flags: dict[str, Any] = {"seed": seed, "data": {"on_defect": on_defect}}
    flags |= ({"device": device} if device else {}) | ({"lora": {"rank": lora}} if lora else {})
    given, named = _settle(settings, flags, {"bars": bars, "out": out, "model": model, "tokenizer": tokenizer}, note)
    if skip_existing and (named["out"] / REPORT).is_file():
        return _as_it_is(named["out"], note)
    sources = named.pop("bars")
    _check(named["out"], skipped, resume)
    how: dict[str, Any] = {"preset": preset, "unseen_symbols": unseen_symbols, "given": given}
    plan = _plan(sources, named, fresh_stages(settings), how, note)
    return _carry_out(plan, sources, skipped, resume, note, progress)


def _plan(
    sources: list[str], named: dict[str, Any], fresh: Sequence[str], how: dict[str, Any], note: Note
) -> FinetunePlan:
    """Reads the bars and sets the run up; its start is made first where stages begin with random weights."""
    with main_first(cpu=how["given"].get("device") == "cpu"):
        if fresh:
            named = named | _random_start(fresh, named, how["given"]["seed"], note)
        return plan_finetune(sources, write=is_main(), **how, **named)


def _settle(
    settings: dict[str, Any], flags: dict[str, Any], named: dict[str, Any], note: Note
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings with our names; and bars, out, start and tokenizer, as named or else as a published file has them."""
    given = merge(flags, translate(settings))
    if is_published_file(settings):
        named = named | _take_places(given, named)
        given |= {"device": flags["device"]} if "device" in flags else {}
        for line in notes(settings) if is_main() else ():
            note(f"Of the published file: {line}.")
    if not named["bars"] or named["out"] is None:
        raise ConfigError("name the bars and --out, the folder for the new pair; or a published file that names both")
    start, bars = named.pop("model") or "kronos-nano", named["bars"]
    sources = [str(place) for place in ([bars] if isinstance(bars, str | Path) else bars)]
    return given, {**named, "bars": sources, "start": start, "out": Path(named["out"])}


def _random_start(stages: Sequence[str], named: dict[str, Any], seed: int, note: Note) -> dict[str, Any]:
    """Where a run starts whose stages begin with random weights, in the shape of the start that was named."""
    start = named["out"] / "start"
    if is_main():
        note(
            f"Random weights to begin with: {', '.join(stages)}, in the shape of {named['start']}; they are in {start}."
        )
        fresh_start(named["start"], named["tokenizer"], named["out"], stages, seed)
    return {"start": str(start), "tokenizer": None}


def _as_it_is(out: Path, note: Note) -> dict[str, Any]:
    """The report of a finished run that is not trained again."""
    if not is_main():
        return {}
    note(f"{out} holds a finished run, which is left as it is.")
    report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
    return report


def _take_places(given: dict[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Takes what a published file names out of its settings: all that the call does not name itself."""
    data = given.get("data", {})
    found = {"bars": data.pop("bars", ()), **{name: given.pop(name, None) for name in ("out", "model", "tokenizer")}}
    return {name: value for name, value in found.items() if value and not named[name]}


def _check(out: Path, skipped: Sequence[str], resume: bool) -> None:
    """What can be refused before hours of training; an earlier run in the folder is left alone."""
    if find_spec("scipy") is None:
        raise MissingExtraError("scipy", "eval", "The verdict at the end of fine-tuning")
    if len(skipped) == len(STAGE_NAMES):
        raise ConfigError("--skip-tokenizer and --skip-model together leave nothing to do")
    theirs = [out / half / "best_model" for half in ("tokenizer", "basemodel")]
    if is_main() and any(folder.exists() for folder in theirs):
        raise ConfigError(
            f"{out} holds what the published trainer has written; name another --out, and go on from it: --model {out}"
        )
    if is_main() and (out / REPORT).exists():
        raise ConfigError(f"{out} holds a finished run (see {out / REPORT}); name another --out")
    if is_main() and not resume and any((out / name).exists() for name in (*STAGE_NAMES, UNPROVEN)):
        raise ConfigError(f"{out} holds a run already; go on with --resume, or name another --out")


def _settings(config: Mapping[str, Any] | str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return override(dict(config), list(overrides))
    return read_settings(config, list(overrides))


def _carry_out(
    plan: FinetunePlan, sources: list[str], skipped: Sequence[str], resume: bool, note: Note, progress: Bar
) -> dict[str, Any]:
    """Tells the plan, trains, judges and chooses; returns the report."""
    windows, choice = verdict.draw_windows(plan), verdict.draw_windows(plan, validation=True)
    if not choice:  # too short a period for forecasts: the token loss has to do
        plan = replace(plan, config=plan.config.model_copy(update={"choose_by": "loss"}))
    if is_main():
        data = plan.config.data
        symbols = sum(map(len, plan.tables.values()))
        note(f"{plan.training_bars:,} bars of {symbols:,} series to train on; {plan.preset} settings.")
        note(f"Windows of {data.window} bars, context {data.boundary[0]} to {data.boundary[1]}.")
        for stage in STAGE_NAMES:
            if stage not in skipped:
                note(f"The {stage}: {effective_batch(plan.config, stage)}")
        by = "its token loss" if plan.config.choose_by == "loss" else f"{len(choice)} forecasts"
        note(f"Validation picks the best weights by {by} of the period after training.")
        if windows:
            note(f"Judged on {len(windows)} forecasts of {plan.horizon} bars, later than everything the run reads.")
        else:
            note("NOT judged: no share of the bars is kept for a verdict (test_ratio 0, data.judged_share 0).")
    judge = verdict.ForecastJudge(plan.config, choice) if choice else None
    results = _stages(plan, skipped, resume, judge, note, progress)
    leave_group()
    if not is_main():
        return {}
    with progress("Judging by real forecasts") as report:
        judged = verdict.judge(plan, windows, report)
    with progress("Choosing by forecasts of the validation period") as report:
        chosen = verdict.choose(plan, choice, report)
    return _finish(plan, sources, results, chosen, judged)


def _stages(
    plan: FinetunePlan, skipped: Sequence[str], resume: bool, judge: Judge | None, note: Note, progress: Bar
) -> dict[str, RunResult]:
    """Both stages but those that are skipped, which are the start's; the pair lies in the run's folder then."""
    config, results = plan.config, {}
    _by_main(write_text, config.out / CARD_FILE, verdict.unfinished_card(config.out, plan.start))
    if resume:
        _by_main(put_back, config.out)
    for stage in STAGE_NAMES:
        if stage in skipped:
            _by_main(take_over, plan.start, config.out, [stage], plan.tokenizer)
            continue
        if stage == "model":
            config = config.model_copy(update={"tokenizer": str(config.out / "tokenizer")})
        results[stage] = _train(stage, config, resume, judge, note, progress)
    _by_main(state_end, plan)
    if is_main():
        for stage in results:
            (config.out / stage / PREVIOUS_FILE).unlink(missing_ok=True)
    return results


def _train(stage: str, run: RunConfig, resume: bool, judge: Judge | None, note: Note, progress: Bar) -> RunResult:
    """One stage, with a bar for its steps and a line for each validation."""
    with progress(f"Training the {stage}") as report:

        def tell(record: dict[str, Any]) -> None:
            step = int(record["step"])
            if "resumed_from" in record:
                note(f"{stage}: goes on from step {step:,} of {run.optim_of(stage).steps:,}, the last that was saved")
            elif "val_loss" in record:
                crps = f", CRPS {record['val_crps']:.3f} of a random walk's" if "val_crps" in record else ""
                note(f"{stage}, step {step:,}: validation loss {record['val_loss']:.4f}{crps}")
            else:
                detail = f"loss {record['loss']:.4f}, {record['bars_per_s']:,.0f} bars/s"
                report(step, run.optim_of(stage).steps, detail)

        return run_stage(stage, run, resume=resume, progress=tell, judge=judge)


def _by_main(work: Callable[..., object], *arguments: Any) -> None:
    """Has the first process do something while the others wait."""
    with main_first():
        if is_main():
            work(*arguments)


def _finish(
    plan: FinetunePlan, sources: list[str], results: dict[str, RunResult], chosen: dict[str, Any], judged: Any
) -> dict[str, Any]:
    """Puts the chosen weights in place, draws the losses, writes report and model card; returns the report."""
    out = plan.config.out
    charts = save_loss_chart(out)
    if chosen["kept"] == verdict.START:
        set_aside(out)
        take_over(plan.start, out, tokenizer=plan.tokenizer)
    report = {
        "sources": sources,
        **{name: getattr(plan, name) for name in ("start", "preset", "context", "horizon", "training_bars")},
        "judged_after": {group: str(time) for group, time in plan.judged_after.items()},
        "data_hash": plan.data_hash,
        "start_tokenizer": plan.tokenizer,
        "windows_a_step": windows_a_step(plan.config, "model"),
        "stages": {
            stage: {"steps": r.steps, "best_validation": r.best_validation, "chosen_by": r.chosen_by}
            for stage, r in results.items()
        },
        "settings": plan.config.model_dump(mode="json"),
        "chosen": chosen,
        "verdict": judged,
        "charts": [str(path) for path in charts],
    }
    if chosen["kept"] == verdict.START:
        write_text(out / UNPROVEN / CARD_FILE, verdict.model_card(report, aside=True))
    write_text(out / CARD_FILE, verdict.model_card(report))
    write_json(out / REPORT, report)  # where it is, the run is over
    return report
