"""Which checkpoints there are, and what one of them is, without loading its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kronos.errors import CheckpointError
from kronos.model.checkpoint import (
    EMBEDDED,
    FAMILY,
    WEIGHTS_FILE,
    family_member,
    find_checkpoint,
    read_config,
    read_header,
)

CARD_FILE = "README.md"


@dataclass(frozen=True)
class ModelInfo:
    """One line of ``kronos models list``."""

    name: str
    source: str  # "embedded", "cache" (downloaded before) or "hub"
    parameters: int
    context_length: int
    description: str
    path: Path | None


def list_models() -> list[ModelInfo]:
    """The family: shipped, downloaded, and to be fetched from the hub. No network is used."""
    found = []
    for name, member in FAMILY.items():
        path = EMBEDDED / member.model if member.embedded else _cached(member.model)
        source = "embedded" if member.embedded else "cache" if path else "hub"
        found.append(ModelInfo(name, source, member.parameters, member.max_context, member.description, path))
    return found


def _cached(repo_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, WEIGHTS_FILE)
    return Path(found).parent if isinstance(found, str) else None


def info(name: str) -> dict[str, Any]:
    """Facts of a checkpoint: where it is, its sizes, how it behaves, its settings.

    Raises:
        CheckpointError: nothing of that name, or it is damaged.
    """
    member = family_member(name)
    folder = find_checkpoint(name, "model")
    config = read_config(folder / "config.json")
    header = read_header(folder / WEIGHTS_FILE)
    facts: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "parameters": _parameters(header),
        "context_length": config.get("max_context", member.max_context if member else 512),
        "behaviour": "consistent" if config.get("consistent") else "published",
        "size_bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "config": config,
    }
    try:
        tokenizer = find_checkpoint(member.tokenizer if member else name, "tokenizer")
    except CheckpointError:
        return facts
    if tokenizer != folder:
        tokenizer_config = read_config(tokenizer / "config.json")
        facts["tokenizer_parameters"] = _parameters(read_header(tokenizer / WEIGHTS_FILE))
        facts["bar_transform"] = tokenizer_config.get("bar_transform", "zscore")
        facts["tokenizer_config"] = tokenizer_config
    return facts


def model_card(name: str) -> str:
    """The model card, Markdown; a sentence saying so where the checkpoint has none."""
    folder = find_checkpoint(name, "model")
    for candidate in (folder / CARD_FILE, folder.parent / CARD_FILE):
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8")
    return f"No model card lies beside {name}: what it was trained on is not known here."


def _parameters(header: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    return sum(math.prod(shape) for key, (kind, shape) in header.items() if kind != "I64" and "inv_freq" not in key)
