"""A model and the tokenizer that belongs to it: loaded, checked, and held in eval mode."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kronos.errors import CheckpointError, ConfigError
from kronos.files import digest, digest_of_file
from kronos.model import MODEL_PRESETS, Kronos, KronosConfig, KronosTokenizer
from kronos.model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    FamilyMember,
    HubOptions,
    family_member,
    find_checkpoint,
    tokenizer_of,
    upload_to_hub,
)
from kronos.protocol import FEATURES


def load_pair(
    name: str | Path, tokenizer: str | Path | None, hub: HubOptions
) -> tuple[Kronos, KronosTokenizer, int, str]:
    """A model by family name, folder or hub id, its tokenizer, how many bars they read, and what to call them."""
    member = None if Path(name).is_dir() else family_member(str(name))
    model = Kronos.from_pretrained(name, **asdict(hub))
    source, at = _tokenizer_at(name, hub.revision, tokenizer)
    belonging = KronosTokenizer.from_pretrained(source, **asdict(replace(hub, revision=at)))
    return model, belonging, bars_read(model.config, member), short_name(name)


def options_of(name: str | Path, tokenizer: str | Path | None) -> str:
    """The options of the command line that load the same pair, for advice."""
    given = {"--model": name, "--tokenizer": tokenizer}
    return shlex.join(str(part) for option in given.items() if option[1] is not None for part in option)


def short_name(name: str | Path) -> str:
    """What a forecast calls the model that this name loads: that of its family, of its folder, or the hub id."""
    if Path(name).is_dir():
        return Path(name).name
    member = family_member(str(name))
    return str(name) if member is None else member.model.rsplit("/", 1)[-1].lower()


def _tokenizer_at(
    name: str | Path, revision: str | None, tokenizer: str | Path | None
) -> tuple[str | Path, str | None]:
    """The tokenizer of a model, and its revision: the model's where one repository holds both."""
    source = tokenizer_of(name, tokenizer)
    return source, revision if str(source) == str(name) else None


class SavedPair:
    """Saving a model and its tokenizer as one checkpoint, which its name loads again."""

    model: Kronos
    tokenizer: KronosTokenizer

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Writes the pair into ``model/`` and ``tokenizer/`` of a folder; CapacityError: it cannot be written."""
        for module in (self.model, self.tokenizer):
            module.save_pretrained(Path(save_directory) / module.kind)
        return Path(save_directory)

    def push_to_hub(self, repo_id: str, **upload: Any) -> str:
        """Uploads the pair into one hub repository, and returns its address.

        ``upload``: ``private``, ``token``, ``branch``, ``commit_message`` and whatever else
        :func:`~kronos.model.checkpoint.upload_to_hub` takes.
        """
        return upload_to_hub(self.save_pretrained, repo_id, **upload)


def pair_digest(name: str | Path, revision: str | None = None, tokenizer: str | Path | None = None) -> str:
    """A digest of the files of a model and its tokenizer, fetched from the hub if need be; nothing is loaded."""
    source, at = _tokenizer_at(name, revision, tokenizer)
    halves = find_checkpoint(name, "model", HubOptions(revision)), find_checkpoint(source, "tokenizer", HubOptions(at))
    files = [folder / file for folder in halves for file in (CONFIG_FILE, WEIGHTS_FILE)]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; the folder holds no checkpoint")
    return digest(*(digest_of_file(file) for file in files))


def pair_fingerprint(model: Kronos, tokenizer: KronosTokenizer, max_context: int) -> str:
    """Digest of all that a loaded pair's forecasts depend on: weights, configs with calibration, longest context."""
    weights = (
        part
        for module in (model, tokenizer)
        for key, tensor in sorted(module.state_dict().items())
        for part in (key, tensor.detach().float().cpu().numpy())
    )
    return digest(*weights, model.config.to_dict(), tokenizer.config.to_dict(), max_context, size=12)


def bars_read(config: KronosConfig, member: FamilyMember | None) -> int:
    """How many bars a model reads at most.

    A published config does not say; the family does, and for a copy in a folder the named size of the same shape.
    """
    if config.consistent or config.max_context != KronosConfig.max_context:
        return config.max_context
    if member is not None:
        return member.max_context

    def shape(of: KronosConfig) -> tuple[int, ...]:  # what tells the published sizes apart
        return of.s1_bits, of.s2_bits, of.n_layers, of.d_model

    alike = (preset.max_context for preset in MODEL_PRESETS.values() if shape(preset) == shape(config))
    return next(alike, config.max_context)


def check_pair(model: Kronos, tokenizer: KronosTokenizer) -> None:
    """Refuses a model and a tokenizer that do not fit, and says where they differ."""
    m, t = model.config, tokenizer.config
    if (m.s1_bits, m.s2_bits) != (t.s1_bits, t.s2_bits):
        raise ConfigError(
            f"the model reads {m.s1_bits}+{m.s2_bits} bits, the tokenizer writes {t.s1_bits}+{t.s2_bits}; "
            "load a pair that was trained together"
        )
    if t.d_in != len(FEATURES):
        raise ConfigError(f"the tokenizer reads {t.d_in} features; a bar has {len(FEATURES)}")


def usable_device(device: str | torch.device | None) -> torch.device:
    """The named device, if it exists here; None: the GPU if there is one, NVIDIA's or Apple's, else the CPU."""
    if device is None:
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return wanted


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every part is as it was."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
