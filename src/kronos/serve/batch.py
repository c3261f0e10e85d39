"""One batch of forecasts: what is alike is computed together, what is identical once, and each result is written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.bars.calendar import FutureTimes, future_times
from kronos.bars.cut import as_written
from kronos.errors import Cancelled, DataError, KronosError
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor
from kronos.serve.documents import description, document, headline, one_series, read_table, write_result
from kronos.serve.errors import ApiError, from_error, without_paths
from kronos.serve.schemas import OF_THE_TIMES, spec_of

CALENDAR_BARS = 4096  # enough to recognise a calendar by
Key = tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """A forecast to make.

    Attributes:
        id: of the job.
        path, name: the file of the bars, and what to call it.
        result: where to write the document.
        parameters: of the request, as the document repeats them.
    """

    id: str
    path: str
    name: str
    result: str
    parameters: dict[str, Any]

    @property
    def key(self) -> Key:
        """Orders of one batch with the same key have the same outcome."""
        return (self.path, *(str(self.parameters[name]) for name in ("symbol", "cutoff", *OF_THE_TIMES)))


@dataclass(frozen=True)
class PreparedSeries:
    """A series up to its cutoff, the times to forecast, the bars that came, and what is known of the file."""

    context: pd.DataFrame
    future: FutureTimes
    truth: pd.DataFrame | None
    facts: dict[str, Any]


class ForecastBatch:
    """Orders that share a model and the settings of the sampling.

    Args:
        cancelled: whether a job is no longer wanted.
        tell: told events: ``progress`` of the batch, and the end of each job.
    """

    def __init__(
        self, orders: list[Order], cancelled: Callable[[str], bool], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.spec = spec_of(orders[0].parameters)
        self.cancelled, self.tell = cancelled, tell
        self.ended: set[Key] = set()  # of which everybody was told
        self.groups: dict[Key, list[Order]] = {}
        for order in orders:
            self.groups.setdefault(order.key, []).append(order)

    def run(self, predictor: KronosPredictor) -> None:
        """Compute all, and tell the end of each job."""
        ready: dict[Key, PreparedSeries] = {}
        for key, orders in self.groups.items():
            if self._wanted([key]):
                try:
                    ready[key] = self._prepare(orders[0], predictor.max_context)
                except Exception as error:
                    self._refuse(key, error)
        try:
            self._compute(predictor, ready)
        except Exception:
            # One series spoils the batch: each for itself, so that only that one is refused.
            for key, prepared in ready.items():
                try:
                    self._compute(predictor, {key: prepared})
                except Exception as error:
                    self._refuse(key, error)

    def _compute(self, predictor: KronosPredictor, ready: dict[Key, PreparedSeries]) -> None:
        keys = {str(number): key for number, key in enumerate(ready) if self._wanted([key])}
        if not keys:
            return
        began = time.perf_counter()
        made = predictor.answer_many(
            {name: ready[key].context for name, key in keys.items()},
            self.spec,
            future={name: ready[key].future.timestamps for name, key in keys.items()},
            cancel=lambda: not self._wanted(keys.values()),
            progress=lambda done, total: self.tell({"event": "progress", "done": done, "total": total}),
        )
        try:
            for name, forecast in made:
                try:
                    self._finish(keys[name], forecast, ready[keys[name]], time.perf_counter() - began)
                except Exception as error:
                    self._refuse(keys[name], error)
        except Cancelled as error:
            for key in keys.values():
                self._refuse(key, error)

    def _prepare(self, order: Order, max_context: int) -> PreparedSeries:
        """In a replay the times are those of the bars that came; beyond them, or without, the calendar's."""
        parameters = order.parameters
        bars = one_series(read_table(Path(order.path), parameters["symbol"]))
        report, symbol = description(bars)["report"], bars.attrs["report"].symbol
        end, truth, came = len(bars), None, 0
        if parameters["cutoff"] is not None:
            end = int(bars["timestamp"].searchsorted(as_written(parameters["cutoff"], bars), side="right"))
            if end in (0, len(bars)):
                first, last = report["first"], report["last"]
                raise DataError(f"A replay needs bars before and after its cutoff; these run from {first} to {last}.")
            truth = bars.iloc[end : end + self.spec.horizon].reset_index(drop=True)
            came = len(truth)
        times = pd.DatetimeIndex(bars["timestamp"].iloc[: end + came])
        lacking, asked = self.spec.horizon - came, {name: parameters[name] for name in OF_THE_TIMES}
        future = future_times(times[-CALENDAR_BARS:], max(1, lacking), symbol=symbol, **asked)
        if came:
            whole = pd.DatetimeIndex(times[end:].append(future.timestamps[:lacking]))
            estimated = np.concatenate([np.zeros(came, dtype=bool), future.estimated[:lacking]])
            future = dataclasses.replace(future, timestamps=whole, estimated=estimated)
        known = {key: report[key] for key in ("rows", "first", "last", "frequency", "calendar")}
        context = bars.iloc[max(0, end - max_context - 8) : end].reset_index(drop=True)
        context.attrs = {}
        return PreparedSeries(context, future, truth, {"name": order.name, "symbol": symbol, **known, "report": report})

    def _finish(self, key: Key, forecast: Forecast, prepared: PreparedSeries, seconds: float) -> None:
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
        for order in self.groups[key]:
            if self.cancelled(order.id):
                self.tell({"event": "cancelled", "id": order.id})
                continue
            whole = {"id": order.id, "parameters": order.parameters, "input": prepared.facts, **content}
            try:
                write_result(Path(order.result), whole, forecast.samples)
            except (OSError, KronosError) as error:
                reason = getattr(error.__cause__, "strerror", None) or without_paths(str(error))
                refusal = ApiError(422, "not_stored", f"The result could not be stored: {reason}.")
                self.tell({"event": "failed", "id": order.id, "error": refusal.to_dict()})
            else:
                self.tell({"event": "done", "id": order.id, "summary": headline(content)})
        self.ended.add(key)

    def _refuse(self, key: Key, error: Exception) -> None:
        if key in self.ended:
            return
        self.ended.add(key)
        for order in self.groups[key]:
            if isinstance(error, Cancelled) or self.cancelled(order.id):
                self.tell({"event": "cancelled", "id": order.id})
            else:
                refusal = from_error(error, [(Path(order.path), order.name)])
                self.tell({"event": "failed", "id": order.id, "error": refusal.to_dict()})

    def _wanted(self, keys: Iterable[Key]) -> bool:
        """Whether anybody still waits for one of these."""
        return not all(self.cancelled(order.id) for key in keys if key not in self.ended for order in self.groups[key])
