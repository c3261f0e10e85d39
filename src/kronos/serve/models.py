"""Which models there are, which are loaded, and how much memory they may take together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

from prometheus_client import Gauge
from pydantic import Field

from kronos.serve.child import Child
from kronos.serve.errors import ApiError, from_error, not_found
from kronos.serve.schemas import ModelItem
from kronos.serve.settings import COUNTS, digest_of_name

_MEMORY = Gauge("kronos_model_bytes", "Memory of loaded models.", registry=COUNTS)
_BYTES_A_PARAMETER = 8  # float32, twice: the weights and their fused copy
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Model(ModelItem):
    """A model as the API shows it, and what it does not show."""

    source: str = Field(exclude=True)  # what the library loads: a name or a folder …
    tokenizer: str | None = Field(None, exclude=True)  # … and with what, where it is not the one that belongs to it
    used: float = Field(0.0, exclude=True)  # when it was last used, by the loop's clock

    @classmethod
    def found(cls, entry: dict[str, Any]) -> Model:
        """An entry of the catalogue."""
        unknown = dict.fromkeys(("device", "parameters", "context", "bytes", "training_cutoff", "error"))
        model = cls(**{**unknown, "name": entry["id"].removeprefix("local-"), "state": "unloaded", **entry})
        model.forget("unloaded")
        return model

    @property
    def estimate(self) -> int:
        """Bytes that it needs."""
        return (self.parameters or 0) * _BYTES_A_PARAMETER

    def forget(self, state: Literal["unloaded", "failed"]) -> None:
        """It is not in memory any more."""
        self.state, self.device, self.bytes = state, None, self.estimate or None


class Models:
    """The models at hand.

    Args:
        worker: where they are loaded.
        folder: where the user puts checkpoints, each a folder.
        budget: bytes that loaded models may take together.
        model, tokenizer: one more model, wherever it lies, and another tokenizer than the one that belongs to it.
    """

    def __init__(
        self, worker: Child, folder: Path, budget: int, model: str | None = None, tokenizer: str | None = None
    ) -> None:
        self.worker, self.folder, self.budget = worker, folder, budget
        self.given, self.tokenizer = model, tokenizer
        self.devices: list[str] = []
        self.ready = asyncio.Event()
        self._models: dict[str, Model] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._listing = asyncio.Lock()
        worker.on_loss = self.is_lost
        _MEMORY.set_function(self.used)

    def is_lost(self) -> None:
        """The worker has died, and every model with it."""
        self.ready.clear()
        for model in self._models.values():
            if model.state != "failed":
                model.forget("unloaded")

    async def list(self) -> list[Model]:
        """All models; the folder is looked at anew."""
        async with self._listing:
            sources = self._sources()
            if not self._models or sources.keys() != {m.id for m in self._models.values() if m.kind == "local"}:
                found = await self.worker.call("catalogue", sources=sources)
                for entry in found:
                    entry["tokenizer"] = self.tokenizer if entry["source"] == self.given else None
                self._models = {entry["id"]: self._models.get(entry["id"]) or Model.found(entry) for entry in found}
        return list(self._models.values())

    async def get(self, id: str) -> Model:
        """One model."""
        if id not in self._models:
            await self.list()
        if id not in self._models:
            raise not_found("model")
        return self._models[id]

    async def card(self, model: Model) -> dict[str, Any]:
        """The model card as Markdown and as elements."""
        try:
            return dict(await self.worker.call("card", source=model.source))
        except ApiError:  # damaged, or not downloaded yet
            return {"text": None, "elements": None}

    def state(self, id: str) -> str:
        """``unloaded``, ``loading``, ``loaded`` or ``failed``."""
        return self._models[id].state if id in self._models else "unloaded"

    def touch(self, id: str) -> None:
        """The model is being used."""
        if id in self._models:
            self._models[id].used = asyncio.get_running_loop().time()

    async def load(self, id: str, device: str | None = None) -> None:
        """As ``begin_load``; return when it is done."""
        await self.begin_load(await self.get(id), device)

    def begin_load(self, model: Model, device: str | None = None) -> asyncio.Task[Any]:
        """Begin to load a model, or to move it to another device."""
        if device is not None and device not in self.devices:
            raise ApiError(422, "device", f"There is no device '{device[:20]}' here; choose {', '.join(self.devices)}.")
        if model.state == "loading":
            return self._tasks[model.id]
        if model.state == "loaded" and device in (None, model.device):
            return asyncio.create_task(asyncio.sleep(0))
        self._make_room(model)
        model.state, model.error = "loading", None
        return self._keep(model.id, self._load(model, device))

    def unload(self, model: Model) -> asyncio.Task[Any]:
        """Begin to free a model's memory."""
        if model.state == "loading":
            raise ApiError(409, "loading", "The model is being loaded. Unload it when that is done.")
        model.forget("unloaded")
        model.error = None
        return self._keep(f"unload {model.id}", self.worker.call("unload", model=model.id))

    def used(self, but: Model | None = None) -> int:
        """Bytes of loaded models, and of those that are being loaded; one may be left out."""
        models = (m for m in self._models.values() if m.state in ("loaded", "loading") and m is not but)
        return sum(model.bytes or 0 for model in models)

    async def _load(self, model: Model, device: str | None) -> None:
        try:
            halves: dict[str, Any] = {"source": model.source, "tokenizer": model.tokenizer}
            found = await self.worker.call("load", model=model.id, **halves, device=device)
        except Exception as error:
            refusal = from_error(error)
            model.forget("failed")
            model.error = refusal.message
            raise refusal from None  # where it is not for callers, the log has it by now
        model.device, model.bytes, model.context = found["device"], found["bytes"], found["context"]
        model.state, model.downloaded = "loaded", True
        self.touch(model.id)

    def _make_room(self, model: Model) -> None:
        """Unload what was used least lately until the model fits."""
        if model.estimate > self.budget:
            needed, most = (f"{size / 1e6:,.0f} MB" for size in (model.estimate, self.budget))
            raise ApiError(413, "too_large", f"{model.id} needs about {needed}; all models together may take {most}.")
        loaded = (m for m in self._models.values() if m.state == "loaded" and m is not model)
        for idle in sorted(loaded, key=lambda m: m.used):
            if self.used(but=model) + model.estimate > self.budget:
                self.unload(idle)
        if self.used(but=model) + model.estimate > self.budget:
            raise ApiError(409, "no_room", "Other models are being loaded and fill the memory. Try again soon.", 2)

    def _keep(self, key: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start work on a model and keep hold of it until it is done; whoever waits for it is told of errors."""

        def done(task: asyncio.Task[Any]) -> None:
            if self._tasks.get(key) is task:
                del self._tasks[key]
            if not task.cancelled():
                task.exception()

        self._tasks[key] = task = asyncio.create_task(work)
        task.add_done_callback(done)
        return task

    def _sources(self) -> dict[str, str]:
        """Checkpoints in the folder, by id, and the one that is given; links that lead out of it are left out."""
        root = self.folder.resolve()
        found: dict[str, Path | str] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            inside = path.is_dir() and path.resolve().is_relative_to(root)
            places = [path / part / "config.json" for part in ("", "model", "basemodel/best_model")]
            if "-Tokenizer-" in path.name:  # published, for the models beside it
                continue
            if inside and any(place.is_file() for place in places):
                found[_local_id(path.name)] = path
        if self.given is not None:
            found[_local_id(Path(self.given).name)] = self.given
        return {id: str(source) for id, source in found.items()}


def _local_id(name: str) -> str:
    return f"local-{name if _PLAIN_NAME.fullmatch(name) else digest_of_name(name)}"
