"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, from disk, from the hub, or from this package.

Notable:
- the file's header is compared with the shapes that the config implies *before* a tensor is read, so a damaged or
  hostile file costs no memory; no missing, extra, or mis-shaped tensor passes;
- what the published code can compute is saved so that it loads there too (see :mod:`kronos.model.layout`);
- weights may be stored in half precision; in memory they are float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kronos.errors import CheckpointError, ConfigError
from kronos.files import replacing, writing
from kronos.model.finding import (
    EMBEDDED,
    FAMILY,
    FamilyMember,
    HubOptions,
    ModelInfo,
    card_fields,
    family_member,
    find_checkpoint,
    info,
    list_models,
    model_card,
    tokenizer_of,
)
from kronos.model.layers import init_weights
from kronos.model.layout import (
    CONFIG_FILE,
    PUBLISHED_CUTOFF,
    WEIGHTS_FILE,
    change_config,
    read_config,
    read_header,
    state_cutoffs,
    stated_cutoffs,
    write_config,
)

__all__ = [
    "CONFIG_FILE", "EMBEDDED", "FAMILY", "PUBLISHED_CUTOFF", "WEIGHTS_FILE", "FamilyMember", "HubOptions", "ModelInfo",
    "PretrainedModule", "card_fields", "change_config", "family_member", "find_checkpoint", "info", "list_models",
    "model_card", "read_config", "read_header", "read_weights", "save_tensors", "state_cutoffs", "stated_cutoffs",
    "tokenizer_of", "upload_to_hub",
]  # fmt: skip

_DTYPES = ("F32", "F16", "BF16", "I64")


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
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Loads a checkpoint in eval mode, on the CPU, in float32.

        Args:
            pretrained_model_name_or_path: a folder, a hub id (``NeoQuasar/Kronos-small``) or a family name (``nano``,
                ``kronos-small`` …). A folder may hold the checkpoint itself, the pair ``tokenizer/`` and ``model/``,
                or what the published trainers write (see :mod:`kronos.model.finding`).
            revision, cache_dir, token, local_files_only, force_download: how the hub is asked, see
                :class:`~kronos.model.finding.HubOptions`.

        Raises:
            CheckpointError: not found, unreachable, damaged, or shaped differently from its config.
        """
        hub = HubOptions(revision, cache_dir, token, local_files_only, force_download)
        folder = find_checkpoint(pretrained_model_name_or_path, cls.kind, hub)
        try:
            config = cls.config_class.from_dict(read_config(folder / CONFIG_FILE))
        except ConfigError as error:
            raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
        with torch.device("meta"), _Uninitialised():
            module = cls(config)
        module.load_state_dict(read_weights(folder / WEIGHTS_FILE, module.state_dict()), assign=True)
        return module.eval()

    def save_pretrained(self, save_directory: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Writes ``config.json`` and ``model.safetensors`` into a folder, replacing each file in one step.

        Args:
            dtype: how floating-point weights are stored; ``torch.float16`` halves the file.

        Raises:
            CapacityError: it cannot be written, for instance because the disk is full. What was there before stays.
        """
        with writing(folder := Path(save_directory)):
            folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        for key, value in state.items():
            if value.is_floating_point() and not key.endswith("inv_freq"):  # which is layout, not a weight
                state[key] = value.to(dtype)
        save_tensors(folder / WEIGHTS_FILE, state, {"format": "pt"})
        write_config(folder, self.config.to_dict())
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Uploads the checkpoint to the hub and returns its address; see :func:`upload_to_hub`."""
        upload: dict[str, Any] = {"commit_message": commit_message, "branch": branch, "create_pr": create_pr}
        return upload_to_hub(self.save_pretrained, repo_id, private=private, token=token, **upload)


def upload_to_hub(
    save: Callable[[Path], object],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    **upload: Any,
) -> str:
    """Uploads what ``save`` writes into a folder.

    Args:
        repo_id: ``user/name``, or a name alone for a repository of one's own.
        private: of a new repository; None: as its owner has set it.
        token, branch: whose repository, and which branch of it.
        upload: as for the hub's ``upload_folder``, such as ``commit_message`` or ``create_pr``.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    whole_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # with the user's name before it
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return str(api.upload_folder(repo_id=whole_id, folder_path=folder, revision=branch, **upload))


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
