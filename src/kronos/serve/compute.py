"""One batch of forecasts: what is alike is computed together, what is identical once, and each result is written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kronos.bars.calendar import FutureTimes, future_times
from kronos.errors import Cancelled, DataError
from kronos.inference.forecast import Forecast
from kronos.serve.errors import ApiError, from_error
from kronos.serve.results import document, headline, write_result
from kronos.serve.tables import Tables, as_written, description, one_series

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

CALENDAR_BARS = 4096  # enough to recognise a calendar by


@dataclass(frozen=True)
class Task:
    """A forecast to make.

    Attributes:
        id: of the job.
        path, name, symbol: the bars, what to call them, and which series of them.
        result: where to write the document.
        parameters: what was asked, as the document repeats it.
    """

    id: str
    path: Path
    name: str
    symbol: str | None
    result: Path
    parameters: dict[str, Any]

    @property
    def work(self) -> tuple[str, ...]:
        """Tasks of one batch with the same work have the same outcome."""
        return (str(self.path), *(str(self.parameters[key]) for key in ("symbol", "cutoff", "calendar")))


@dataclass(frozen=True)
class Prepared:
    """A series up to its cutoff, the times to forecast, and what is known of them."""

    context: pd.DataFrame
    future: FutureTimes
    truth: pd.DataFrame | None
    facts: dict[str, Any]


Tell = Callable[[dict[str, Any]], None]


class Batch:
    """Tasks that share a model and the settings.

    Args:
        tasks: what to do.
        settings: the values that they have in common (``kronos.serve.jobs.COMMON``).
        cancelled: whether a task is no longer wanted.
        tell: told events: ``progress`` of the batch, and the end of each task.
    """

    def __init__(
        self,
        tasks: list[Task],
        settings: dict[str, Any],
        tables: Tables,
        cancelled: Callable[[str], bool],
        tell: Tell,
    ) -> None:
        self.settings, self.tables = settings, tables
        self.cancelled, self.tell = cancelled, tell
        self.ended: set[tuple[str, ...]] = set()  # works whose end was told
        self.groups: dict[tuple[str, ...], list[Task]] = {}
        for task in tasks:
            self.groups.setdefault(task.work, []).append(task)

    def run(self, predictor: KronosPredictor) -> None:
        """Compute all, and tell the end of each task."""
        ready: dict[tuple[str, ...], Prepared] = {}
        for work, tasks in self.groups.items():
            if self._wanted([work]):
                try:
                    ready[work] = self._prepare(tasks[0], predictor.max_context)
                except Exception as error:
                    self._refuse(work, error)
        if not ready:
            return
        try:
            self._compute(predictor, ready)
        except Exception:
            # One series spoils the batch: each for itself, so that only that one is refused.
            for work, prepared in ready.items():
                try:
                    self._compute(predictor, {work: prepared})
                except Exception as error:
                    self._refuse(work, error)

    def _compute(self, predictor: KronosPredictor, ready: dict[tuple[str, ...], Prepared]) -> None:
        keys = {str(number): work for number, work in enumerate(ready) if self._wanted([work])}
        if not keys:
            return
        began = time.perf_counter()
        made = predictor.forecast_many(
            {key: ready[work].context for key, work in keys.items()},
            future={key: ready[work].future.timestamps for key, work in keys.items()},
            cancel=lambda: not self._wanted(keys.values()),
            progress=self._progress,
            **self.settings,
        )
        try:
            for key, forecast in made:
                work = keys[key]
                try:
                    self._finish(work, forecast, ready[work], time.perf_counter() - began)
                except Exception as error:
                    self._refuse(work, error)
        except Cancelled as error:
            for work in keys.values():
                self._refuse(work, error)

    def _prepare(self, task: Task, most: int) -> Prepared:
        bars = one_series(self.tables.read(task.path, task.symbol))
        facts = description(bars)
        horizon, cutoff = int(self.settings["horizon"]), task.parameters["cutoff"]
        symbol = bars.attrs["report"].symbol
        end, truth = len(bars), None
        if cutoff is not None:
            end = int(bars["timestamp"].searchsorted(as_written(cutoff, bars), side="right"))
            if end in (0, len(bars)):
                first, last = facts["report"]["first"], facts["report"]["last"]
                raise DataError(f"A replay needs bars before and after its cutoff; these run from {first} to {last}.")
            truth = bars.iloc[end : end + horizon].reset_index(drop=True)
        past = bars.iloc[:end]
        future = times_ahead(past, truth, horizon, task.parameters["calendar"], symbol)
        report = facts["report"]
        known = {key: report[key] for key in ("rows", "first", "last", "frequency", "calendar")}
        about = {"name": task.name, "symbol": symbol, **known, "report": report}
        context = past.iloc[-(most + 8) :].reset_index(drop=True)
        context.attrs = {}
        return Prepared(context, future, truth, about)

    def _finish(self, work: tuple[str, ...], forecast: Forecast, prepared: Prepared, seconds: float) -> None:
        future = prepared.future
        estimated = int(future.estimated.sum())
        notes = [*forecast.metadata["warnings"], *future.notes]
        if estimated:
            notes.append(f"{estimated} timestamps lie beyond the calendar's end and are estimated")
        metadata = {
            **forecast.metadata,
            "calendar": future.calendar,
            "frequency": future.frequency,
            "estimated_timestamps": estimated,
            "warnings": notes,
            "seconds": round(seconds, 3),
        }
        forecast = dataclasses.replace(forecast, metadata=metadata, symbol=prepared.facts["symbol"])
        content = document(forecast, prepared.truth)
        for task in self.groups[work]:
            if self.cancelled(task.id):
                self.tell({"event": "cancelled", "id": task.id})
                continue
            whole = {"id": task.id, "parameters": task.parameters, "input": prepared.facts, **content}
            try:
                write_result(task.result, whole, forecast.samples)
            except OSError as error:
                refusal = ApiError(422, "not_stored", f"The result could not be stored: {error.strerror}.")
                self.tell({"event": "failed", "id": task.id, "error": refusal.to_dict()})
            else:
                self.tell({"event": "done", "id": task.id, "summary": headline(whole)})
        self.ended.add(work)

    def _refuse(self, work: tuple[str, ...], error: Exception) -> None:
        if work in self.ended:
            return
        self.ended.add(work)
        for task in self.groups[work]:
            if isinstance(error, Cancelled) or self.cancelled(task.id):
                self.tell({"event": "cancelled", "id": task.id})
            else:
                refusal = from_error(error, [(task.path, task.name)])
                self.tell({"event": "failed", "id": task.id, "error": refusal.to_dict()})

    def _wanted(self, works: Iterable[tuple[str, ...]]) -> bool:
        """Whether anybody still waits for one of these."""
        going = (work for work in works if work not in self.ended)
        return not all(self.cancelled(task.id) for work in going for task in self.groups[work])

    def _progress(self, done: int, total: int) -> None:
        self.tell({"event": "progress", "done": done, "total": total})


def times_ahead(
    past: pd.DataFrame, truth: pd.DataFrame | None, horizon: int, calendar: str | None, symbol: str | None
) -> FutureTimes:
    """The times of the bars to forecast: in a replay those that came, beyond them (or without) the calendar's."""
    came = pd.DatetimeIndex([]) if truth is None else pd.DatetimeIndex(truth["timestamp"])
    times = pd.DatetimeIndex(past["timestamp"])
    if len(came):
        times = pd.DatetimeIndex(times.append(came))
    lacking = horizon - len(came)
    found = future_times(times[-CALENDAR_BARS:], max(1, lacking), calendar, symbol=symbol)
    if not len(came):
        return found
    rest, estimated = found.timestamps[:lacking], found.estimated[:lacking]
    whole = pd.DatetimeIndex(came.append(rest))
    flags = pd.Series(False, index=range(len(whole))).to_numpy(copy=True)
    flags[len(came) :] = estimated
    return dataclasses.replace(found, timestamps=whole, estimated=flags)
