"""``kronos.evaluate``: judge checkpoints and baselines on bars, with intervals, verdicts and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kronos.errors import ConfigError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.investment import Trade
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
    after: Any = None,
    seed: int = 0,
    on_defect: Literal["strict", "drop"] = "strict",
    device: str | None = None,
    workers: int = 1,
    engine: WorkEngine | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: str | None = None,
    **sampling: float | None,
) -> Evaluation:
    """Judge forecasters on rolling cutoffs of past bars against honest baselines; ``.save`` writes the report.

    Args:
        bars: files, folders, stores or samples (one or a list), a table, or ``{market: any of these}``.
        models: names, folders, hub ids, ``chronos:ID``, ``statsmodels:NAME``, or forecasters that are loaded already.
        baselines: names, as a list or between commas, ``all`` or ``none``; ``rw-resampled`` is always among them.
        tasks: of price, return, volatility, generation, investment; a list, or between commas.
        context, horizon: bars seen and bars ahead; None: the paper's for each market's bar size.
        windows, step: cutoffs per market, counted back from the end; bars between them, None: the horizon.
        num_samples: paths of each forecast; None: 50, or the paper's 10.
        max_symbols: at most so many symbols per market, drawn by the seed; None: all.
        settings, sampling: as each checkpoint was calibrated, but for temperature, top_k, top_p; or the paper's.
        after: forecast only bars later than this date, or than the training of every model (``training``).
        device, workers, engine: where checkpoints compute; processes of one thread each; or an engine instead.
        out: folder of the report, where an interrupted evaluation goes on. None: nothing is written.
        progress, command: called with (done, total) forecasts; what was typed, for the record.

    Raises:
        DataError, ConfigError, MissingExtraError: bars, a name or setting that cannot be used; a missing package.
    """
    chosen, sources = check_tasks(_names(tasks)), find_markets(bars)
    trade = _trader() if "investment" in chosen else None
    unseen = isinstance(after, str) and after == UNSEEN
    dates: Any = None if unseen else read_date(after)
    of_task = forecasters_of(models, _names(baselines), settings, sampling, device, engine)
    if unseen:
        dates = ends_of_training(of_task(chosen[0]), list(sources))
    markets, digests = load_markets(sources, on_defect)
    samples = num_samples or (PAPER_SAMPLES if settings == "paper" else OWN_SAMPLES)
    plan = Plan(tuple(chosen), context, horizon, windows, step, max_symbols, samples, seed, dates, workers=workers)
    parts = None if out is None else Path(out) / ".parts"
    how: dict[str, Any] = {"engine": engine, "progress": progress, "trade": trade}
    found = run(markets, of_task, plan, folder=parts, data_hashes=digests, **how)
    return _recorded(found, command, out)


def _recorded(found: Evaluation, command: str | None, out: str | Path | None) -> Evaluation:
    if command is not None:
        found.summary["command"] = command
    if out is not None:
        found.save(out)
    return found


def _trader() -> Trade:
    from kronos.workflows.investment import trader  # Qlib's side of the house

    return trader()


def _names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)


def forecasters_of(
    models: str | Forecaster | Sequence[str | Forecaster],
    baselines: Sequence[str],
    settings: Literal["own", "paper"],
    sampling: Mapping[str, Any],
    device: str | None,
    engine: WorkEngine | None = None,
) -> Callable[[str], Sequence[Forecaster]]:
    """The forecasters of each task; with the paper's settings, models sample differently from task to task."""
    wanted = "all" if "all" in baselines else list(dict.fromkeys([*(n for n in baselines if n != "none"), YARDSTICK]))
    common = make_baselines(wanted)
    if unknown := set(sampling) - {"temperature", "top_k", "top_p"}:
        raise TypeError(f"evaluate() has no argument {', '.join(sorted(unknown))}")
    if settings == "paper" and any(value is not None for value in sampling.values()):
        raise ConfigError("--temperature, --top-k and --top-p belong to --settings own; the paper fixes them")
    away = None if engine is None else device or engine.device()
    several = [models] if isinstance(models, str | Forecaster) else list(models)
    once = [model for place, model in enumerate(several) if model not in several[:place]]
    loaded = [load_any(model, device, away, **sampling) if isinstance(model, str) else model for model in once]

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
