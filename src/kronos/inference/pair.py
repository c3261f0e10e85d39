"""A model and the tokenizer that belongs to it: loaded, checked, and put on a device."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError
from kronos.model import MODEL_PRESETS, Kronos, KronosConfig, KronosTokenizer
from kronos.model.checkpoint import FamilyMember, family_member

_SHAPE = ("s1_bits", "s2_bits", "n_layers", "d_model")  # what tells the published sizes apart


class Pair(NamedTuple):
    """A loaded pair, how many bars it reads, and what to call it."""

    model: Kronos
    tokenizer: KronosTokenizer
    max_context: int
    name: str


def load_pair(name: str | Path, revision: str | None, tokenizer: str | Path | None) -> Pair:
    """A model by family name, folder or hub id, with its tokenizer.

    Raises:
        CheckpointError: not found, damaged, or unreachable.
        ConfigError: a hub id whose tokenizer is unknown.
    """
    is_folder = Path(name).is_dir()
    member = None if is_folder else family_member(str(name))
    if tokenizer is None:
        if member is None and not is_folder and str(name).count("/") == 1:
            raise ConfigError(f"the tokenizer of '{name}' is not known; name it with tokenizer=")
        tokenizer = member.tokenizer if member else name
    model = Kronos.from_pretrained(name, revision=revision)
    max_context = bars_read(model.config, member)
    short = Path(name).name if is_folder else str(member.model if member else name)
    if member is not None:
        short = short.rsplit("/", 1)[-1].lower()
    return Pair(model, KronosTokenizer.from_pretrained(tokenizer), max_context, short)


def bars_read(config: KronosConfig, member: FamilyMember | None) -> int:
    """How many bars a model reads at most.

    A published config does not say; the family does, and for a copy in a folder the named size of the same shape.
    """
    default = KronosConfig.max_context
    if config.consistent or config.max_context != default:
        return config.max_context
    if member is not None:
        return member.max_context
    for preset in MODEL_PRESETS.values():
        if all(getattr(config, name) == getattr(preset, name) for name in _SHAPE):
            return preset.max_context
    return default


def check_pair(model: Kronos, tokenizer: KronosTokenizer) -> None:
    """Refuse a model and a tokenizer that do not fit.

    Raises:
        ConfigError: says where they differ.
    """
    m, t = model.config, tokenizer.config
    if (m.s1_bits, m.s2_bits) != (t.s1_bits, t.s2_bits):
        raise ConfigError(
            f"the model reads {m.s1_bits}+{m.s2_bits} bits, the tokenizer writes {t.s1_bits}+{t.s2_bits}; "
            "load a pair that was trained together"
        )
    if t.d_in != len(FEATURES):
        raise ConfigError(f"the tokenizer reads {t.d_in} features; a bar has {len(FEATURES)}")


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; None: the GPU if there is one, else the CPU.

    Raises:
        ConfigError: it does not exist here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return wanted
