"""Saved state of a run: safetensors and JSON, written aside and moved into place, so that a kill loses nothing.

The last two states are kept. Each carries a hash of its tensors; where the last one is damaged, the one before is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kronos.errors import CapacityError, CheckpointError
from kronos.model.checkpoint import CONFIG_FILE, read_config
from kronos.training.parallel import divided_like, whole

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

    Args:
        write: False where another process writes. Sharded tensors are put together by all of them, so each has to call.

    Raises:
        CapacityError: it cannot be written, for instance because the disk is full. Earlier states stay.
    """
    from safetensors.torch import save_file

    names = _names(module)
    tensors = {f"weights/{name}": value for name, value in whole_state(module).items()}
    for group in optimizer.param_groups:  # in this order on every process, since putting together is a meeting
        for parameter in group["params"]:
            for slot, value in optimizer.state.get(parameter, {}).items():
                key = f"optimizer/{names[id(parameter)]}/{slot}"
                tensors[key] = whole(torch.as_tensor(value).detach()).cpu().contiguous()
    if not write:
        return
    described = {"step": str(step), "extra": json.dumps(extra)}
    path, temporary = folder / STATE_FILE, folder / f"{STATE_FILE}.tmp"
    with writing(temporary):
        save_file(tensors, temporary, metadata={**described, "hash": _digest(tensors, described)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():
            path.replace(folder / PREVIOUS_FILE)
        temporary.replace(path)
        _sync_folder(folder)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state on the CPU, put together from its shards where it is divided; each process has to call."""
    return {name: whole(value.detach()).cpu().contiguous() for name, value in module.state_dict().items()}


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
        _restore(path, tensors, module, optimizer)
        return step, extra
    return None


def change_config(folder: Path, **changes: Any) -> None:
    """Writes values into a checkpoint's config, which is replaced in one step."""
    path = folder / CONFIG_FILE
    replace_text(path, json.dumps({**read_config(path), **changes}, indent=2, sort_keys=True) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        CapacityError: it cannot be written. What was there before stays.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with writing(temporary):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def digest_of(path: Path) -> str:
    """A hash of a file; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a write that fails, as on a full disk, into one clear error; a half-written ``path`` is removed.

    Raises:
        CapacityError: what could not be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise CapacityError(
            f"{path} cannot be written ({reason}). What was saved before is whole: mend the cause, "
            f"then go on with --resume"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        described = {"step": metadata["step"], "extra": metadata["extra"]}
        if metadata["hash"] != _digest(tensors, described):
            raise CheckpointError(f"{path} is damaged (its hash does not fit)")
        return tensors, int(metadata["step"]), json.loads(metadata["extra"])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())})") from error


def _restore(path: Path, tensors: dict[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    names = _names(module)
    own = module.state_dict()
    slots: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    try:
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "weights":
                weights[name] = divided_like(value, own[name])
            else:
                name, _, slot = name.rpartition("/")
                slots.setdefault(name, {})[slot] = value
        module.load_state_dict(weights)
        if unknown := slots.keys() - set(names.values()):
            raise KeyError(min(unknown))
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} belongs to a run with other settings; start afresh or restore them") from error
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for slot, value in slots.get(names[id(parameter)], {}).items():
                # the count of steps stays on the CPU unless the fused kernel reads it
                moved = value.to(parameter.device) if group.get("fused") and not value.ndim else value
                optimizer.state[parameter][slot] = divided_like(value, parameter) if value.ndim else moved


def _digest(tensors: dict[str, Tensor], described: dict[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """So that the renames outlive a power cut, where the system can say so."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _names(module: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.named_parameters()}
