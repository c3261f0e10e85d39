"""Finding a checkpoint: by a family name, in a folder as people have them, or on the hub.

What a folder may be, for either half of a pair:

- the half itself, or a pair ``model/`` and ``tokenizer/``;
- what the published trainers write: ``{tokenizer,basemodel}/best_model``, ``*_predictor*/checkpoints/best_model``;
- a model whose tokenizer lies beside it: ``Kronos-small/`` and ``Kronos-Tokenizer-base/``, or as the trainers put it.
"""

from __future__ import annotations

import difflib
import math
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from kronos.errors import CheckpointError, some_of
from kronos.model.layout import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, kind_of, read_config, read_header

EMBEDDED = Path(__file__).parent.parent / "pretrained"

_WITHIN = {
    "model": ("model", "basemodel/best_model", "*predictor*/checkpoints/best_model"),
    "tokenizer": ("tokenizer", "tokenizer/best_model", "*tokenizer*/checkpoints/best_model"),
}
_BESIDE = (  # of a model's folder: where its tokenizer lies
    "../tokenizer",
    "../Kronos-Tokenizer-*",
    "../../tokenizer/best_model",
    "../../../*tokenizer*/checkpoints/best_model",
)
_SHORT_REVISION = re.compile(r"[0-9a-f]{7,39}")


@dataclass(frozen=True)
class FamilyMember:
    """A named model with the tokenizer it was trained with."""

    model: str
    tokenizer: str
    max_context: int
    parameters: int
    description: str
    embedded: bool = False


_BASE_TOKENIZER = "NeoQuasar/Kronos-Tokenizer-base"
FAMILY: Mapping[str, FamilyMember] = {
    "kronos-nano": FamilyMember(
        "kronos-nano", "kronos-nano", 512, 6_306_560, "ships with the package, works offline", embedded=True
    ),
    "kronos-mini": FamilyMember(
        "NeoQuasar/Kronos-mini", "NeoQuasar/Kronos-Tokenizer-2k", 2048, 4_108_032, "published, long context"
    ),
    "kronos-small": FamilyMember("NeoQuasar/Kronos-small", _BASE_TOKENIZER, 512, 24_741_376, "published"),
    "kronos-base": FamilyMember("NeoQuasar/Kronos-base", _BASE_TOKENIZER, 512, 102_310_592, "published, the largest"),
}


def family_member(name: str) -> FamilyMember | None:
    """The family's entry for ``mini``, ``kronos-mini`` or ``NeoQuasar/Kronos-mini``; None for any other name."""
    for key, member in FAMILY.items():
        if name.lower() in (key, key.removeprefix("kronos-")) or name == member.model:
            return member
    return None


@dataclass(frozen=True)
class HubOptions:
    """How the hub is asked; the words of ``from_pretrained``.

    ``revision``: a commit (seven digits do), branch or tag. ``cache_dir``: where files are kept. ``token``: for private
    repositories. ``local_files_only``: no network is used. ``force_download``: files are fetched even where they are.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False


# --- finding -----------------------------------------------------------------------------------------------------


def find_checkpoint(name: str | Path, kind: str, hub: HubOptions | None = None) -> Path:
    """The local folder of a checkpoint, fetched from the hub if need be; ``kind``: which half of a pair is wanted.

    Raises:
        CheckpointError: nothing of that name, the other half only, or the hub cannot be reached.
    """
    if (folder := Path(name)).is_dir():
        return _in_folder(folder, kind)
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    member = family_member(name := str(name))
    if member is not None and member.embedded:
        path = EMBEDDED / member.model / kind
        if not (path / WEIGHTS_FILE).is_file():
            raise CheckpointError(f"{member.model} is missing from this installation ({path}); reinstall kronos-kline")
        return path
    options = hub or HubOptions()
    if member is not None:
        return _fetch(getattr(member, kind), "", options)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _fetch_half(name, kind, options)
    near = difflib.get_close_matches(name.lower(), FAMILY, 1, cutoff=0.85)
    meant = f"Did you mean '{near[0]}'?" if near else "What is at hand: kronos models list"
    known = ", ".join(FAMILY)
    raise CheckpointError(f"unknown {kind} '{name}': not a folder, not a hub id (owner/name), none of {known}. {meant}")


def tokenizer_of(name: str | Path, tokenizer: str | Path | None = None) -> str | Path:
    """The named tokenizer; None: the family's, or what holds the model, where :func:`find_checkpoint` looks for it."""
    if tokenizer is not None:
        return tokenizer
    member = None if Path(name).is_dir() else family_member(str(name))
    return member.tokenizer if member else name


def _in_folder(folder: Path, kind: str) -> Path:
    """The half of a pair in, or beside, a folder; what was found instead is said."""
    found = _matches(folder, _WITHIN[kind])
    if len(found) > 1:
        shown = ", ".join(str(path) for path in found)
        raise CheckpointError(f"{folder} holds {len(found)} trained {kind}s: {shown}; name one of them")
    if found:
        return found[0]
    if not (folder / CONFIG_FILE).is_file():
        there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = some_of(there) or "nothing"
        raise CheckpointError(
            f"{folder}: no {CONFIG_FILE} here nor in {folder / kind}. It holds {shown}; name a folder with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}, or one with model/ and tokenizer/"
        )
    config = read_config(folder / CONFIG_FILE)
    if kind_of(config) in (kind, None):  # None: its config will say what is wrong with it
        return folder
    beside = _beside(folder, config) if kind == "tokenizer" else None
    if beside is not None:
        return beside
    if kind == "model":
        raise CheckpointError(f"{folder} holds a tokenizer; name the model, and this folder as its tokenizer")
    raise CheckpointError(
        f"{folder} holds a model, and no tokenizer lies in it or beside it; name its tokenizer with --tokenizer "
        f"(tokenizer=), such as {_BASE_TOKENIZER}"
    )


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Folders with a config that the first matching pattern leads to."""
    for pattern in patterns:
        parts = pattern.split("/")
        while parts[0] == "..":
            folder, parts = folder.resolve().parent, parts[1:]
        if found := [path.parent for path in sorted(folder.glob("/".join([*parts, CONFIG_FILE])))]:
            return found
    return []


def _beside(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The tokenizer that lies beside a model; of the published two, the one that its size was trained with."""
    for pattern in _BESIDE:
        found = [path for path in _matches(folder, (pattern,)) if _fits(path, config)]
        mini = (config.get("n_layers"), config.get("d_model")) == (4, 256)
        named = [path for path in found if path.name.endswith("-2k" if mini else "-base")]
        if found:
            return (named or found)[0]
    return None


def _fits(tokenizer: Path, model: Mapping[str, Any]) -> bool:
    config = read_config(tokenizer / CONFIG_FILE)
    bits = [(one.get("s1_bits"), one.get("s2_bits")) for one in (config, model)]
    return kind_of(config) == "tokenizer" and bits[0] == bits[1]


# --- the hub -----------------------------------------------------------------------------------------------------


def _fetch_half(repo_id: str, kind: str, options: HubOptions) -> Path:
    """One half from a repository that holds a pair, or that half alone."""
    try:
        return _fetch(repo_id, f"{kind}/", options)
    except _NotInRepository:
        folder = _fetch(repo_id, "", options)
    found = kind_of(read_config(folder / CONFIG_FILE))
    if found in (kind, None):
        return folder
    if kind == "model":
        raise CheckpointError(f"'{repo_id}' holds a tokenizer; name the model, and this as its tokenizer")
    raise CheckpointError(
        f"the tokenizer of '{repo_id}' is not known: the repository holds a model only. Name it with --tokenizer "
        f"(tokenizer=), such as {_BASE_TOKENIZER}"
    )


class _NotInRepository(CheckpointError):
    """The hub has the repository, and no such file in it."""


def _fetch(repo_id: str, subfolder: str, asked: HubOptions) -> Path:
    from huggingface_hub import errors, hf_hub_download

    at = f" at revision '{asked.revision}'" if asked.revision else ""
    options: dict[str, Any] = asdict(asked)
    options["revision"] = _whole_revision(repo_id, asked)
    options["local_files_only"] = asked.local_files_only or not _hub_resolves()
    try:
        for filename in (CONFIG_FILE, WEIGHTS_FILE):
            path = hf_hub_download(repo_id, subfolder + filename, **options)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(f"the hub has no model '{repo_id}'{at}, or it is private; check the name") from error
    except (errors.LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise _NotInRepository(f"'{repo_id}'{at} on the hub has no {subfolder}{filename}") from error
        if subfolder:  # without the hub: perhaps it was downloaded as a half alone
            raise _NotInRepository(f"'{repo_id}'{at}: {subfolder}{filename} was not downloaded before") from error
        raise CheckpointError(
            f"the hub cannot be reached for '{repo_id}'{at} and it is not in the cache. Go online once, "
            f"name a local folder, or use 'kronos-nano', which ships with the package"
        ) from error
    return Path(path).parent


def _whole_revision(repo_id: str, asked: HubOptions) -> str | None:
    """A revision as it is; a commit's first digits as the commit, if it was downloaded before."""
    revision = asked.revision
    if revision is None or not _SHORT_REVISION.fullmatch(revision):
        return revision
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(asked.cache_dir or HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}" / "snapshots"
    known = [path.name for path in snapshots.glob(f"{revision}*")]
    return known[0] if len(known) == 1 else revision


def _hub_resolves() -> bool:
    """Whether the hub's name resolves: without a network its client would retry for half a minute before it says so."""
    from huggingface_hub.constants import ENDPOINT

    address = urlsplit(ENDPOINT)
    try:  # behind a proxy, names are the proxy's to resolve
        return bool(getproxies() or socket.getaddrinfo(address.hostname, address.port or address.scheme))
    except OSError:
        return False


# --- the catalogue -----------------------------------------------------------------------------------------------


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
    from huggingface_hub import try_to_load_from_cache

    found = []
    for name, member in FAMILY.items():
        cached = None if member.embedded else try_to_load_from_cache(member.model, WEIGHTS_FILE)
        path = EMBEDDED / member.model if member.embedded else Path(cached).parent if isinstance(cached, str) else None
        source = "embedded" if member.embedded else "cache" if path else "hub"
        found.append(ModelInfo(name, source, member.parameters, member.max_context, member.description, path))
    return found


def info(name: str) -> dict[str, Any]:
    """Facts of a checkpoint: where it is, its sizes, how it behaves, its settings."""
    member = family_member(name)
    folder = find_checkpoint(name, "model")
    config, weights = read_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE
    facts: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "parameters": _parameters(weights),
        "context_length": config.get("max_context", member.max_context if member else 512),
        "behaviour": "consistent" if config.get("consistent") else "published",
        "size_bytes": weights.stat().st_size,
        "config": config,
    }
    try:
        tokenizer = find_checkpoint(tokenizer_of(name), "tokenizer")
    except CheckpointError:
        return facts
    tokenizer_config = read_config(tokenizer / CONFIG_FILE)
    facts["tokenizer_parameters"] = _parameters(tokenizer / WEIGHTS_FILE)
    facts["bar_transform"] = tokenizer_config.get("bar_transform", "zscore")
    facts["tokenizer_config"] = tokenizer_config
    return facts


def _parameters(weights: Path) -> int:
    """Numbers that were learnt: neither bit weights nor inverse frequencies."""
    header = read_header(weights)
    return sum(math.prod(shape) for key, (kind, shape) in header.items() if kind != "I64" and "inv_freq" not in key)


def card_fields(card: str) -> tuple[dict[str, str], str]:
    """What a model card states between its first two lines of dashes, by name, and the text after them."""
    found = re.match(r"---\n(.*?)^---\n(.*)", card, re.MULTILINE | re.DOTALL)
    return (dict(re.findall(r"^([\w-]+): *(.*)$", found[1], re.MULTILINE)), found[2]) if found else ({}, card)


def model_card(name: str) -> str:
    """The model card, Markdown; a sentence saying so where the checkpoint has none."""
    folder = find_checkpoint(name, "model")
    for card in (folder / CARD_FILE, folder.parent / CARD_FILE):
        if card.is_file():
            return card.read_text(encoding="utf-8")
    return f"No model card lies beside {name}: what it was trained on is not known here."
