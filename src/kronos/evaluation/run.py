"""A whole evaluation: markets × forecasters × tasks, from bars to a summary that can be written and read again.

Look-back, horizon and sampling of the tasks are the paper's (section 5; model specification, section 8), not advice:
a temperature of .6 makes intervals far too narrow.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError, DataError
from kronos.evaluation.baselines import BASELINES
from kronos.evaluation.figures import per_window
from kronos.evaluation.report import Evaluation
from kronos.evaluation.report_charts import Example
from kronos.evaluation.rolling import ResultStore, identity, score_windows, window_id
from kronos.evaluation.summary import (
    Comparison,
    compare,
    corrected,
    horizon_tables,
    in_words,
    task_tables,
)
from kronos.evaluation.tasks import STEPS, Trade, generate_and_judge, invest
from kronos.evaluation.training_dates import LeakWarning, warn_of_leaks
from kronos.evaluation.windows import Series, Window, most_cutoffs, required_windows, some_symbols
from kronos.evaluation.words import ABOUT_ENOUGH, Precision, headlines, precision
from kronos.protocol import Forecaster, Progress, WorkEngine
from kronos.spec import ForecastSpec

Markets = Mapping[str, Mapping[str, Series]]
ForecastersOf = Callable[[str], Sequence[Forecaster]]

YARDSTICK = "rw-resampled"
#: Tasks that are not scored window by window.
NOT_BY_WINDOW = ("generation", "investment")
#: Cutoffs per market at least, where the bars hold them and no number is asked for.
FEW_CUTOFFS = 20
#: Bar size in minutes → (look-back, horizon), in bars.
PAPER_WINDOWS = {5: (480, 96), 15: (160, 32), 60: (80, 12), 240: (90, 18), 1440: (40, 12)}


@dataclass(frozen=True)
class EvaluationTask:
    """One question put to a forecaster, with the paper's sampling.

    ``question``: in words, for the report; ``loss``: what the verdict compares, lower is better.
    """

    name: str
    question: str
    temperature: float
    top_p: float
    num_samples: int
    loss: str


TASKS = {
    name: EvaluationTask(name, question, temperature, top_p, num_samples, loss)
    for name, question, temperature, top_p, num_samples, loss in (
        ("price", "Where will the close be, and how sure is that?", 0.6, 0.9, 10, "CRPS of the close, mean over steps"),
        ("return", "Which way, and which symbol more than the others?", 0.6, 0.9, 10, "minus the RankIC of a date"),
        ("volatility", "How much will it move?", 0.9, 0.9, 10, "QLIKE of the realised variance"),
        ("touch", "Which prices will be touched, and which first?", 0.9, 0.9, 10, "Brier score, mean over barriers"),
        ("generation", "Do sampled bars look and behave like real ones?", 1.0, 0.95, 1, "accuracy of a discriminator"),
        ("investment", "Does a portfolio built on it earn more than it costs?", 0.6, 0.9, 10, "excess return"),
    )
}


def check_tasks(names: list[str]) -> list[str]:
    """The names, each once; ConfigError: an unknown task."""
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise ConfigError(f"unknown task(s) {', '.join(unknown) or '(none given)'}; known: {', '.join(TASKS)}")
    return list(dict.fromkeys(names))


def paper_window(step: np.timedelta64) -> tuple[int, int]:
    """The paper's (look-back, horizon) for the preset whose bar size is nearest (in ratio) to ``step``."""
    minutes = max(float(step / np.timedelta64(1, "m")), 1e-9)
    return PAPER_WINDOWS[min(PAPER_WINDOWS, key=lambda size: abs(np.log(minutes / size)))]


@dataclass(frozen=True)
class Plan:
    """What to evaluate."""

    tasks: tuple[str, ...] = ("price", "return", "volatility", "touch")
    context: int | None = None  # bars; by default the paper's for each market's bar size
    horizon: int | None = None  # the same
    horizons: tuple[int, ...] = ()  # bars ahead at which the close is judged one by one, up to ``horizon``
    reads: int | None = None  # bars that the models read; the context where none is given and the bars suffice
    n_windows: int | None = None  # cutoffs per market; None: so many that a verdict can tell, see ``cutoffs_in``
    step: int | None = None  # bars between them, by default the horizon
    max_symbols: int | None = 30  # per market, drawn by the seed
    num_samples: int = 50  # paths per forecast
    seed: int = 0  # of the paths and of every random draw
    after: np.datetime64[Any] | Mapping[str, np.datetime64[Any]] | None = None  # forecast later bars; may be by market
    max_generated: int = 400  # windows used by the generation task
    generation_steps: int = STEPS  # of the training of its networks
    market: str | None = None  # of all bars, for the ends of training; by default what the bars tell
    workers: int = 1  # processes of one thread each

    def after_in(self, market: str) -> np.datetime64[Any] | None:
        """The date that the forecasts of a market must be later than, if there is one."""
        return self.after.get(market) if isinstance(self.after, Mapping) else self.after

    def cutoffs_in(self, markets: int, symbols: int, most: int) -> int:
        """Cutoffs of a market: as many as were asked for, or its share of the forecasts that a verdict takes.

        ``markets``: how many there are; ``symbols``: of this one; ``most``: cutoffs that its bars hold.
        """
        if self.n_windows is not None:
            return self.n_windows
        return max(1, min(most, max(FEW_CUTOFFS, ABOUT_ENOUGH // (markets * symbols))))

    def as_dict(self, markets: Iterable[str]) -> dict[str, Any]:
        """The settings for JSON."""
        after = {market: str(date) for market in markets if (date := self.after_in(market)) is not None}
        return {**asdict(self), "after": after or None}


def draw_markets(markets: Markets, plan: Plan) -> tuple[list[Window], dict[str, dict[str, Any]]]:
    """Test windows of all markets, and what was drawn from each."""
    windows: list[Window] = []
    facts: dict[str, dict[str, Any]] = {}
    for market, kept in markets.items():
        steps = [one.step() for one in kept.values() if len(one.timestamps) > 1]
        if not steps:
            raise DataError(f"market {market!r} has no series of two bars or more")
        context, horizon = paper_window(np.median(np.array(steps).astype(np.int64)).astype("timedelta64[ns]"))
        horizon = plan.horizon or horizon
        if plan.reads is not None:  # as a forecast does: this many bars, or as many as nearly all symbols have
            room = int(np.quantile([len(one.timestamps) for one in kept.values()], 0.1)) - horizon
            few = (plan.n_windows or FEW_CUTOFFS) - 1
            context = min(plan.reads, max(context, room - (plan.step or horizon) * few))
        context = plan.context or context
        most = most_cutoffs(kept.values(), context, horizon, plan.step or horizon, plan.after_in(market))
        cutoffs = plan.cutoffs_in(len(markets), len(kept), most)
        how: dict[str, Any] = {"n_windows": cutoffs, "step": plan.step, "after": plan.after_in(market)}
        found, refused = required_windows(kept, context, horizon, group=market, **how)
        windows += found
        times = [window.context.cutoff for window in found]
        facts[market] = {
            "context": context,
            "horizon": horizon,
            "symbols": len({window.context.symbol for window in found}),
            "windows": len(found),
            "cutoffs": len({window.date for window in found}),
            "most_cutoffs": most,
            "first_cutoff": str(min(times)),
            "last_cutoff": str(max(times)),
            "refused": refused,
        }
    return windows, facts


def evaluate(
    markets: Markets,
    forecasters: Sequence[Forecaster] | ForecastersOf,
    plan: Plan,
    *,
    folder: Path | None = None,
    data_hashes: Mapping[str, str] | None = None,
    engine: WorkEngine | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
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
        progress, note: called with (done, total); told from where an interrupted run goes on.
        trade: who trades the signals of the investment task; needed for that task alone.
    """
    tasks, began, store = check_tasks(list(plan.tasks)), time.perf_counter(), ResultStore(folder)
    if "investment" in tasks and trade is None:
        raise ConfigError("the task 'investment' needs somebody who trades its signals: pass trade=")
    of_task: ForecastersOf = forecasters if callable(forecasters) else lambda _: forecasters
    chosen = {market: some_symbols(series, plan.max_symbols, plan.seed) for market, series in markets.items()}
    windows, facts = draw_markets(chosen, plan)
    table, tables, comparisons, notes, counts = _score(
        windows, of_task, plan, store, engine=engine, progress=progress, note=note
    )
    if "generation" in tasks:
        how: dict[str, Any] = {"most": plan.max_generated, "steps": plan.generation_steps, "seed": plan.seed}
        tables["generation"] = generate_and_judge(windows, of_task("generation"), store=store, progress=progress, **how)
    if trade is not None and "investment" in tasks:
        how = {"after": plan.after_in, "num_samples": plan.num_samples, "seed": plan.seed}
        asked = of_task("investment")
        tables["investment"], compared = invest(
            chosen, asked, trade, sides=_sides(asked), n_windows=plan.n_windows or FEW_CUTOFFS, **how
        )
        comparisons += compared
    first = of_task(tasks[0])
    summary = {
        "settings": plan.as_dict(markets),
        "markets": facts,
        "forecasters": [describe(forecaster) for forecaster in first],
        "yardstick": YARDSTICK,
        "tasks": tables,
        "questions": {task: asdict(TASKS[task]) for task in tasks},
        "by_horizon": horizon_tables(table, plan.horizons, YARDSTICK),
        **_answers(corrected(comparisons), precision(tables.get("price", {}), facts, _sides(first)[0])),
        "notes": notes,
        "data": dict(data_hashes or {}),
        "versions": versions(),
        "runtime": {"seconds": round(time.perf_counter() - began, 1), **counts},
    }
    return Evaluation(table, summary, pick_examples(table, windows, first, plan) if len(table) else [])


def _answers(comparisons: Sequence[Comparison], exact: Sequence[Precision]) -> dict[str, Any]:
    """What was found in words and in figures, and how exactly."""
    return {
        "headlines": [*headlines(comparisons), *(one.words for one in exact)],
        "precision": [asdict(one) | {"enough": one.enough} for one in exact],
        "comparisons": [asdict(one) | {"relative": one.relative, "asked": one.asked} for one in comparisons],
        "verdicts": in_words(comparisons),
    }


def _score(
    windows: Sequence[Window],
    of_task: ForecastersOf,
    plan: Plan,
    store: ResultStore,
    *,
    engine: WorkEngine | None,
    progress: Progress | None,
    note: Callable[[str], None] | None,
) -> tuple[pd.DataFrame, dict[str, Any], list[Comparison], list[str], dict[str, int]]:
    """Of the tasks that are scored window by window: the long table, figures, comparisons, notes and counts.

    Tasks that ask the same forecasters share one run.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in dict.fromkeys(task for task in plan.tasks if task not in NOT_BY_WINDOW):
        groups.setdefault(tuple(map(identity, of_task(task))), []).append(task)
    tables: dict[str, Any] = {}
    notes: dict[str, None] = {}
    parts, comparisons, counts = [], [], {"scores": 0, "stored": 0}
    for tasks in groups.values():
        forecasters = of_task(tasks[0])
        models, baselines = _sides(forecasters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakWarning)  # the notes go into the report instead
            notes |= dict.fromkeys(warn_of_leaks(forecasters, windows, plan.market))
        wanted = {(identity(one), window_id(w, plan.num_samples, plan.seed)) for one in forecasters for w in windows}
        counts["scores"] += len(wanted)
        stored = len(wanted & store.done())
        counts["stored"] += stored
        if note is not None and stored:
            note(f"Goes on: {stored:,} of {len(wanted):,} forecasts were scored by an earlier run.")
        how: dict[str, Any] = {"store": store, "workers": plan.workers, "engine": engine, "progress": progress}
        table = score_windows(windows, forecasters, plan.num_samples, plan.seed, **how)
        rows = per_window(table)
        tables |= task_tables(table, rows, tasks, YARDSTICK)
        comparisons += compare(rows, tasks, models, baselines)
        parts.append(table.assign(tasks=",".join(tasks)))
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return joined, tables, comparisons, list(notes), counts


def _sides(forecasters: Sequence[Forecaster]) -> tuple[list[str], list[str]]:
    """Names of models and of baselines."""
    names = [forecaster.name for forecaster in forecasters]
    if YARDSTICK not in names:
        raise DataError(f"the yardstick {YARDSTICK!r} must be among the forecasters; add it to the baselines")
    return [n for n in names if n not in BASELINES], [n for n in names if n in BASELINES]


def pick_examples(
    table: pd.DataFrame, windows: Sequence[Window], forecasters: Sequence[Forecaster], plan: Plan
) -> list[Example]:
    """Best, median and worst window by CRPS of every model (of the yardstick where there is no model)."""
    models = _sides(forecasters)[0] or [YARDSTICK]
    scores = table.groupby(["forecaster", "group", "symbol", "cutoff"])["crps"].mean()
    by_key = {(w.group, w.context.symbol, pd.Timestamp(w.context.cutoff)): w for w in windows}
    chosen = []
    for forecaster in [one for one in forecasters if one.name in models]:
        ranked = scores[forecaster.name].sort_values(kind="stable")
        for kind, place in (("best", 0), ("median", len(ranked) // 2), ("worst", len(ranked) - 1)):
            window = by_key[ranked.index[place]]
            spec = ForecastSpec(horizon=len(window.truth), num_samples=plan.num_samples, seed=plan.seed)
            paths = forecaster.sample_paths([window.context], spec)[0]
            chosen.append(Example(forecaster.name, kind, float(ranked.iloc[place]), window, np.asarray(paths, float)))
    return chosen


def describe(forecaster: Forecaster) -> dict[str, Any]:
    """Name, kind, fingerprint and end of training of a forecaster."""
    end = getattr(forecaster, "training_cutoff", None)
    return {
        "name": forecaster.name,
        "kind": "baseline" if forecaster.name in BASELINES else "model",
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
