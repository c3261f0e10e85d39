"""A whole evaluation: markets × forecasters × tasks, from bars to a summary that can be written and read again."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError, DataError
from kronos.evaluation.baselines import BASELINE_NAMES
from kronos.evaluation.generation import STEPS, generation_figures
from kronos.evaluation.investment import Trade, invest
from kronos.evaluation.jobs import Engine, identity
from kronos.evaluation.rolling import (
    LeakWarning,
    Progress,
    no_windows_message,
    rolling_windows,
    score_windows,
    warn_of_leaks,
)
from kronos.evaluation.store import ResultStore, window_id
from kronos.evaluation.summary import SILENT, Comparison, compare, corrected, per_window, task_tables
from kronos.evaluation.tasks import TASKS, check_tasks, paper_window
from kronos.evaluation.windows import Refusals, Series, Window
from kronos.protocol import FloatArray, Forecaster, sample_in_batches
from kronos.spec import ForecastSpec

Markets = Mapping[str, Mapping[str, Series]]
ForecastersOf = Callable[[str], Sequence[Forecaster]]

YARDSTICK = "rw-resampled"
#: Tasks that are not scored window by window.
APART = ("generation", "investment")


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Args:
        tasks: names from :data:`~kronos.evaluation.tasks.TASKS`.
        context, horizon: bars; by default the paper's for each market's bar size.
        n_windows: cutoffs per market; ``step``: bars between them, by default the horizon.
        max_symbols: at most so many symbols per market, drawn by ``seed``.
        num_samples: paths per forecast.
        seed: of the paths and of every random draw.
        after: the first bar to forecast lies later than this; by market where it is a mapping.
        max_generated: windows used by the generation task; ``generation_steps``: training steps of its networks.
        workers: processes for the baselines.
    """

    tasks: tuple[str, ...] = ("price", "return", "volatility")
    context: int | None = None
    horizon: int | None = None
    n_windows: int = 20
    step: int | None = None
    max_symbols: int | None = 30
    num_samples: int = 50
    seed: int = 0
    after: np.datetime64[Any] | Mapping[str, np.datetime64[Any]] | None = None
    max_generated: int = 400
    generation_steps: int = STEPS
    workers: int = 1

    def after_in(self, market: str) -> np.datetime64[Any] | None:
        """The date that the forecasts of a market must be later than, if there is one."""
        return self.after.get(market) if isinstance(self.after, Mapping) else self.after

    def as_dict(self, markets: Iterable[str]) -> dict[str, Any]:
        """The settings for JSON."""
        after = {market: date for market in markets if (date := self.after_in(market)) is not None}
        return {**asdict(self), "after": {market: str(date) for market, date in after.items()} or None}


@dataclass(eq=False)
class Example:
    """A forecast worth looking at."""

    model: str
    kind: str  # best, median or worst by CRPS
    crps: float
    window: Window
    paths: FloatArray


@dataclass(eq=False)
class Evaluation:
    """The outcome: the long table, the summary for ``summary.json``, and examples for the report."""

    table: pd.DataFrame
    summary: dict[str, Any]
    examples: list[Example] = field(default_factory=list)


def chosen_symbols(markets: Markets, plan: Plan) -> dict[str, dict[str, Series]]:
    """At most ``plan.max_symbols`` symbols of each market, drawn by the seed."""
    out = {}
    for market, series in markets.items():
        names = sorted(series)
        if plan.max_symbols is not None and len(names) > plan.max_symbols:
            rng = np.random.default_rng([plan.seed, len(names)])
            names = sorted(rng.choice(names, size=plan.max_symbols, replace=False).tolist())
        out[market] = {name: series[name] for name in names}
    return out


def draw_markets(
    markets: Markets, plan: Plan
) -> tuple[list[Window], dict[str, tuple[int, int]], dict[str, dict[str, int]]]:
    """Test windows of all markets, the (context, horizon) of each, and what was refused in each."""
    windows: list[Window] = []
    sizes: dict[str, tuple[int, int]] = {}
    refusals: dict[str, dict[str, int]] = {}
    for market, kept in chosen_symbols(markets, plan).items():
        steps = [one.step() for one in kept.values() if len(one.timestamps) > 1]
        if not steps:
            raise DataError(f"market {market!r} has no series of two bars or more")
        context, horizon = paper_window(np.median(np.array(steps).astype(np.int64)).astype("timedelta64[ns]"))
        context, horizon = plan.context or context, plan.horizon or horizon
        refused = Refusals()
        found = rolling_windows(
            kept,
            context,
            horizon,
            n_windows=plan.n_windows,
            step=plan.step,
            after=plan.after_in(market),
            group=market,
            refused=refused,
        )
        if not found:
            raise DataError(f"market {market!r}: " + no_windows_message(context, horizon, refused))
        windows += found
        sizes[market], refusals[market] = (context, horizon), refused.counts
    return windows, sizes, refusals


def evaluate(
    markets: Markets,
    forecasters: Sequence[Forecaster] | ForecastersOf,
    plan: Plan,
    *,
    folder: Path | None = None,
    data_hashes: Mapping[str, str] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    trade: Trade | None = None,
) -> Evaluation:
    """Run the plan.

    Args:
        markets: series by symbol by market name; a name like ``crypto_1h`` groups by ``crypto`` in the statistics.
        forecasters: models and baselines; or a function of the task's name, where tasks sample differently. The
            resampled random walk must be among them: it is the yardstick.
        plan: what to do.
        folder: where finished batches are kept, so that an interrupted run goes on.
        data_hashes: digest per input, for the record.
        engine: computes scores instead of ``plan.workers`` processes.
        progress: called with (done, total).
        trade: who trades the signals of the investment task; needed for that task alone.
    """
    tasks, began = check_tasks(list(plan.tasks)), time.perf_counter()
    if "investment" in tasks and trade is None:
        raise ConfigError("the task 'investment' needs somebody who trades its signals: pass trade=")
    of_task: ForecastersOf = forecasters if callable(forecasters) else lambda _: forecasters
    windows, sizes, refusals = draw_markets(markets, plan)
    store = ResultStore(folder)
    scores = {"scores": 0, "stored": 0}
    parts: list[pd.DataFrame] = []
    tables: dict[str, Any] = {}
    comparisons: list[Comparison] = []
    notes: list[str] = []
    first = list(of_task(tasks[0]))
    for group in _tasks_by_forecasters([task for task in tasks if task not in APART], of_task):
        ready = list(of_task(group[0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakWarning)  # the notes go into the report instead
            notes += warn_of_leaks(ready, windows)
        wanted = {(identity(one), window_id(w, plan.num_samples, plan.seed)) for one in ready for w in windows}
        scores["scores"] += len(wanted)
        scores["stored"] += len(wanted & store.done())
        table = score_windows(
            windows,
            ready,
            plan.num_samples,
            plan.seed,
            store=store,
            workers=plan.workers,
            engine=engine,
            progress=progress,
        )
        rows = per_window(table)
        models, baselines = _sides(ready)
        tables |= task_tables(table, rows, group, YARDSTICK)
        comparisons += compare(rows, group, models, baselines)
        parts.append(table.assign(tasks=",".join(group)))
    if "generation" in tasks:
        tables["generation"] = _generation(windows, list(of_task("generation")), plan, store, progress)
    if "investment" in tasks and trade is not None:
        ready = list(of_task("investment"))
        models, baselines = _sides(ready)
        tables["investment"], found = invest(
            chosen_symbols(markets, plan),
            ready,
            trade,
            n_windows=plan.n_windows,
            after=plan.after_in,
            num_samples=plan.num_samples,
            seed=plan.seed,
            models=models,
            baselines=baselines,
        )
        comparisons += found
    comparisons = corrected(comparisons)
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    summary = {
        "settings": plan.as_dict(markets),
        "markets": {market: _market_facts(market, windows, sizes[market], refusals[market]) for market in markets},
        "forecasters": [describe(forecaster) for forecaster in first],
        "yardstick": YARDSTICK,
        "tasks": tables,
        "questions": {task: asdict(TASKS[task]) for task in tasks},
        "comparisons": [comparison.as_dict() for comparison in comparisons],
        "verdicts": in_words(comparisons),
        "notes": list(dict.fromkeys(notes)),
        "data": dict(data_hashes or {}),
        "versions": versions(),
        "runtime": {"seconds": round(time.perf_counter() - began, 1), **scores},
    }
    examples = pick_examples(table, windows, first, plan) if len(table) else []
    return Evaluation(table, summary, examples)


def _market_facts(
    market: str, windows: Sequence[Window], size: tuple[int, int], refused: dict[str, int]
) -> dict[str, Any]:
    """What was drawn from one market; ``size`` is (context, horizon)."""
    own = [w for w in windows if w.group == market]
    return {
        "context": size[0],
        "horizon": size[1],
        "symbols": len({w.context.symbol for w in own}),
        "windows": len(own),
        "first_cutoff": str(min(w.context.cutoff for w in own)),
        "last_cutoff": str(max(w.context.cutoff for w in own)),
        "refused": refused,
    }


def _tasks_by_forecasters(tasks: Sequence[str], of_task: ForecastersOf) -> list[list[str]]:
    """Tasks that ask the same forecasters share one run."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        groups.setdefault(tuple(identity(f) for f in of_task(task)), []).append(task)
    return list(groups.values())


def _sides(forecasters: Sequence[Forecaster]) -> tuple[list[str], list[str]]:
    names = [forecaster.name for forecaster in forecasters]
    if YARDSTICK not in names:
        raise DataError(f"the yardstick {YARDSTICK!r} must be among the forecasters; add it to the baselines")
    return [n for n in names if n not in BASELINE_NAMES], [n for n in names if n in BASELINE_NAMES]


def _generation(
    windows: Sequence[Window],
    forecasters: Sequence[Forecaster],
    plan: Plan,
    store: ResultStore,
    progress: Progress | None,
) -> dict[str, Any]:
    """``{market: {forecaster: figures}}``; one market at a time, since horizons and habits differ.

    Points have no path to sample and are left out.
    """
    out: dict[str, Any] = {}
    forecasters = [one for one in forecasters if one.name not in SILENT]
    markets, done = list(dict.fromkeys(window.group for window in windows)), 0
    for market in markets:
        mine = [window for window in windows if window.group == market]
        if len(mine) > plan.max_generated:
            rng = np.random.default_rng([plan.seed, len(mine)])
            mine = [mine[i] for i in np.sort(rng.choice(len(mine), plan.max_generated, replace=False))]
        trtr: float | None = None
        for forecaster in forecasters:
            key = _generation_key(mine, forecaster, plan)
            figures = store.figures(key)
            if figures is None:
                contexts = [window.context for window in mine]
                spec = ForecastSpec(horizon=len(mine[0].truth), num_samples=1, seed=plan.seed)
                made = sample_in_batches(forecaster, contexts, spec)
                paths = [path for _, path in made]
                figures = generation_figures(mine, paths, plan.seed, plan.generation_steps, trtr)
                store.keep_figures(key, figures)
            trtr = figures["train_on_synthetic"]["trtr"]
            out.setdefault(market, {})[forecaster.name] = figures
            done += 1
            if progress is not None:
                progress(done, len(markets) * len(forecasters))
    return out


def _generation_key(windows: Sequence[Window], forecaster: Forecaster, plan: Plan) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for text in (identity(forecaster), str(plan.generation_steps), *(window_id(w, 1, plan.seed) for w in windows)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def pick_examples(
    table: pd.DataFrame, windows: Sequence[Window], forecasters: Sequence[Forecaster], plan: Plan
) -> list[Example]:
    """Best, median and worst window by CRPS of every model (of the yardstick where there is no model)."""
    models = _sides(forecasters)[0] or [YARDSTICK]
    scores = table.groupby(["forecaster", "group", "symbol", "cutoff"])["crps"].mean()
    by_key = {(w.group, w.context.symbol, pd.Timestamp(w.context.cutoff)): w for w in windows}
    chosen = []
    for forecaster in forecasters:
        if forecaster.name not in models:
            continue
        ranked = scores[forecaster.name].sort_values(kind="stable")
        for kind, place in (("best", 0), ("median", len(ranked) // 2), ("worst", len(ranked) - 1)):
            window = by_key[ranked.index[place]]
            spec = ForecastSpec(horizon=len(window.truth), num_samples=plan.num_samples, seed=plan.seed)
            paths = forecaster.sample_paths([window.context], spec)[0]
            chosen.append(Example(forecaster.name, kind, float(ranked.iloc[place]), window, np.asarray(paths, float)))
    return chosen


def in_words(comparisons: Sequence[Comparison]) -> list[dict[str, str]]:
    """One sentence per model, task and market."""
    grouped: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for item in comparisons:
        kind = item.words.split(" ", 1)[0]  # better, worse or no
        grouped.setdefault((item.model, item.task, item.market), {}).setdefault(kind, []).append(item.baseline)
    lines = []
    for (model, task, market), sides in grouped.items():
        phrases = [("better", "better than"), ("no", "no edge shown over"), ("worse", "worse than")]
        words = "; ".join(f"{phrase} {', '.join(sides[kind])}" for kind, phrase in phrases if kind in sides)
        lines.append({"model": model, "task": task, "market": market, "verdict": words})
    return lines


def describe(forecaster: Forecaster) -> dict[str, Any]:
    """Name, kind, fingerprint and end of training of a forecaster."""
    end = getattr(forecaster, "training_cutoff", None)
    return {
        "name": forecaster.name,
        "kind": "baseline" if forecaster.name in BASELINE_NAMES else "model",
        "fingerprint": getattr(forecaster, "fingerprint", None),
        "training_cutoff": None if end is None else str(end),
    }


def versions() -> dict[str, str]:
    """What was run with what."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("kronos-kline", "numpy", "pandas", "scipy", "torch", "arch", "chronos-forecasting"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
