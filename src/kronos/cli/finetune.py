"""``kronos finetune``: both stages on your own bars, a chart of the losses, and a verdict from real forecasts."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import Progress, emit_json, note, output, progress

if TYPE_CHECKING:
    import numpy as np

    from kronos.evaluation.windows import Series, Window
    from kronos.training.finetune import Layout
    from kronos.training.run import RunResult

REPORT = "finetune.json"
WINDOWS = 96  # forecasts of each model for the verdict, about
SAMPLES = 50  # paths of each
MAX_SYMBOLS = 24
ENOUGH_BLOCKS = 5  # of time; below, there is no interval
TUNED = "fine-tuned"


def finetune(
    bars: Annotated[
        list[str], typer.Argument(metavar="BARS...", help="Files of bars, folders of them, or sample:NAME.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new checkpoint pair.")],
    model: Annotated[str, typer.Option(help="Where to start: a name, a folder or a hub id.")] = "kronos-nano",
    config: Annotated[Path | None, typer.Option("--config", help="Settings that differ (YAML).")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as epochs=10. May repeat."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="daily or intraday; by default as the bars are.")] = None,
    skip_tokenizer: Annotated[bool, typer.Option("--skip-tokenizer", help="Keep the tokenizer as it is.")] = False,
    skip_model: Annotated[bool, typer.Option("--skip-model", help="Train the tokenizer only.")] = False,
    unseen_symbols: Annotated[
        bool, typer.Option("--unseen-symbols", help="Keep some symbols out of training, and judge on those.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the windows, and of the paths that are judged.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the best one here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Fine-tune a checkpoint on your own bars, and say whether it became better.

    The last 15 % of the bars are kept for the verdict: the run never reads them, not even to stop early.
    """
    from kronos.errors import ConfigError
    from kronos.training.config import read_settings
    from kronos.training.finetune import fine_tune, lay_out

    require_judge()
    if skip_tokenizer and skip_model:
        raise ConfigError("--skip-tokenizer and --skip-model together leave nothing to do")
    if (out / REPORT).exists():
        raise ConfigError(f"{out} holds a finished run (see {out / REPORT}); name another --out")
    if not resume and any((out / name).exists() for name in ("model", "tokenizer")):
        raise ConfigError(f"{out} holds a run already; go on with --resume, or name another --out")
    given = {"seed": seed, **({"device": device} if device else {}), **read_settings(config, overrides)}
    layout = lay_out(bars, model, out, preset=preset, unseen_symbols=unseen_symbols, given=given)
    windows, choice = draw_windows(layout), draw_windows(layout, validation=True)
    if not as_json:
        tell_layout(layout, windows)
    with ExitStack() as stack:
        results = fine_tune(
            layout,
            tokenizer=not skip_tokenizer,
            model=not skip_model,
            resume=resume,
            progress=_teller(layout, stack),
        )
    from kronos.training.chart import save_loss_chart

    charts = save_loss_chart(out)
    with progress("Judging by real forecasts") as report:
        verdict = judge(layout, windows, device, seed, report)
    with progress("Choosing by forecasts of the validation period") as report:
        chosen = choose(layout, choice, device, seed, report)
    if chosen["kept"] == "start":
        from kronos.training.finetune import take_over

        take_over(layout.start, out)
    document = {**describe(layout, results), "chosen": chosen, "verdict": verdict, "charts": list(map(str, charts))}
    (out / REPORT).write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")
    if as_json:
        emit_json(document)
        return
    for line in verdict["notes"]:
        note(f"Note: {line}.")
    output.print(verdict["words"], markup=False, soft_wrap=True)
    output.print(chosen["words"], markup=False, soft_wrap=True)
    for path in charts:
        note(f"Wrote {path}")
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


def draw_windows(layout: Layout, *, validation: bool = False) -> list[Window]:
    """Forecasts to make in the judged period, or in that of validation: spread over it, at dates the symbols share.

    Raises:
        DataError: not one fits into the judged period.
    """
    import numpy as np

    from kronos.errors import DataError
    from kronos.evaluation.rolling import as_series, common_cutoffs, rolling_windows

    windows: list[Window] = []
    periods = layout.periods(validation=validation)
    for group, (after, before) in periods.items():
        series = as_series(layout.judged_tables(group))
        names = sorted(series)
        if len(names) > MAX_SYMBOLS:
            rng = np.random.default_rng([layout.config.seed, len(names)])
            names = sorted(rng.choice(names, MAX_SYMBOLS, replace=False).tolist())
        kept = {name: series[name] for name in names}
        if before is not None:
            kept = {name: _until(one, before) for name, one in kept.items()}
        judged = max(int((one.timestamps > after).sum()) for one in kept.values())
        dates = max(8, WINDOWS // (len(names) * len(periods)))
        step = max(1, layout.horizon // 4, judged // dates)
        cutoffs = common_cutoffs(kept.values(), layout.horizon, max(1, judged // step), step)
        windows += rolling_windows(
            kept, layout.context, layout.horizon, cutoffs=list(cutoffs), after=after, group=group
        )
    if not windows and not validation:
        raise DataError(
            f"the last bars, kept for the verdict, hold no forecast of {layout.horizon} bars after "
            f"{layout.context} of context without a gap; give more bars"
        )
    return windows


def _until(series: Series, before: np.datetime64) -> Series:
    from dataclasses import replace

    known = int((series.timestamps <= before).sum())
    return replace(series, timestamps=series.timestamps[:known], values=series.values[:known])


def choose(layout: Layout, windows: list[Window], device: str | None, seed: int, report: Progress) -> dict[str, Any]:
    """Which weights the run ends with: the new ones if their forecasts of the validation period are better at all.

    Token losses picked the best of the new weights; what matters is forecasts, and on few bars the two disagree.
    """
    if not windows:
        words = "The validation period is too short for forecasts, so the new weights are kept untried."
        return {"kept": TUNED, "forecasts": 0, "words": words}
    found = ratio(score(layout, windows, device, seed, report)[0], "start", seed)
    kept = TUNED if found["ratio"] < 1 else "start"
    figure = f"CRPS {found['ratio']:.3f} of the start's in {len(windows)} forecasts of the validation period"
    words = f"Kept the new weights: {figure}."
    if kept == "start":
        words = f"Kept the weights of {layout.start}, not the new ones: {figure}."
    return {"kept": kept, "forecasts": len(windows), "crps_to_start": found, "words": words}


def score(
    layout: Layout,
    windows: list[Window],
    device: str | None,
    seed: int,
    report: Progress,
    baselines: tuple[str, ...] = (),
) -> tuple[Any, list[str]]:
    """Scores of the new weights, of the start and of baselines, one row a forecast; and notes on leaks."""
    import warnings

    from kronos.cli.forecasters import load_forecaster
    from kronos.evaluation.baselines import make_baselines
    from kronos.evaluation.rolling import LeakWarning, score_windows, warn_of_leaks
    from kronos.evaluation.summary import per_window

    tuned, start = load_forecaster(str(layout.config.out), device), load_forecaster(layout.start, device)
    tuned.name, start.name = TUNED, "start"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        notes = warn_of_leaks([tuned, start], windows)
    forecasters = [tuned, start, *(make_baselines(list(baselines)) if baselines else [])]
    return per_window(score_windows(windows, forecasters, SAMPLES, seed, progress=report)), notes


def judge(layout: Layout, windows: list[Window], device: str | None, seed: int, report: Progress) -> dict[str, Any]:
    """CRPS of the close of the new checkpoint against the one it started from and a resampled random walk."""
    from kronos.evaluation.run import YARDSTICK

    rows, notes = score(layout, windows, device, seed, report, (YARDSTICK,))
    against_start = ratio(rows, "start", seed)
    against_walk = ratio(rows, YARDSTICK, seed)
    return {
        "better": bool(against_start["high"] < 1),
        "words": in_words(against_start, layout.start, layout.config.out.name),
        "crps_to_start": against_start,
        "crps_to_random_walk": against_walk,
        "start_to_random_walk": ratio(rows, YARDSTICK, seed, of="start"),
        "coverage_90": float(rows.loc[rows["forecaster"] == TUNED, "covered_90"].mean()),
        "forecasts": len(windows),
        "first": str(min(w.context.future_timestamps[0] for w in windows)),
        "last": str(max(w.context.future_timestamps[-1] for w in windows)),
        "notes": notes,
    }


def ratio(rows: Any, other: str, seed: int, of: str = TUNED) -> dict[str, float]:
    """Mean CRPS over another's, in units of each context's own volatility, with a 95 % block-bootstrap interval."""
    import numpy as np

    from kronos.evaluation.statistics import cluster_bootstrap, ratio_of_means
    from kronos.evaluation.summary import cluster_labels

    ours = rows[rows["forecaster"] == of].set_index("window_id")
    theirs = rows[rows["forecaster"] == other].set_index("window_id").loc[ours.index]
    columns = np.stack([ours["crps"].to_numpy(), theirs["crps"].to_numpy()], axis=-1)
    labels = cluster_labels(ours)
    estimate = cluster_bootstrap(labels, columns, ratio_of_means, seed=seed)
    return {"ratio": estimate.value, "low": estimate.low, "high": estimate.high, "blocks": len(np.unique(labels))}


def in_words(found: dict[str, float], start: str, name: str) -> str:
    """The verdict in a sentence or two."""
    figures = f"CRPS {found['ratio']:.3f} of the start's"
    if found["blocks"] < ENOUGH_BLOCKS:
        return f"Not shown to be better than {start}: {figures}, but the judged period is too short for an interval."
    figures += f", 95% interval {found['low']:.3f} to {found['high']:.3f}"
    if found["high"] < 1:
        return f"Better than {start}: {figures}."
    if found["low"] > 1:
        return f"Not better than {start}, but worse: {figures}. Keep using {start}; more bars or fewer epochs may help."
    return (
        f"Not better than {start}, as far as these bars can tell: {figures}. There is no reason to use {name} instead."
    )


def describe(layout: Layout, results: dict[str, RunResult]) -> dict[str, Any]:
    """What was done, for ``finetune.json``."""
    return {
        "start": layout.start,
        "preset": layout.preset,
        "context": layout.context,
        "horizon": layout.horizon,
        "training_bars": layout.training_bars,
        "stages": {stage: {"steps": r.steps, "best_validation": r.best_validation} for stage, r in results.items()},
        "settings": layout.config.model_dump(mode="json"),
    }


def tell_layout(layout: Layout, windows: list[Window]) -> None:
    """In three lines: how much there is to learn from, how long windows are, and what the verdict will rest on."""
    data, optim = layout.config.data, layout.config.optim_of("model")
    symbols = sum(map(len, layout.tables.values()))
    batch = optim.batch_size * optim.accumulation
    note(f"{layout.training_bars:,} bars of {symbols:,} series to train on; {layout.preset} settings.")
    note(
        f"Windows of {data.window} bars, context {data.boundary[0]} to {data.boundary[1]}; {batch} windows a step "
        f"({optim.batch_size} × {optim.accumulation} accumulated); {optim.steps:,} steps at most."
    )
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
            note(f"{stage}, step {step:,}: validation loss {record['val_loss']:.4f}")
        else:
            bars[stage](step, layout.config.optim_of(stage).steps, f"loss {record['loss']:.4f}")

    return tell
