"""The process that computes: ``python -m kronos.serve.forecaster``.

Its main thread reads what the server says, so that a cancellation is heard at once; one thread makes the forecasts,
and each model is loaded in a thread of its own, since a download may take minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from kronos.errors import KronosError
from kronos.inference.predictor import KronosPredictor
from kronos.serve.child import Channel, Message, leave_signals_to_the_server, messages
from kronos.serve.compute import Batch, Task
from kronos.serve.errors import ApiError, from_error, from_kronos
from kronos.serve.tables import Tables

_EVERY = 0.1  # seconds between two words on progress
_NICER = 5  # the server answers first, the forecast goes on after


def main() -> None:
    """Answer calls until the input ends; whatever is under way then is dropped."""
    channel = Channel.take_stdout()
    leave_signals_to_the_server()
    if hasattr(os, "nice"):
        os.nice(_NICER)
    forecaster = Forecaster(channel)
    channel.send({"event": "ready", "devices": devices()})
    for message in messages(sys.stdin.buffer):
        forecaster.hear(message)
    os._exit(0)  # not a normal exit, which would wait for the threads


def devices() -> list[str]:
    """Where models can be put."""
    import torch

    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


class Forecaster:
    """The models that are loaded, and the operations, each named as the server calls it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.models: dict[str, KronosPredictor] = {}
        self.unwanted: set[str] = set()
        self.lock = Lock()
        self.tables = Tables()
        self.batches: SimpleQueue[Message] = SimpleQueue()
        Thread(target=self._work, name="kronos-forecasts", daemon=True).start()

    def hear(self, message: Message) -> None:
        """Act on one message, without waiting for long."""
        op = message["op"]
        if op == "cancel":
            with self.lock:
                self.unwanted.update(message["ids"])
        elif op == "forecast":
            self.batches.put(message)
        else:
            operation = {"load": self.load, "unload": self.unload, "catalogue": self.catalogue, "card": self.card}[op]
            Thread(target=self._answer, args=(operation, message), daemon=True).start()

    # -- operations ---------------------------------------------------------------------------------------------------

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

    def catalogue(self, folders: dict[str, str]) -> list[dict[str, Any]]:
        """The family, and what is known of local folders without loading them."""
        from kronos.model.catalogue import list_models

        found = [
            {
                "id": one.name,
                "kind": "embedded" if one.source == "embedded" else "family",
                "source": one.name,
                "parameters": one.parameters,
                "context": one.context_length,
                "downloaded": one.path is not None,
                "training_cutoff": _training_cutoff(one.path) if one.path else None,
                "error": None,
            }
            for one in list_models()
        ]
        return [*found, *(_local(name, folder) for name, folder in folders.items())]

    def card(self, source: str) -> str | None:
        """The model card, if one lies beside the weights; nothing is downloaded for it."""
        from kronos.model.catalogue import list_models, model_card

        places = {one.name: one.path for one in list_models()}
        place = places.get(source, Path(source))
        return None if place is None else model_card(str(place))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _answer(self, operation: Callable[..., Any], message: Message) -> None:
        number = message.pop("call")
        message.pop("op")
        hide = [(Path(message["source"]), message.get("model", "the model"))] if "source" in message else []
        try:
            self.channel.send({"call": number, "result": operation(**message)})
        except Exception as error:
            self.channel.send({"call": number, "error": from_error(error, hide).to_dict()})

    def _work(self) -> None:
        while True:
            message = self.batches.get()
            answer: dict[str, Any] = {"call": message["call"], "result": {}}
            try:
                self._forecast(message)
            except Exception as error:
                answer = {"call": message["call"], "error": from_error(error).to_dict()}
            with self.lock:
                self.unwanted.clear()  # one batch is under way at a time, and this one is over
            self.channel.send(answer)

    def _forecast(self, message: Message) -> None:
        predictor = self.models.get(message["model"])
        if predictor is None:
            raise ApiError(409, "unloaded", f"{message['model']} was unloaded before the forecast began. Ask again.")
        tasks = [
            Task(
                id=job["id"],
                path=Path(job["path"]),
                name=job["name"],
                symbol=job["parameters"]["symbol"],
                result=Path(job["result"]),
                parameters=job["parameters"],
            )
            for job in message["jobs"]
        ]
        told = 0.0

        def tell(event: dict[str, Any]) -> None:
            nonlocal told
            if event["event"] == "progress":
                now = time.monotonic()
                if now - told < _EVERY and event["done"] < event["total"]:
                    return
                told = now
            self.channel.send(event)

        Batch(tasks, message["settings"], self.tables, self.unwanted.__contains__, tell).run(predictor)


def _local(name: str, folder: str) -> dict[str, Any]:
    from kronos.model.catalogue import info

    entry: dict[str, Any] = {"id": name, "kind": "local", "source": folder, "downloaded": True}
    try:
        facts = info(folder)
    except KronosError as error:
        text = from_kronos(error, [(Path(folder), name)]).message
        return entry | {"parameters": None, "context": None, "training_cutoff": None, "error": text}
    cutoff = _latest(facts["config"].get("training_cutoff"))
    parameters = facts["parameters"] + facts.get("tokenizer_parameters", 0)
    return entry | {
        "parameters": parameters,
        "context": facts["context_length"],
        "training_cutoff": cutoff,
        "error": None,
    }


def _training_cutoff(folder: Path) -> str | None:
    from kronos.model.catalogue import info

    try:
        return _latest(info(str(folder))["config"].get("training_cutoff"))
    except KronosError:
        return None


def _latest(stated: Any) -> str | None:
    dates = list(stated.values()) if isinstance(stated, dict) else [stated]
    return max((str(date) for date in dates if date is not None), default=None)


if __name__ == "__main__":
    main()
