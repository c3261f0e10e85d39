"""``kronos.evaluate``: judge checkpoints and baselines on bars, with intervals, verdicts and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kronos.errors import ConfigError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.report import Evaluation
from kronos.evaluation.rolling import training_end
from kronos.evaluation.run import YARDSTICK, Plan
from kronos.evaluation.run import evaluate as run
from kronos.evaluation.tasks import TASKS, check_tasks
from kronos.protocol import Forecaster, Progress, WorkEngine
from kronos.workflows.forecasters import Configured, load_any
from kronos.workflows.markets import find_markets, load_markets, read_date

UNSEEN = "training"  # instead of a date: the end of the models' training
PAPER_SAMPLES, OWN_SAMPLES = 10, 50


def evaluate(
    bars: Any,
    models: str | Forecaster | Sequence[str | Forecaster] = (),
    *,
    baselines: str | Sequence[str] = "all",
    tasks: str | Sequence[str] = ("price", "return", "volatility"),
    context: int | None = None,
    horizon: int | None = None,
    windows: int = 20,
    step: int | None = None,
    num_samples: int | None = None,
    max_symbols: int | None = 30,
    settings: Literal["own", "paper"] = "own",
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    after: Any = None,
    seed: int = 0,
    on_defect: Literal["strict", "drop"] = "strict",
    device: str | None = None,
    workers: int = 1,
    engine: WorkEngine | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> Evaluation:
    """Judge forecasters on rolling cutoffs of past bars against honest baselines.

    Args:
        bars: files, folders, stores or samples (one or a list), a table, or ``{market: any of these}``.
        models: names, folders, hub ids, ``chronos:ID``, ``statsmodels:NAME``, or forecasters that are loaded already.
        baselines: names, as a list or between commas, ``all`` or ``none``; ``rw-resampled`` is always among them.
        tasks: of price, return, volatility, generation, investment; a list, or between commas.
        context, horizon: bars seen and bars ahead; None: the paper's for each market's bar size.
        windows: cutoffs per market, counted back from the end; ``step``: bars between them, None: the horizon.
        num_samples: paths of each forecast; None: 50, or the paper's 10.
        max_symbols: at most so many symbols per market, drawn by the seed; None: all.
        settings: sampling of checkpoints: as each was calibrated (``own``), or the paper's for each task.
        temperature, top_k, top_p: instead of what each checkpoint was calibrated for.
        after: forecast only bars later than this date, or than the training of every model (``training``).
        on_defect: refuse defective bars, or drop and report them.
        device: where checkpoints compute.
        workers: processes of one thread each, for what can be computed there.
        engine: computes instead of those processes; see :mod:`kronos.scale`.
        out: folder of the report, where an interrupted evaluation goes on. None: nothing is written.
        progress: called with (done, total) forecasts.
        command: what was typed, for the record in the report.

    Returns:
        The scores, the summary and the verdicts; ``.save(folder)`` writes the report.

    Raises:
        DataError: bars that cannot be read, or too few for one window.
        ConfigError: an unknown name, or settings that contradict each other.
        MissingExtraError: a task, baseline or model needs a package that is not installed.
    """
    chosen = check_tasks(_names(tasks))
    trade = None
    if "investment" in chosen:
        from kronos.workflows.investment import trader

        trade = trader()
    after_training = isinstance(after, str) and after == UNSEEN
    dates: Any = None if after_training else read_date(after)
    there = None if engine is None else device or engine.device()
    sources = find_markets(bars)
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    several = [models] if isinstance(models, str | Forecaster) else list(models)
    wanted = [model for place, model in enumerate(several) if model not in several[:place]]
    of_task = forecasters_of(wanted, _names(baselines), settings, sampling, device, there)
    if after_training:
        dates = ends_of_training(of_task(chosen[0]), list(sources))
    markets, digests = load_markets(sources, on_defect)
    plan = Plan(
        tasks=tuple(chosen),
        context=context,
        horizon=horizon,
        n_windows=windows,
        step=step,
        max_symbols=max_symbols,
        num_samples=num_samples or (PAPER_SAMPLES if settings == "paper" else OWN_SAMPLES),
        seed=seed,
        after=dates,
        workers=workers,
    )
    folder = None if out is None else Path(out)
    parts = None if folder is None else folder / ".parts"
    found = run(
        markets, of_task, plan, folder=parts, data_hashes=digests, engine=engine, progress=progress, trade=trade
    )
    if command is not None:
        found.summary["command"] = command
    if folder is not None:
        found.save(folder)
    return found


def _names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)


def forecasters_of(
    models: Sequence[str | Forecaster],
    baselines: Sequence[str],
    settings: Literal["own", "paper"],
    sampling: Mapping[str, Any],
    device: str | None,
    away: str | None = None,
) -> Callable[[str], Sequence[Forecaster]]:
    """The forecasters of each task; with the paper's settings, models sample differently from task to task.

    Args:
        device, away: what models compute on here, and on the workers of an engine.
    """
    wanted = "all" if "all" in baselines else list(dict.fromkeys([*(n for n in baselines if n != "none"), YARDSTICK]))
    common = make_baselines(wanted)
    if settings == "paper" and any(value is not None for value in sampling.values()):
        raise ConfigError("--temperature, --top-k and --top-p belong to --settings own; the paper fixes them")
    loaded = [load_any(model, device, away, **sampling) if isinstance(model, str) else model for model in models]

    def of_task(task: str) -> Sequence[Forecaster]:
        if settings == "own":
            return [*loaded, *common]
        paper = {"temperature": TASKS[task].temperature, "top_k": 0, "top_p": TASKS[task].top_p}
        return [*(one.with_settings(**paper) if isinstance(one, Configured) else one for one in loaded), *common]

    return of_task


def ends_of_training(forecasters: Sequence[Forecaster], markets: Sequence[str]) -> dict[str, np.datetime64]:
    """For each market the date after which every model's training had ended.

    Raises:
        ConfigError: no model states one.
    """
    found = {}
    for market in markets:
        ends = [end for one in forecasters if (end := training_end(one, market)) is not None]
        if not ends:
            raise ConfigError(f"--after {UNSEEN}: no model states until when it was trained; give a date instead")
        found[market] = max(ends)
    return found
