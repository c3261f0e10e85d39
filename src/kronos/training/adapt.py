"""What a run changes about a network before it trains it: dropout, time features, low-rank adapters."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kronos.errors import ConfigError, MissingExtraError
from kronos.model import Kronos
from kronos.training.config import DropoutSettings, LoraSettings

ModuleT = TypeVar("ModuleT", bound=nn.Module)

LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3")
"""The linear maps of attention and feed-forward, in all blocks and the dependency layer."""


def with_weights(cls: type[ModuleT], config: Any, state: dict[str, Tensor]) -> ModuleT:
    """A module built from its config that shares the tensors of a state."""
    with torch.device("meta"):
        module = cls(config)
    module.load_state_dict(state, assign=True)
    return module


def with_dropout(model: Kronos, settings: DropoutSettings) -> Kronos:
    """The same weights in a network with the rates that are given; the others stay."""
    given = {f"{name}_dropout_p": rate for name, rate in settings.model_dump().items() if rate is not None}
    return with_weights(Kronos, dataclasses.replace(model.config, **given), model.state_dict()) if given else model


@torch.no_grad()
def keep_time_features(model: Kronos, names: tuple[str, ...]) -> None:
    """Has a network read fewer time features: what the others added on average goes to the last one that stays.

    Raises:
        ConfigError: a feature that the network does not read, or none that stays.
    """
    read = model.config.time_features
    if not names or set(names) - set(read):
        raise ConfigError(f"time_features {list(names)}: choose some of those that the network reads, {list(read)}")
    if not model.config.learn_te:
        raise ConfigError("time_features can only be dropped where time embeddings are learnt (learn_te)")
    stays = model.time_emb.get_submodule(f"{names[-1]}_embed").weight
    for name in sorted(set(read) - set(names)):  # in one order, so that rounding is the same everywhere
        weight = model.time_emb.get_submodule(f"{name}_embed").weight
        assert isinstance(weight, Tensor)
        assert isinstance(stays, Tensor)
        first = 1 if name in ("day", "month") else 0  # their row 0 is never read
        stays += weight[first:].mean(0)
        weight.zero_()
        weight.requires_grad_(False)  # zero and stays so
    model.config = dataclasses.replace(model.config, time_features=tuple(n for n in read if n in names))


def add_lora(model: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Freezes a network and adds low-rank adapters to its linear maps (Hu et al., arXiv 2106.09685).

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "train", "LoRA") from error
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or 2 * settings.rank,
        lora_dropout=settings.dropout,
        target_modules=list(LORA_LAYERS),
    )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws from the global stream
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model)


def merge_lora(model: nn.Module) -> None:
    """Adds the adapters' products to the weights and takes the adapters out: names are the published ones again."""
    from peft.tuners.lora import LoraLayer

    found: list[tuple[str, Any]] = [(name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in found:
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
