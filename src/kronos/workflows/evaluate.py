"""``kronos.evaluate``: judge checkpoints and baselines on bars, with intervals, verdicts and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd

from kronos.bars import FEATURES
from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.report import Evaluation
from kronos.evaluation.rolling import training_end
from kronos.evaluation.run import TASKS, YARDSTICK, Plan, check_tasks
from kronos.evaluation.run import evaluate as run
from kronos.evaluation.windows import Series
from kronos.protocol import Forecaster, Progress, WorkEngine
from kronos.workflows.forecasters import Configured, load_any
from kronos.workflows.markets import find_markets, load_markets, read_date

UNSEEN = "training"  # instead of a date: the end of the models' training
PAPER_SAMPLES, OWN_SAMPLES = 10, 50
HELD, DROPPED, HOLD, COST = 50, 5, 5, 0.0015  # of the task investment: the paper's, for an index of 300 names
SHARE = 5  # of fewer names at most every fifth is held


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
    chosen, sources = _checked(tasks), find_markets(bars)
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
    found.summary |= {} if command is None else {"command": command}
    if out is not None:
        found.save(out)
    return found


def _checked(tasks: str | Sequence[str]) -> list[str]:
    chosen = check_tasks(_names(tasks))
    if "investment" in chosen and find_spec("qlib") is None:
        raise MissingExtraError("pyqlib", "qlib", "The task 'investment'")
    return chosen


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


def trade(series: Mapping[str, Series], signals: Mapping[str, pd.Series]) -> dict[str, pd.DataFrame]:
    """By forecaster a table of sessions, as ``Trade`` has it; a signal is traded on the session after it."""
    from kronos.backtesting.config import UNIVERSE, BacktestSettings
    from kronos.backtesting.export import write_provider
    from kronos.backtesting.provider import Provider
    from kronos.backtesting.simulate import benchmark_returns, simulate, tradable_sessions

    names = sorted({str(name) for signal in signals.values() for name in signal.index.get_level_values("instrument")})
    topk = max(1, min(HELD, len(names) // SHARE))
    settings = BacktestSettings(
        topk=topk, n_drop=max(1, topk * DROPPED // HELD), hold_thresh=HOLD, open_cost=COST, close_cost=COST
    )
    out = {}
    with TemporaryDirectory() as folder:
        bars = pd.concat([_bars_of(series[name]).assign(symbol=name) for name in names], ignore_index=True)
        written = write_provider(bars, Path(folder) / "provider")
        provider = Provider(written.folder)
        dates = pd.DatetimeIndex(next(iter(signals.values())).index.get_level_values("datetime"))
        calendar = provider.calendar()
        sessions = tradable_sessions(provider, calendar[calendar >= dates.min()])
        benchmark = benchmark_returns(provider, UNIVERSE, provider.members("all"), sessions)
        for name, signal in signals.items():
            done = simulate(provider, signal.rename(index=written.renamed, level="instrument"), benchmark, settings)
            out[name] = done.daily[["bench", "turnover"]].assign(net=done.net)
    return out


def _bars_of(series: Series) -> pd.DataFrame:
    """The bars of one symbol, timestamps on the exchange's clock without a zone."""
    times = pd.DatetimeIndex(series.timestamps)
    if series.zone is not None:
        times = times.tz_localize("UTC").tz_convert(series.zone).tz_localize(None)
    return pd.DataFrame(series.values, columns=list(FEATURES)).assign(timestamp=times)
