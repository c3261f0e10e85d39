"""The process that computes: ``python -m kronos.serve.worker``.

Its main thread reads what the server says, so that a cancellation is heard at once; one thread makes the forecasts,
and each model is loaded in a thread by itself, since a download may take minutes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import torch
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from kronos.errors import KronosError
from kronos.inference.predictor import KronosPredictor
from kronos.model.checkpoint import info, list_models, model_card
from kronos.serve.batch import ForecastBatch, Order
from kronos.serve.child import Channel, Message
from kronos.serve.errors import ApiError, from_error

_EVERY = 0.1  # seconds between two words on progress
_NICER = 5  # the server answers first, the forecast goes on after


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
        worker.hear(message)
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

    def hear(self, message: Message) -> None:
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

    def load(self, model: str, source: str, device: str | None) -> dict[str, Any]:
        """Load a model, or move it to another device."""
        predictor = KronosPredictor.from_pretrained(source, device=device)
        predictor.engine.weights()  # fused now rather than in the first forecast
        predictor.name = model
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
        hide = [(Path(message["source"]), message.get("model", "the model"))] if "source" in message else []
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


def catalogue(folders: dict[str, str]) -> list[dict[str, Any]]:
    """The family, and what is known of local folders without loading them."""
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
    local = {"kind": "local", "downloaded": True}
    return [*found, *({"id": id, "source": folder, **local, **_facts(id, folder)} for id, folder in folders.items())]


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
