"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, from disk, from the hub, or from this package.

Notable:
- the file's header is compared with the shapes that the config implies *before* a tensor is read, so a damaged or
  hostile file costs no memory; no missing, extra, or mis-shaped tensor passes;
- what is saved has every published key, so the published code loads it too;
- weights may be stored in half precision; in memory they are float32.
"""

from __future__ import annotations

import difflib
import json
import math
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kronos.errors import CheckpointError, ConfigError
from kronos.files import replacing, write_json, writing
from kronos.model.layers import init_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"

PUBLISHED_CUTOFF = "2024-07-01"  # the published weights were trained on bars up to June 2024
_MAX_CONFIG_BYTES = 1 << 20
_DTYPES = ("F32", "F16", "BF16", "I64")

EMBEDDED = Path(__file__).parent.parent / "pretrained"


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


class _Uninitialised(TorchFunctionMode):
    """Leaves new parameters as they are: they are about to be loaded, and drawing them takes longer than loading."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


class PretrainedModule(nn.Module):
    """A module that is built from one config, with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``."""

    config_class: ClassVar[Any]
    kind: ClassVar[str]  # "tokenizer" or "model"

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        for name, value in config.shape().items():  # attributes of the published modules, to be read
            setattr(self, name, value)

    @classmethod
    def init(cls, config: Any, seed: int = 0) -> Self:
        """Freshly initialised, from its own random stream."""
        module = cls(config)
        init_weights(module, torch.Generator().manual_seed(seed))
        return module

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, cache_dir: str | Path | None = None
    ) -> Self:
        """Loads a checkpoint in eval mode, on the CPU, in float32.

        Args:
            name: a folder, a hub id (``NeoQuasar/Kronos-small``) or a family name (``nano``, ``kronos-small`` …).
                A folder may hold the checkpoint itself or the pair ``tokenizer/`` and ``model/``.
            revision: a commit, branch or tag of the hub repository.
            cache_dir: where the hub's files are kept.

        Raises:
            CheckpointError: not found, unreachable, damaged, or shaped differently from its config.
        """
        folder = find_checkpoint(name, cls.kind, revision=revision, cache_dir=cache_dir)
        try:
            config = cls.config_class.from_dict(read_config(folder / CONFIG_FILE))
        except ConfigError as error:
            raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
        with torch.device("meta"), _Uninitialised():
            module = cls(config)
        module.load_state_dict(read_weights(folder / WEIGHTS_FILE, module.state_dict()), assign=True)
        return module.eval()

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Writes ``config.json`` and ``model.safetensors`` into ``folder``, replacing each file in one step.

        Args:
            dtype: how floating-point weights are stored; ``torch.float16`` halves the file.

        Raises:
            CapacityError: it cannot be written, for instance because the disk is full. What was there before stays.
        """
        with writing(folder := Path(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        for key, value in state.items():
            if value.is_floating_point() and not key.endswith("inv_freq"):  # which is layout, not a weight
                state[key] = value.to(dtype)
        save_tensors(folder / WEIGHTS_FILE, state, {"format": "pt"})
        write_json(folder / CONFIG_FILE, self.config.to_dict(), sort_keys=True, durable=True)
        return folder

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the checkpoint to the hub and returns its address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], *, previous: Path | None = None
) -> None:
    """Writes a safetensors file that outlives a power cut; see :func:`kronos.files.replacing`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path, durable=True, previous=previous) as part:
        part.touch()
        mode = part.stat().st_mode
        try:
            save_file(tensors, part, metadata=metadata)
        except SafetensorError as error:  # a full disk, for one, is not an OSError there
            raise OSError(str(error)) from error
        part.chmod(mode)  # the writer of safetensors lets nobody else read


def change_config(folder: Path, **changes: Any) -> None:
    """Writes values into a checkpoint's config, which is replaced in one step."""
    write_json(folder / CONFIG_FILE, {**read_config(folder / CONFIG_FILE), **changes}, sort_keys=True)


# --- finding -----------------------------------------------------------------------------------------------------


def find_checkpoint(
    name: str | Path, kind: str, *, revision: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The local folder of a checkpoint, fetched from the hub if need be; ``kind``: which half of a pair is wanted.

    Raises:
        CheckpointError: nothing of that name, or the hub cannot be reached.
    """
    if (folder := Path(name)).is_dir():
        for candidate in (folder / kind, folder):
            if (candidate / CONFIG_FILE).is_file():
                return candidate
        raise CheckpointError(f"{folder}: no {CONFIG_FILE} here nor in {folder / kind}; name a checkpoint's folder")
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    member = family_member(name := str(name))
    if member is not None and member.embedded:
        path = EMBEDDED / member.model / kind
        if not (path / WEIGHTS_FILE).is_file():
            raise CheckpointError(f"{member.model} is missing from this installation ({path}); reinstall kronos-kline")
        return path
    if member is not None or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return _fetch(getattr(member, kind, name), revision, cache_dir)
    near = difflib.get_close_matches(name.lower(), FAMILY, 1, cutoff=0.85)
    meant = f"Did you mean '{near[0]}'?" if near else "What is at hand: kronos models list"
    known = ", ".join(FAMILY)
    raise CheckpointError(f"unknown model '{name}': not a folder, not a hub id (owner/name), none of {known}. {meant}")


def _fetch(repo_id: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import errors, hf_hub_download

    at = f" at revision '{revision}'" if revision else ""
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "local_files_only": not _hub_resolves()}
    try:
        for filename in (CONFIG_FILE, WEIGHTS_FILE):
            path = hf_hub_download(repo_id, filename, **options)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(f"the hub has no model '{repo_id}'{at}, or it is private; check the name") from error
    except (errors.LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise CheckpointError(f"'{repo_id}'{at} on the hub has no {filename}") from error
        raise CheckpointError(
            f"the hub cannot be reached for '{repo_id}'{at} and it is not in the cache. Go online once, "
            f"name a local folder, or use 'kronos-nano', which ships with the package"
        ) from error
    return Path(path).parent


def _hub_resolves() -> bool:
    """Whether the hub's name resolves: without a network its client would retry for half a minute before it says so."""
    from huggingface_hub.constants import ENDPOINT

    address = urlsplit(ENDPOINT)
    try:  # behind a proxy, names are the proxy's to resolve
        return bool(getproxies() or socket.getaddrinfo(address.hostname, address.port or address.scheme))
    except OSError:
        return False


# --- reading -----------------------------------------------------------------------------------------------------


def stated_cutoffs(config: Mapping[str, Any]) -> dict[str, str]:
    """The last dates of a checkpoint's training, ISO by group, as its config states them.

    The group ``start`` is what its weights went on from. Published weights state nothing; theirs is known.
    """
    stated = config.get("training_cutoff")
    dates = {"start": stated} if isinstance(stated, str) else dict(stated or {})
    if not config.get("consistent"):
        dates["start"] = max(PUBLISHED_CUTOFF, dates.get("start", PUBLISHED_CUTOFF))
    return dates


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` as a mapping. Refuses what is missing, too large, or not a JSON object."""
    try:
        small = path.stat().st_size <= _MAX_CONFIG_BYTES
        values = json.loads(path.read_text(encoding="utf-8")) if small else None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); the folder holds no checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again") from error
    if not small:
        raise CheckpointError(f"{path} is larger than {_MAX_CONFIG_BYTES:,} bytes; this is no checkpoint's config")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes in a safetensors file, checked against its length; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            entries = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            return {key: (entry.get_dtype(), tuple(entry.get_shape())) for key, entry in entries.items()}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the folder holds no weights") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that has exactly the expected names and shapes, floating ones finite and as float32."""
    from safetensors.torch import load_file

    header = read_header(path)
    missing, extra = expected.keys() - header.keys(), header.keys() - expected.keys()
    for said, names in (("lacks", missing), ("has unexpected", extra)):
        if names:
            shown = ", ".join(f"'{name}'" for name in sorted(names)[:3])
            more = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
            raise CheckpointError(f"{path} {said} {shown}{more}; config and weights do not belong together")
    for key, tensor in expected.items():
        dtype, shape = header[key]
        if shape != tuple(tensor.shape):
            raise CheckpointError(f"{path}: '{key}' has shape {list(shape)}, the config asks for {list(tensor.shape)}")
        if dtype not in _DTYPES or (dtype == "I64") == tensor.is_floating_point():
            raise CheckpointError(f"{path}: '{key}' is stored as {dtype}, the network holds {tensor.dtype}")
    state = load_file(path)
    for key, tensor in state.items():
        if tensor.is_floating_point():
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"{path}: '{key}' holds NaN or infinite weights; the checkpoint is unusable")
            state[key] = tensor.float()
    return state


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
        tokenizer = find_checkpoint(member.tokenizer if member else name, "tokenizer")
    except CheckpointError:
        return facts
    if tokenizer != folder:
        tokenizer_config = read_config(tokenizer / CONFIG_FILE)
        facts["tokenizer_parameters"] = _parameters(tokenizer / WEIGHTS_FILE)
        facts["bar_transform"] = tokenizer_config.get("bar_transform", "zscore")
        facts["tokenizer_config"] = tokenizer_config
    return facts


def _parameters(weights: Path) -> int:
    """Numbers that were learnt: neither bit weights nor inverse frequencies."""
    header = read_header(weights)
    return sum(math.prod(shape) for key, (kind, shape) in header.items() if kind != "I64" and "inv_freq" not in key)


def model_card(name: str) -> str:
    """The model card, Markdown; a sentence saying so where the checkpoint has none."""
    folder = find_checkpoint(name, "model")
    for card in (folder / CARD_FILE, folder.parent / CARD_FILE):
        if card.is_file():
            return card.read_text(encoding="utf-8")
    return f"No model card lies beside {name}: what it was trained on is not known here."
