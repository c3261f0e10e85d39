"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, from disk, from the hub, or from this package.

Notable:
- the file's header is compared with the shapes that the config implies *before* a tensor is read, so a damaged or
  hostile file costs no memory;
- loading is strict: no missing, extra, or mis-shaped tensor passes;
- what is saved has every published key, so the published code loads it too;
- weights may be stored in half precision; in memory they are float32;
- loading returns eval mode.
"""

from __future__ import annotations

import difflib
import json
import socket
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

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

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


class PretrainedMixin:
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` for a module that is built from one config."""

    config_class: ClassVar[Any]
    kind: ClassVar[str]  # "tokenizer" or "model"
    config: Any

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
        path = folder / CONFIG_FILE
        try:
            config = cls.config_class.from_dict(read_config(path))
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        with torch.device("meta"), _Uninitialised():
            module = cls(config)  # type: ignore[call-arg]
        assert isinstance(module, nn.Module)
        state = read_weights(folder / WEIGHTS_FILE, module.state_dict())
        module.load_state_dict(state, assign=True)
        return module.eval()

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Writes ``config.json`` and ``model.safetensors`` into ``folder``, replacing each file in one step.

        Args:
            dtype: how floating-point weights are stored; ``torch.float16`` halves the file.

        Raises:
            CapacityError: it cannot be written, for instance because the disk is full. What was there before stays.
        """
        assert isinstance(self, nn.Module)
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        state = {
            # inverse frequencies stay float32: they are not weights but part of the layout
            key: value.detach().cpu().to(dtype if _is_weight(key, value) else value.dtype).contiguous()
            for key, value in self.state_dict().items()
        }
        save_tensors(folder / WEIGHTS_FILE, state, {"format": "pt"})
        write_json(folder / CONFIG_FILE, self.config.to_dict(), sort_keys=True, durable=True)
        return folder

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the checkpoint to the hub and returns its address."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], *, previous: Path | None = None
) -> None:
    """Writes a safetensors file that appears whole or not at all, and outlives a power cut.

    Args:
        previous: where the file that was there before is moved; None: it is replaced.

    Raises:
        CapacityError: it cannot be written, for instance because the disk is full. What was there before stays.
    """
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
    path = folder / CONFIG_FILE
    write_json(path, {**read_config(path), **changes}, sort_keys=True)


def _is_weight(key: str, value: Tensor) -> bool:
    return value.is_floating_point() and not key.endswith("inv_freq")


# --- finding -----------------------------------------------------------------------------------------------------


def find_checkpoint(
    name: str | Path, kind: str, *, revision: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The local folder of a checkpoint, fetched from the hub if need be.

    Args:
        kind: "tokenizer" or "model": which half of a pair is wanted.

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
    name = str(name)
    member = family_member(name)
    if member is not None and member.embedded:
        path = EMBEDDED / member.model / kind
        if not (path / WEIGHTS_FILE).is_file():
            raise CheckpointError(f"{member.model} is missing from this installation ({path}); reinstall kronos-kline")
        return path
    if member is not None:
        return _fetch(getattr(member, kind), revision, cache_dir)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _fetch(name, revision, cache_dir)
    known = ", ".join(FAMILY)
    near = difflib.get_close_matches(name.lower(), FAMILY, 1, cutoff=0.85)
    meant = f"Did you mean '{near[0]}'?" if near else "What is at hand: kronos models list"
    raise CheckpointError(f"unknown model '{name}': not a folder, not a hub id (owner/name), none of {known}. {meant}")


def _fetch(repo_id: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision '{revision}'" if revision else ""
    cached_only = not _hub_has_an_address()
    try:
        for filename in (CONFIG_FILE, WEIGHTS_FILE):
            path = hf_hub_download(
                repo_id, filename, revision=revision, cache_dir=cache_dir, local_files_only=cached_only
            )
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"the hub has no model '{repo_id}'{at}, or it is private; check the name") from error
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise CheckpointError(f"'{repo_id}'{at} on the hub has no {filename}") from error
        raise CheckpointError(
            f"the hub cannot be reached for '{repo_id}'{at} and it is not in the cache. Go online once, "
            f"name a local folder, or use 'kronos-nano', which ships with the package"
        ) from error
    return Path(path).parent


def _hub_has_an_address() -> bool:
    """Whether the hub's name resolves: without a network its client would retry for half a minute before it says so."""
    from huggingface_hub.constants import ENDPOINT

    if getproxies():
        return True  # names are the proxy's to resolve
    address = urlsplit(ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or address.scheme)
    except OSError:
        return False
    return True


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
    """``config.json`` as a mapping.

    Raises:
        CheckpointError: missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} is larger than {_MAX_CONFIG_BYTES:,} bytes; this is no checkpoint's config")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); the folder holds no checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes in a safetensors file, checked against its length; no tensor is read.

    Raises:
        CheckpointError: not a safetensors file, truncated, padded, or with tensors that do not fill their places.
    """
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
    """The tensors of a file that has exactly the expected names and shapes, floating ones as float32.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape, or not finite.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    if missing := sorted(expected.keys() - header.keys()):
        raise CheckpointError(f"{path} lacks {_some(missing)}; config and weights do not belong together")
    if extra := sorted(header.keys() - expected.keys()):
        raise CheckpointError(f"{path} has unexpected {_some(extra)}; config and weights do not belong together")
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


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"
