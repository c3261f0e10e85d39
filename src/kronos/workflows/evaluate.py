"""``kronos.evaluate``: judge checkpoints and baselines on bars, with intervals, verdicts and a report.

Every file, sample, table, or bar size of a store is a market of one or many symbols.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd

from kronos.bars import FEATURES, read_bars
from kronos.bars.report import OnDefect
from kronos.bars.store import BarStore
from kronos.errors import ConfigError, DataError, MissingExtraError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.report import Evaluation
from kronos.evaluation.run import TASKS, YARDSTICK, Plan, check_tasks
from kronos.evaluation.run import evaluate as run
from kronos.evaluation.training_dates import check_market, ends_of_training
from kronos.evaluation.windows import Series, as_series
from kronos.files import bars_files, digest, digest_of_file
from kronos.protocol import Forecaster, Progress, WorkEngine
from kronos.spec import SAMPLING
from kronos.workflows.forecasters import Configured, load_any

SAMPLE, STORED = "sample:", "frequency="
UNSEEN = "training"  # instead of a date: the end of the models' training
HELD, DROPPED, HOLD, COST = 50, 5, 5, 0.0015  # of the task investment: the paper's, for an index of 300 names
SHARE = 5  # of fewer names at most every fifth is held


def evaluate(
    bars: Any,
    models: str | Forecaster | Sequence[str | Forecaster] = (),
    *,
    tokenizer: str | None = None,
    baselines: str | Sequence[str] = "all",
    tasks: str | Sequence[str] = ("price", "return", "volatility"),
    context: int | None = None,
    horizon: int | str | Sequence[int] | None = None,
    windows: int = 20,
    step: int | None = None,
    num_samples: int | None = None,
    max_symbols: int | None = 30,
    symbol: str | None = None,
    settings: Literal["own", "paper"] = "own",
    after: Any = None,
    market: str | None = None,
    seed: int = 0,
    on_defect: OnDefect = "strict",
    device: str | None = None,
    workers: int = 1,
    engine: WorkEngine | None = None,
    out: str | Path | None = None,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    command: str | None = None,
    **sampling: float | str | None,
) -> Evaluation:
    """Judge forecasters on rolling cutoffs of past bars against honest baselines; ``.save`` writes the report.

    Args:
        bars: files, folders, stores or samples (one or a list), a table, or ``{market: any of these}``.
        models: names, folders, hub ids, ``chronos:ID``, ``statsmodels:NAME``, or forecasters that are loaded already;
            ``tokenizer``: one other than their own.
        baselines: names, as a list or between commas, ``all`` or ``none``; ``rw-resampled`` is always among them.
        tasks: of price, return, volatility, generation, investment; a list, or between commas.
        context: bars seen; None: as many as the models read in a forecast, as far as the bars reach, or the paper's.
        horizon: bars ahead; several judge the close at each of them, on forecasts of the longest. None: the paper's.
        windows, step: cutoffs per market, counted back from the end; bars between them, None: the horizon.
        num_samples, max_symbols, symbol: paths, None: 50 or the paper's 10; most series of a market, or one by name.
        settings, sampling: as each checkpoint is calibrated, but for temperature, top_k, top_p, direction; or the paper's.
        after, market: judge only bars later, or unseen in ``training``; of which market, where they cannot tell.
        device, workers, engine: where checkpoints compute; processes of one thread each; or an engine instead.
        out: folder of the report, where an interrupted evaluation goes on. None: nothing is written.
        note, progress, command: told from where it goes on; called with (done, total); what was typed.

    Raises:
        DataError, ConfigError, MissingExtraError: bars, a name or setting that cannot be used; a missing package.
    """
    chosen, sources = _tasks(tasks), find_markets(bars)
    of_task = forecasters_of(models, _names(baselines), settings, sampling, device, engine, tokenizer)
    plan = Plan(tuple(chosen), context, n_windows=windows, step=step, max_symbols=max_symbols, seed=seed, market=market)
    reads = longest_context(of_task(chosen[0])) if settings == "own" else None
    samples = num_samples or (TASKS["price"].num_samples if settings == "paper" else Plan.num_samples)
    plan = replace(plan, **_ahead(horizon), num_samples=samples, reads=reads, workers=workers, after=_date(after))
    markets, digests = load_markets(sources, on_defect, symbol)
    plan = replace(plan, after=_unseen(of_task(chosen[0]), markets, plan))
    how: dict[str, Any] = {"data_hashes": digests, "engine": engine, "progress": progress, "trade": trade, "note": note}
    found = run(markets, of_task, plan, folder=None if out is None else Path(out) / ".parts", **how)
    return _saved(found, out, command)


def _saved(found: Evaluation, out: str | Path | None, command: str | None) -> Evaluation:
    """What was found, with what was typed, written where a folder is given."""
    found.summary |= {} if command is None else {"command": command}
    if out is not None:
        found.save(out)
    return found


def _names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)


def forecasters_of(
    models: str | Forecaster | Sequence[str | Forecaster],
    baselines: Sequence[str],
    settings: Literal["own", "paper"],
    sampling: Mapping[str, Any],
    device: str | None,
    engine: WorkEngine | None,
    tokenizer: str | None = None,
) -> Callable[[str], Sequence[Forecaster]]:
    """The forecasters of each task; with the paper's settings, models sample differently from task to task."""
    wanted = "all" if "all" in baselines else list(dict.fromkeys([*(n for n in baselines if n != "none"), YARDSTICK]))
    common = make_baselines(wanted)
    if unknown := sampling.keys() - SAMPLING:
        raise TypeError(f"evaluate() has no argument {', '.join(sorted(unknown))}")
    if settings == "paper" and any(value is not None for value in sampling.values()):
        *some, last = (f"--{name.replace('_', '-')}" for name in SAMPLING)
        raise ConfigError(f"{', '.join(some)} and {last} belong to --settings own; the paper fixes them")
    worker_device = None if engine is None else device or engine.device()
    several = [models] if isinstance(models, str | Forecaster) else list(models)
    once = [model for place, model in enumerate(several) if model not in several[:place]]
    loaded = [
        load_any(model, device, worker_device, tokenizer, **sampling) if isinstance(model, str) else model
        for model in once
    ]

    def of_task(task: str) -> Sequence[Forecaster]:
        if settings == "own":
            return [*loaded, *common]
        paper = {**SAMPLING, "temperature": TASKS[task].temperature, "top_p": TASKS[task].top_p}
        return [*(one.with_settings(**paper) if isinstance(one, Configured) else one for one in loaded), *common]

    return of_task


def _tasks(tasks: str | Sequence[str]) -> list[str]:
    """The tasks; MissingExtraError: one of them needs Qlib."""
    chosen = check_tasks(_names(tasks))
    if "investment" in chosen and find_spec("qlib") is None:
        raise MissingExtraError("pyqlib", "qlib", "The task 'investment'")
    return chosen


def _ahead(horizon: int | str | Sequence[int] | None) -> dict[str, Any]:
    """The horizons of a plan."""
    found = read_horizons(horizon)
    return {"horizon": max(found, default=None), "horizons": found if len(found) > 1 else ()}


def _date(after: Any) -> Any:
    """The date of ``after``; the word for the end of training as it is."""
    return after if str(after) == UNSEEN else read_date(after)


def _unseen(forecasters: Sequence[Forecaster], markets: Mapping[str, Mapping[str, Series]], plan: Plan) -> Any:
    """The dates of a plan by market where it asks for the ends of training; ConfigError: an unknown market."""
    if plan.market is not None:
        check_market(forecasters, plan.market)
    return ends_of_training(forecasters, markets, plan.market) if str(plan.after) == UNSEEN else plan.after


def longest_context(forecasters: Sequence[Forecaster]) -> int | None:
    """The most bars that a forecast of any of them reads; None: none has a limit."""
    limits = [getattr(one, "reads", getattr(one, "max_context", None)) for one in forecasters]
    return max((int(limit) for limit in limits if limit is not None), default=None)


def read_horizons(given: int | str | Sequence[int] | None) -> tuple[int, ...]:
    """Bars ahead, ascending; ConfigError: not whole numbers above 0."""
    parts = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given or ()
    try:
        found = tuple(sorted({int(part) for part in parts}))
    except ValueError:
        found = (0,)
    if found and found[0] < 1:
        raise ConfigError(f"--horizon {given!r} is not a number of bars above 0, or several; write it as 24 or 1,6,24")
    return found


def find_markets(bars: Any) -> dict[str, Any]:
    """Market name → where its bars are: a file, a sample, the folder of a bar size in a store, or a table.

    ``bars``: a file, a folder of files (to any depth), a store, ``sample:NAME``, a list of those, a table, or a mapping
    of names to any of them that is one market. Two markets of one name are refused.
    """
    if isinstance(bars, Mapping):
        return dict(bars)
    places = [bars] if isinstance(bars, str | Path) else bars
    if not isinstance(places, Sequence) or not all(isinstance(place, str | Path) for place in places):
        return {"bars": bars}
    found: dict[str, Any] = {}
    for place in map(str, places):
        if place.startswith(SAMPLE):
            pairs = [(place.removeprefix(SAMPLE), place)]
        elif sizes := sorted(Path(place).glob(f"{STORED}*")):
            pairs = [(f"{Path(place).resolve().name}_{size.name.removeprefix(STORED)}", str(size)) for size in sizes]
        else:
            pairs = [(file.name.split(".")[0], str(file)) for file in bars_files([place])]
        for name, source in pairs:
            if name in found:
                raise DataError(f"two inputs are called {name!r}: {found[name]} and {source}; rename one")
            found[name] = source
    return found


def load_markets(
    bars: Any, on_defect: str = "strict", symbol: str | None = None
) -> tuple[dict[str, dict[str, Series]], dict[str, str]]:
    """Series by symbol by market, and a digest of each market's input; ``bars``: see :func:`find_markets`.

    ``symbol``: this series alone, of the markets that have it; DataError: none has.
    """
    markets, digests = {}, {}
    for name, source in find_markets(bars).items():
        markets[name], digests[name] = _load(source, on_defect)
    if symbol is None:
        return markets, digests
    chosen = {name: {symbol: series[symbol]} for name, series in markets.items() if symbol in series}
    if not chosen:
        known = sorted({one for series in markets.values() for one in series if one})
        shown = ", ".join(known[:10]) + (f" and {len(known) - 10:,} more" if len(known) > 10 else "")
        raise DataError(f"the bars have no series '{symbol}'; " + (f"they have {shown}" if known else "they name none"))
    return chosen, {name: digests[name] for name in chosen}


def _load(source: Any, on_defect: str) -> tuple[dict[str, Series], str]:
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.name.startswith(STORED):
        store, size = BarStore(path.parent), path.name.removeprefix(STORED)
        series = as_series({symbol: store.read(symbol, size) for symbol in store.symbols(size)})
        each = [digest_of_file(file, algorithm="sha256") for file in sorted(path.glob("*.parquet"))]
        return series, "sha256:" + (each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest())
    series = as_series(read_bars(source, on_defect=on_defect))  # type: ignore[arg-type]
    if path is None:
        return series, "blake2b:" + digest(*(x for one in series.values() for x in (one.timestamps, one.values)))
    sample = str(source).startswith(SAMPLE)
    return series, str(source) if sample else "sha256:" + digest_of_file(path, algorithm="sha256")


def read_date(text: Any) -> np.datetime64 | None:
    """The date of ``after``; ConfigError: not a date."""
    try:
        return None if text is None else np.datetime64(pd.Timestamp(text), "ns")
    except ValueError as error:
        raise ConfigError(f"--after {text!r} is not a date; write it as 2024-07-01") from error


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
    tables = []
    for name in names:
        one = series[name]
        times = one.local().tz_localize(None)  # the exchange's clock, without a zone
        tables.append(pd.DataFrame(one.values, columns=list(FEATURES)).assign(timestamp=times, symbol=name))
    out = {}
    with TemporaryDirectory() as folder:
        written = write_provider(pd.concat(tables, ignore_index=True), Path(folder) / "provider")
        provider = Provider(written.folder)
        dates = pd.DatetimeIndex(next(iter(signals.values())).index.get_level_values("datetime"))
        calendar = provider.calendar()
        sessions = tradable_sessions(provider, calendar[calendar >= dates.min()])
        benchmark = benchmark_returns(provider, UNIVERSE, provider.members("all"), sessions)
        for name, signal in signals.items():
            done = simulate(provider, signal.rename(index=written.renamed, level="instrument"), benchmark, settings)
            out[name] = done.daily[["bench", "turnover"]].assign(net=done.net)
    return out
