"""Saved state of a run: safetensors and JSON, written aside and moved into place, so that a kill loses nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kronos.errors import CheckpointError

STATE_FILE = "state.safetensors"


def save_state(
    folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, extra: dict[str, Any]
) -> None:
    """Writes weights, optimizer and step into one file that appears whole or not at all."""
    names = _names(module, optimizer)
    tensors = {f"weights/{k}": v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            tensors[f"optimizer/{names[id(parameter)]}/{slot}"] = torch.as_tensor(value).detach().cpu().contiguous()
    temporary = folder / f"{STATE_FILE}.tmp"
    save_file(tensors, temporary, metadata={"step": str(step), "extra": json.dumps(extra)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / STATE_FILE)


def load_state(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]]:
    """Restores what :func:`save_state` wrote and returns the step and the extra values.

    Raises:
        CheckpointError: there is no state, or it is of another run.
    """
    from safetensors import safe_open

    path = folder / STATE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be resumed from ({error})") from error
    except Exception as error:  # safetensors' own error class is not exported
        raise CheckpointError(f"{path} is damaged ({error})") from error
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    try:
        module.load_state_dict(weights)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                prefix = f"optimizer/{_names(module, optimizer)[id(parameter)]}/"
                optimizer.state[parameter] = {
                    k.removeprefix(prefix): _place(v, parameter) for k, v in tensors.items() if k.startswith(prefix)
                }
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path} belongs to a run with other settings; start afresh or restore them") from error
    return int(metadata["step"]), json.loads(metadata["extra"])


def _names(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.named_parameters()}


def _place(value: Tensor, parameter: Tensor) -> Tensor:
    return value.to(parameter.device) if value.ndim else value
