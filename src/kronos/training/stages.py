"""The two stages as objects that a loop can run: what is trained, and its loss on a batch of windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kronos.bars.transform import get_transform
from kronos.bars.windows import Windows
from kronos.errors import ConfigError
from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig, token_loss, tokenizer_loss
from kronos.model.checkpoint import WEIGHTS_FILE
from kronos.training.config import RunConfig


@dataclass(frozen=True)
class Batch:
    """Windows as a network reads them: features, time stamps, and which bars count.

    ``features`` (B, T, 6) float32 and ``stamps`` (B, T, 5) uint8 line up; ``real`` and ``asked`` are (B, T) float32:
    1 where the bar is not padding, and where it lies behind the context's boundary too.
    """

    features: Tensor
    stamps: Tensor
    real: Tensor
    asked: Tensor

    def to(self, device: torch.device) -> Batch:
        if device.type != "cuda":
            return Batch(*(t.to(device) for t in self.tensors()))
        return Batch(*(t.pin_memory().to(device, non_blocking=True) for t in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.features, self.stamps, self.real, self.asked


def make_batch(windows: Windows, bar_transform: str) -> Batch:
    """Features of windows, by the statistics of each one's own context."""
    transform = get_transform(bar_transform)
    features = transform.encode(windows.values, transform.fit(windows.values, windows.boundary))
    position = np.arange(transform.lost, windows.values.shape[1])
    real = position < windows.valid[:, None]
    asked = real & (position >= windows.boundary[:, None])
    return Batch(
        torch.from_numpy(features),
        torch.from_numpy(np.ascontiguousarray(windows.stamps[:, transform.lost :])),
        torch.from_numpy(real.astype(np.float32)),
        torch.from_numpy(asked.astype(np.float32)),
    )


class Stage(Protocol):
    """What a loop needs of a stage."""

    name: str
    module: nn.Module

    def batch(self, windows: Windows) -> Batch: ...
    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]: ...
    def place(self, device: torch.device, compile_module: bool) -> None: ...
    def save(self, folder: Any) -> None: ...


class TokenizerStage:
    """Stage one: reconstruct bars through the quantizer. Every bar counts: the tokenizer must also read the future."""

    name = "tokenizer"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.module = self.tokenizer = _build(
            KronosTokenizer, TokenizerConfig, config.tokenizer, config.seed, bar_transform="returns"
        )
        self._run: Callable[..., Any] = tokenizer_loss

    def place(self, device: torch.device, compile_module: bool) -> None:
        self.tokenizer.to(device)
        if compile_module:
            self._run = torch.compile(tokenizer_loss)

    def batch(self, windows: Windows) -> Batch:
        return make_batch(windows, self.tokenizer.config.bar_transform)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self._run(self.tokenizer, batch.features, batch.real, self.config.loss.coarse)
        return loss, parts

    def save(self, folder: Any) -> None:
        self.tokenizer.save_pretrained(folder)


class ModelStage:
    """Stage two: predict the next bar's tokens, with the tokenizer frozen. Only bars behind the boundary count."""

    name = "model"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.tokenizer = _trained_tokenizer(config)
        self.tokenizer.requires_grad_(False)
        self.module = self.model = _build(
            Kronos, KronosConfig, config.model, config.seed, max_context=config.data.window - 1
        )
        # Whatever it was before: this training computes the function that decoding a consistent checkpoint computes.
        self.model.config = dataclasses.replace(self.model.config, consistent=True)
        if config.time_features is not None:
            keep_time_features(self.model, config.time_features)
        bits = (self.tokenizer.config.s1_bits, self.tokenizer.config.s2_bits)
        if bits != (self.model.config.s1_bits, self.model.config.s2_bits):
            raise ConfigError(f"the tokenizer has {bits} bits, the network another vocabulary; they must agree")
        self._run: Callable[..., Any] = self._network_loss
        self._encode: Callable[..., Any] = self.tokenizer.encode

    def place(self, device: torch.device, compile_module: bool) -> None:
        self.tokenizer.to(device)
        self.model.to(device)
        if compile_module:
            self._run = torch.compile(self._network_loss)
            self._encode = torch.compile(self.tokenizer.encode)

    def batch(self, windows: Windows) -> Batch:
        return make_batch(windows, self.tokenizer.config.bar_transform)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        # float32: near a quantizer's boundary half precision would give other tokens than a forecast later sees
        with torch.no_grad(), torch.autocast(batch.features.device.type, enabled=False):
            s1, s2 = self._encode(batch.features, half=True)
        # spread evenly over the steps, so that the share is exact without a random draw
        share = self.config.loss.teacher_forcing
        forced = int((step + 1) * share) > int(step * share)
        return self._run(s1, s2, batch.stamps, batch.asked[:, 1:].contiguous(), forced)  # type: ignore[no-any-return]

    def _network_loss(
        self, s1: Tensor, s2: Tensor, stamps: Tensor, asked: Tensor, forced: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        s1_logits, s2_logits = self.model(
            s1[:, :-1], s2[:, :-1], stamps[:, :-1], use_teacher_forcing=forced, s1_targets=s1[:, 1:] if forced else None
        )
        return token_loss(s1_logits, s2_logits, s1[:, 1:], s2[:, 1:], asked, self.config.loss.s1)

    def save(self, folder: Any) -> None:
        self.model.save_pretrained(folder)


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
    for name in set(read) - set(names):
        weight = model.time_emb.get_submodule(f"{name}_embed").weight
        assert isinstance(weight, Tensor)
        assert isinstance(stays, Tensor)
        first = 1 if name in ("day", "month") else 0  # their row 0 is never read
        stays += weight[first:].mean(0)
        weight.zero_()
        weight.requires_grad_(False)  # zero and stays so
    model.config = dataclasses.replace(model.config, time_features=tuple(n for n in read if n in names))


def _trained_tokenizer(config: RunConfig) -> KronosTokenizer:
    """The tokenizer of stage one of this run where its shape is given, else the one that is named."""
    if isinstance(config.tokenizer, str):
        return KronosTokenizer.from_pretrained(config.tokenizer)
    folder = config.out / TokenizerStage.name
    if not (folder / WEIGHTS_FILE).is_file():
        raise ConfigError(
            f"{folder} holds no trained tokenizer; run `kronos train tokenizer` with these settings first"
        )
    return KronosTokenizer.from_pretrained(folder)


def _build(cls: Any, config_class: Any, named: dict[str, Any] | str, seed: int, **defaults: Any) -> Any:
    """A new module from its shape and our defaults, or a trained one by its name; in train mode."""
    if isinstance(named, dict):
        return cls.init(config_class.from_dict({**defaults, **named}), seed).train()
    return cls.from_pretrained(named).train()


STAGES: dict[str, Callable[[RunConfig], Stage]] = {"tokenizer": TokenizerStage, "model": ModelStage}
