"""The process that computes: ``python -m kronos.serve.worker``.

Its main thread reads what the server says, so that a cancellation is heard at once; one thread makes the forecasts,
and each model is loaded in a thread by itself, since a download may take minutes. Of a batch of forecasts what is
alike is computed together, what is identical once.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import numpy as np
import pandas as pd
import torch
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from kronos.bars.calendar import FutureTimes, future_times
from kronos.bars.cut import as_written
from kronos.errors import Cancelled, DataError, KronosError
from kronos.inference.assemble import CALENDAR_BARS
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor
from kronos.model.checkpoint import info, list_models, model_card
from kronos.serve.child import Channel, Message
from kronos.serve.documents import description, document, headline, one_series, read_table, write_result
from kronos.serve.errors import ApiError, from_error, without_paths
from kronos.serve.schemas import OF_THE_TIMES
from kronos.spec import spec_of

_EVERY = 0.1  # seconds between two words on progress
_NICER = 5  # the server answers first, the forecast goes on after
Key = tuple[str, ...]


def main() -> None:
    """Answer calls until the input ends; whatever is under way then is dropped."""
    channel = Channel.open()
    if hasattr(os, "nice"):
        os.nice(_NICER)
    worker = Worker(channel)
    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    channel.send({"event": "ready", "devices": devices})
    for message in channel.messages():
        worker.handle(message)
    os._exit(0)  # not a normal exit, which would wait for the threads


class Worker:
    """The models that are loaded, and the operations, each named as the server calls it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.models: dict[str, KronosPredictor] = {}
        self.unwanted: set[str] = set()
        self.lock = Lock()
        self.batches: SimpleQueue[Message] = SimpleQueue()
        self.told = 0.0  # when progress was last told
        Thread(target=self._work, name="kronos-forecasts", daemon=True).start()

    def handle(self, message: Message) -> None:
        """Act on one message, without waiting for long."""
        op = message.pop("op")
        if op == "cancel":
            with self.lock:
                self.unwanted.update(message["ids"])
        elif op == "forecast":
            self.batches.put(message)
        else:
            operation = {"load": self.load, "unload": self.unload, "catalogue": catalogue, "card": card}[op]
            Thread(target=self._answer, args=(operation, message), daemon=True).start()

    def load(self, model: str, source: str, device: str | None, tokenizer: str | None = None) -> dict[str, Any]:
        """Load a model, or move it to another device."""
        predictor = KronosPredictor.from_pretrained(source, device=device, tokenizer=tokenizer)
        predictor.engine.weights()  # fused now rather than in the first forecast
        predictor.name = model
        given = {"--model": source, "--tokenizer": tokenizer}
        names = [(option, Path(half).name) for option, half in given.items() if half is not None]
        predictor.loaded_by = shlex.join(word for pair in names for word in pair)  # a client sees no path of the server
        self.models[model] = predictor
        size = sum(p.numel() * p.element_size() for m in (predictor.model, predictor.tokenizer) for p in m.parameters())
        return {"device": str(predictor.device), "bytes": 2 * size, "context": predictor.max_context}

    def unload(self, model: str) -> dict[str, Any]:
        """Forget a model; a forecast that uses it ends first."""
        self.models.pop(model, None)
        return {}

    def forecast(self, model: str, orders: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of forecasts; events tell how each ends."""
        predictor = self.models.get(model)
        if predictor is None:
            raise ApiError(409, "unloaded", f"{model} was unloaded before the forecast began. Ask again.")
        ForecastBatch([Order(**order) for order in orders], self.unwanted.__contains__, self._tell).run(predictor)
        return {}

    def _answer(self, operation: Callable[..., Any], message: Message) -> None:
        number = message.pop("call")
        words = {"source": message.get("model", "the model"), "tokenizer": "its tokenizer"}
        hide = [(Path(message[name]), word) for name, word in words.items() if message.get(name)]
        try:
            answer = {"call": number, "result": operation(**message)}
        except Exception as error:
            answer = {"call": number, "error": from_error(error, hide).to_dict()}
        if operation == self.forecast:
            with self.lock:
                self.unwanted.clear()  # one batch is under way at a time, and this one is over
        self.channel.send(answer)

    def _work(self) -> None:
        while True:
            self._answer(self.forecast, self.batches.get())

    def _tell(self, event: Message) -> None:
        """Pass on an event of the batch; of the progress, not every step."""
        if event["event"] == "progress":
            now = time.monotonic()
            if now - self.told < _EVERY and event["done"] < event["total"]:
                return
            self.told = now
        self.channel.send(event)


# -- a batch of forecasts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """A forecast to make; the document repeats its parameters."""

    id: str
    path: str  # of the bars
    name: str  # what to call them
    result: str  # where to write the document
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
            future={name: ready[key].future for name, key in keys.items()},
            cancel=lambda: not self._wanted(keys.values()),
            progress=lambda done, total: self.tell({"event": "progress", "done": done, "total": total}),
        )
        try:
            for name, forecast in made:
                key = keys[name]
                try:
                    self._finish(key, forecast, ready[key], time.perf_counter() - began)
                except Exception as error:
                    self._refuse(key, error)
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
        metadata = {**forecast.metadata, "seconds": round(seconds, 3)}
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


# -- what is known of models -------------------------------------------------------------------------------------------


def catalogue(sources: dict[str, str]) -> list[dict[str, Any]]:
    """The family, and what is known of further models without loading them, or fetching them from the hub."""
    found = [
        {
            "id": one.name,
            "kind": "embedded" if one.source == "embedded" else "family",
            "source": one.name,
            "downloaded": one.path is not None,
            "parameters": one.parameters,
            "context": one.context_length,
            "training_cutoff": _facts(one.name, str(one.path))["training_cutoff"] if one.path else None,
        }
        for one in list_models()
    ]
    for id, source in sources.items():
        there = Path(source).is_dir()
        facts = _facts(id, source) if there else {}
        found.append({"id": id, "kind": "local", "source": source, "downloaded": there, **facts})
    return found


def _facts(id: str, folder: str) -> dict[str, Any]:
    """What a folder's files say of a checkpoint, or why they cannot be read."""
    try:
        facts = info(folder)
    except KronosError as error:
        return {"error": from_error(error, [(Path(folder), id)]).message, "training_cutoff": None}
    stated = facts["config"].get("training_cutoff")
    dates = [str(date) for date in (stated.values() if isinstance(stated, dict) else [stated]) if date is not None]
    return {
        "parameters": facts["parameters"] + facts.get("tokenizer_parameters", 0),
        "context": facts["context_length"],
        "training_cutoff": max(dates, default=None),
    }


def card(source: str) -> dict[str, Any]:
    """The model card, if one lies beside the weights; nothing is downloaded for it."""
    place = {one.name: one.path for one in list_models()}.get(source, Path(source))
    text = None if place is None else model_card(str(place))
    return {"text": text, "elements": None if text is None else elements(text)}


def elements(markdown: str) -> list[Any]:
    """Markdown as texts and ``[tag, address of a link or None, *children]``; tags in the text stay text."""
    body = re.sub(r"\A---\n.*?\n---\n", "", markdown.replace("\r\n", "\n"), flags=re.DOTALL)
    return _children(SyntaxTreeNode(MarkdownIt("commonmark", {"html": False}).enable("table").parse(body)))


def _children(node: SyntaxTreeNode) -> list[Any]:
    """What is in a node; what has no tag or is left out (a tight list's paragraph, an image) gives its own children."""
    found: list[Any] = []
    for child in node.children:
        if child.type in ("text", "softbreak"):
            found.append(child.content or " ")
        elif child.type == "code_inline":
            found.append(["code", None, child.content])
        elif child.type in ("fence", "code_block"):
            found.append(["pre", None, ["code", None, child.content]])
        elif child.hidden or child.type in ("inline", "image"):
            found += _children(child)
        else:
            found.append([child.tag, child.attrs.get("href"), *_children(child)])
    return found


if __name__ == "__main__":
    main()
