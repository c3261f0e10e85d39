"""Saved state of a run: one safetensors file, written aside and moved into place, so that a kill loses nothing.

The last two states are kept. Each carries a hash of its tensors; where the last one is damaged, the one before is used.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kronos.bars.arrays import BarArrays
from kronos.bars.transform import DEFAULT_CLIP
from kronos.errors import CheckpointError
from kronos.model.checkpoint import save_tensors
from kronos.training.config import RunConfig
from kronos.training.parallel import divided_like, full_tensor
from kronos.training.stages import ModelStage, Stage

STATE_FILE = "state.safetensors"
PREVIOUS_FILE = "state.previous.safetensors"


class DamagedStateWarning(UserWarning):
    """What was saved last is damaged; the run goes on from what was saved before."""


def save_state(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
    *,
    write: bool = True,
) -> None:
    """Writes weights, optimizer and step into one file that appears whole or not at all; keeps the one before.

    Every process has to call, since they put sharded tensors together; ``write``: False where another one writes.

    Raises:
        CapacityError: it cannot be written, for instance because the disk is full. Earlier states stay.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    tensors = {f"weights/{name}": value for name, value in whole_state(module).items()}
    for group in optimizer.param_groups:  # in this order on every process, since putting together is a meeting
        for parameter in group["params"]:
            for slot, value in optimizer.state.get(parameter, {}).items():
                key = f"optimizer/{names[id(parameter)]}/{slot}"
                tensors[key] = full_tensor(torch.as_tensor(value).detach()).cpu().contiguous()
    if write:
        described = {"step": str(step), "extra": json.dumps(extra)}
        metadata = {**described, "hash": _hash(tensors, described)}
        save_tensors(folder / STATE_FILE, tensors, metadata, previous=folder / PREVIOUS_FILE)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state on the CPU, put together from its shards where it is divided; each process has to call."""
    return {name: full_tensor(value.detach()).cpu().contiguous() for name, value in module.state_dict().items()}


def load_state(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, expected: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]] | None:
    """Restores the newest whole state and returns its step and extra values; None where there is none.

    Args:
        expected: extra values that must be the same as when the state was saved, such as the data's hash.

    Raises:
        CheckpointError: every state is damaged, or is of a run with other settings.
    """
    found = [path for path in (folder / STATE_FILE, folder / PREVIOUS_FILE) if path.exists()]
    for path in found:
        try:
            tensors, step, extra = _read(path)
        except CheckpointError as error:
            if path == found[-1]:
                raise CheckpointError(f"{error}; start afresh without resuming") from error
            warnings.warn(f"{error}; going on from {found[-1].name}", DamagedStateWarning, stacklevel=2)
            continue
        for name, value in (expected or {}).items():
            if extra.get(name) != value:
                raise CheckpointError(f"{path} belongs to a run with another {name}; start afresh or restore it")
        try:
            _restore(tensors, module, optimizer)
        except (RuntimeError, KeyError, ValueError) as error:
            words = "belongs to a run with other settings; start afresh or restore them"
            raise CheckpointError(f"{path} {words}") from error
        return step, extra
    return None


def identity(config: RunConfig, stage: Stage, arrays: BarArrays, ranks: int = 1) -> dict[str, str]:
    """What a state must agree on to be gone on from: bars, windows, shapes, losses, rates, and what chooses weights.

    How many steps there are may change, where the run computes, and how often it saves, validates and reports. Two
    processes go on where one with twice the batch size has stopped: they draw the same windows.
    """
    decisive = config.model_dump(mode="json", include={"seed", "dtype", "loss", "tokenizer", "model"})
    elsewhere: Any = dict.fromkeys(("arrays", "bars", "on_defect", "judged_share"), True) | {"dates": {"judged"}}
    decisive["data"] = config.data.model_dump(mode="json", exclude=elsewhere)
    decisive["optim"] = config.optim_of(stage.name).model_dump(mode="json", exclude={"steps"})
    decisive["optim"]["batch_size"] *= ranks
    # Settings that were added later count only where they are used, so that older states can be gone on from.
    for name, without in (("schedule", "cosine"), ("initial_lr", 0.0)):
        if decisive["optim"][name] == without:
            del decisive["optim"][name]
    if decisive["data"]["clip"] == DEFAULT_CLIP:
        del decisive["data"]["clip"]
    if config.data.dates is None:
        del decisive["data"]["dates"]
    decisive |= config.model_dump(
        mode="json", include={"dropout", "lora", "choose_by", "time_features"}, exclude_defaults=True
    )
    if config.choose_by == "crps" and isinstance(stage, ModelStage):
        decisive["forecasts"] = config.forecasts.model_dump(mode="json")
    tokens = hashlib.blake2b(digest_size=16)
    if isinstance(stage, ModelStage):
        if stage.tokenizer.config.bar_transform != "returns":
            tokens.update(stage.tokenizer.config.bar_transform.encode())
        for name, tensor in stage.tokenizer.state_dict().items():
            tokens.update(name.encode() + tensor.cpu().numpy().tobytes())
    settings = hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16)
    return {"data_hash": arrays.data_hash, "settings": settings.hexdigest(), "tokenizer": tokens.hexdigest()}


def _read(path: Path) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        described = {"step": metadata["step"], "extra": metadata["extra"]}
        if metadata["hash"] != _hash(tensors, described):
            raise ValueError("its hash does not fit")
        return tensors, int(metadata["step"]), json.loads(metadata["extra"])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())})") from error


def _restore(tensors: dict[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    names, present = {id(parameter): name for name, parameter in module.named_parameters()}, module.state_dict()
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    module.load_state_dict({name: divided_like(value, present[name]) for name, value in weights.items()})
    slots: dict[str, dict[str, Tensor]] = {name: {} for name in names.values()}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            name, _, slot = key.removeprefix("optimizer/").rpartition("/")
            slots[name][slot] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for slot, value in slots[names[id(parameter)]].items():
                # the count of steps stays on the CPU unless the fused kernel reads it
                moved = value.to(parameter.device) if group.get("fused") and not value.ndim else value
                optimizer.state[parameter][slot] = divided_like(value, parameter) if value.ndim else moved


def _hash(tensors: dict[str, Tensor], described: dict[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
