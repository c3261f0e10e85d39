"""The two stages as objects that a loop can run: what is trained, and its loss on a batch of windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kronos.bars.transform import DEFAULT_CLIP, get_transform
from kronos.bars.transform.running import DECAY, moves_variance
from kronos.bars.windows import Windows
from kronos.errors import ConfigError, MissingExtraError
from kronos.model import (
    MODEL_PRESETS,
    TOKENIZER_PRESETS,
    Kronos,
    KronosConfig,
    KronosTokenizer,
    TokenizerConfig,
    token_loss,
    tokenizer_loss,
)
from kronos.model.checkpoint import WEIGHTS_FILE, stated_cutoffs
from kronos.training.config import LoraSettings, RunConfig

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Variances = NDArray[np.float64]

_SETTLED = 32  # bars after which a window's running volatility is worth the name
_GAINS = (0.8, 1.25)  # beyond them a tokenizer is not trained yet

LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3")
"""The linear maps of attention and feed-forward, in all blocks and the dependency layer."""


@dataclass(frozen=True)
class TrainingBatch:
    """Windows as a network reads them: features, time stamps, and which bars count.

    ``features`` (B, T, 6) float32 and ``stamps`` (B, T, 5) uint8 line up; ``real`` and ``asked`` are (B, T) float32:
    1 where the bar is not padding, and where it is asked about too.
    """

    features: Tensor
    stamps: Tensor
    real: Tensor
    asked: Tensor

    def to(self, device: torch.device) -> TrainingBatch:
        cuda, tensors = device.type == "cuda", (self.features, self.stamps, self.real, self.asked)
        return TrainingBatch(*((t.pin_memory() if cuda else t).to(device, non_blocking=cuda) for t in tensors))


def make_batch(
    windows: Windows, bar_transform: str, shortest: int | None = None, clip: float = DEFAULT_CLIP
) -> TrainingBatch:
    """Features of windows, by statistics that know no bar which is asked about.

    Bars behind each window's boundary are; or all behind ``shortest`` bars, if it is given and no feature knows a
    later bar.
    """
    transform = get_transform(bar_transform)
    first = windows.boundary[:, None] if shortest is None or not transform.causal else shortest
    features = transform.encode(windows.values, transform.fit(windows.values, windows.boundary, clip=clip))
    position = np.arange(transform.lost, windows.values.shape[1])
    real = position < windows.valid[:, None]
    asked = real & (position >= first)
    return TrainingBatch(
        torch.from_numpy(features),
        torch.from_numpy(np.ascontiguousarray(windows.stamps[:, transform.lost :])),
        torch.from_numpy(real.astype(np.float32)),
        torch.from_numpy(asked.astype(np.float32)),
    )


class Objective(nn.Module):
    """A stage's loss as a module: whoever wraps modules, as DDP and FSDP do, wraps what is computed from them."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self._loss = stage.loss

    def forward(self, batch: TrainingBatch, step: int, total: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(batch, step, total)


class TokenizerStage:
    """Stage one: reconstruct bars through the quantizer. Every bar counts: the tokenizer must also read the future.

    In validation those behind the boundary do, since bars before it may have been trained on.
    """

    name = "tokenizer"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.tokenizer: KronosTokenizer = _build(
            KronosTokenizer, TokenizerConfig, config.tokenizer, config.seed, bar_transform="returns"
        )
        self.module: nn.Module = self.tokenizer
        self._run: Callable[..., Any] = tokenizer_loss

    def place(self, device: torch.device, compile_module: bool) -> None:
        self.tokenizer.to(device)
        if compile_module:
            self._run = torch.compile(tokenizer_loss)

    def batch(self, windows: Windows, *, later: bool = False) -> TrainingBatch:
        """Windows as the tokenizer reads them; ``later``: bars before the boundary do not count."""
        batch = make_batch(windows, self.tokenizer.config.bar_transform, clip=self.config.data.clip)
        return dataclasses.replace(batch, real=batch.asked) if later else batch

    def counted(self, batch: TrainingBatch) -> Tensor:
        """(B, T): how much each bar counts in the loss."""
        return batch.real

    def loss(self, batch: TrainingBatch, step: int, total: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and parts; ``total`` as in :func:`~kronos.model.network.token_loss`."""
        loss, parts = self._run(self.tokenizer, batch.features, self.counted(batch), self.config.loss.coarse, total)
        return loss, parts

    def checkpoint(self, state: dict[str, Tensor]) -> KronosTokenizer:
        """Another tokenizer with the weights of a state, in eval mode."""
        return with_weights(KronosTokenizer, self.tokenizer.config, state).eval()


class ModelStage:
    """Stage two: predict the next bar's tokens, with the tokenizer frozen. Only bars behind the boundary count."""

    name = "model"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        named = config.tokenizer if isinstance(config.tokenizer, str) else config.out / TokenizerStage.name
        if isinstance(named, Path) and not (named / WEIGHTS_FILE).is_file():
            raise ConfigError(
                f"{named} holds no trained tokenizer; run `kronos train tokenizer` with these settings first"
            )
        self.tokenizer = KronosTokenizer.from_pretrained(named).requires_grad_(False)
        model = _build(Kronos, KronosConfig, config.model, config.seed, max_context=config.data.window - 1)
        # Whatever it was before: this training computes the function that decoding a consistent checkpoint computes.
        rates = {f"{name}_dropout_p": rate for name, rate in config.dropout.model_dump(exclude_none=True).items()}
        model.config = dataclasses.replace(model.config, consistent=True, **rates)
        if rates:
            model = with_weights(Kronos, model.config, model.state_dict()).train()
        if config.time_features is not None:
            keep_time_features(model, config.time_features)
        bits = (self.tokenizer.config.s1_bits, self.tokenizer.config.s2_bits)
        if bits != (model.config.s1_bits, model.config.s2_bits):
            raise ConfigError(f"the tokenizer has {bits} bits, the network another vocabulary; they must agree")
        if config.lora is not None:
            add_lora(model, config.lora, config.seed)
        self.model = model
        self.module: nn.Module = model
        self._run: Callable[..., Any] = self._network_loss
        self._encode: Callable[..., Any] = self.tokenizer.encode

    def place(self, device: torch.device, compile_module: bool) -> None:
        self.tokenizer.to(device)
        self.model.to(device)
        if compile_module:
            self._run = torch.compile(self._network_loss)
            self._encode = torch.compile(self.tokenizer.encode)

    def batch(self, windows: Windows, *, later: bool = False) -> TrainingBatch:
        """Windows as the network reads them; ``later``: bars before the boundary are never asked about."""
        shortest = None if later else self.config.data.boundary[0]
        return make_batch(windows, self.tokenizer.config.bar_transform, shortest, self.config.data.clip)

    def counted(self, batch: TrainingBatch) -> Tensor:
        """(B, T - 1): how much each next bar counts in the loss."""
        return batch.asked[:, 1:].contiguous()

    def loss(self, batch: TrainingBatch, step: int, total: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and parts; ``total`` as in :func:`~kronos.model.network.token_loss`."""
        # float32: near a quantizer's boundary half precision would give other tokens than a forecast later sees
        with torch.no_grad(), torch.autocast(batch.features.device.type, enabled=False):
            s1, s2 = self._encode(batch.features, half=True)
        # spread evenly over the steps, so that the share is exact without a random draw
        share = self.config.loss.teacher_forcing
        forced = int((step + 1) * share) > int(step * share)
        return self._run(s1, s2, batch.stamps, self.counted(batch), forced, total)  # type: ignore[no-any-return]

    def _network_loss(
        self, s1: Tensor, s2: Tensor, stamps: Tensor, asked: Tensor, forced: bool, total: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        s1_logits, s2_logits = self.model(
            s1[:, :-1], s2[:, :-1], stamps[:, :-1], use_teacher_forcing=forced, s1_targets=s1[:, 1:] if forced else None
        )
        return token_loss(s1_logits, s2_logits, s1[:, 1:], s2[:, 1:], asked, self.config.loss.s1, total)

    def checkpoint(self, state: dict[str, Tensor]) -> Kronos:
        """Another network with the weights of a state, adapters merged into them, in eval mode."""
        if self.config.lora is None:
            return with_weights(Kronos, self.model.config, state).eval()
        with torch.device("meta"):
            model = Kronos(self.model.config)
        add_lora(model, self.config.lora, self.config.seed)
        model.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
        merge_lora(model)
        return model.eval()


def _build(cls: Any, config_class: Any, named: dict[str, Any] | str, seed: int, **defaults: Any) -> Any:
    """A new module from its shape and our defaults, or a trained one by its name; in train mode.

    A shape may begin with a ``preset``, the name of a published size, or with a ``start``, the name of a trained
    checkpoint whose weights are taken, and say what differs.
    """
    if isinstance(named, str):
        module = cls.from_pretrained(named)
        module.config = _unjudged(module.config)
        return module.train()
    shape = dict(named)
    if start := shape.pop("start", None):
        trained = cls.from_pretrained(start)
        config = config_class.from_dict({**_unjudged(trained.config).to_dict(), **shape})
        return with_weights(cls, config, trained.state_dict()).train()
    presets = MODEL_PRESETS if cls is Kronos else TOKENIZER_PRESETS
    if preset := shape.pop("preset", None):
        if preset not in presets:
            raise ConfigError(f"there is no preset '{preset}' of a {cls.kind}; choose of {', '.join(presets)}")
        shape = {**dataclasses.asdict(presets[preset]), **defaults, **shape}
    return cls.init(config_class.from_dict({**defaults, **shape}), seed).train()


def _unjudged(config: Any) -> Any:
    """The config without what was found of the weights that training is about to change; what they saw stays."""
    if not isinstance(config, KronosConfig):
        return config
    return dataclasses.replace(config, judged=None, training_cutoff=stated_cutoffs(vars(config)) or None)


def with_weights(cls: type[ModuleT], config: Any, state: dict[str, Tensor]) -> ModuleT:
    """A module built from its config that shares the tensors of a state."""
    with torch.device("meta"):
        module = cls(config)
    module.load_state_dict(state, assign=True)
    return module


@torch.no_grad()
def keep_time_features(model: Kronos, names: tuple[str, ...]) -> None:
    """Has a network read fewer time features: what the others added on average goes to the last one that stays."""
    read = model.config.time_features
    if not names or set(names) - set(read):
        raise ConfigError(f"time_features {list(names)}: choose some of those that the network reads, {list(read)}")
    if not model.config.learn_te:
        raise ConfigError("time_features can only be dropped where time embeddings are learnt (learn_te)")
    stays = model.time_emb.get_parameter(f"{names[-1]}_embed.weight")
    for name in sorted(set(read) - set(names)):  # in one order, so that rounding is the same everywhere
        weight = model.time_emb.get_parameter(f"{name}_embed.weight")
        first = 1 if name in ("day", "month") else 0  # their row 0 is never read
        stays.add_(weight[first:].mean(0))
        weight.zero_()
        weight.requires_grad_(False)  # zero and stays so
    model.config = dataclasses.replace(model.config, time_features=tuple(n for n in read if n in names))


def add_lora(model: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Freezes a network and adds low-rank adapters to its linear maps (Hu et al., arXiv 2106.09685)."""
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

    layers: list[tuple[str, Any]] = [(name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())


@torch.inference_mode()
def measured_gain(tokenizer: KronosTokenizer, batches: Iterable[TrainingBatch], fewest: int = 1) -> float | None:
    """What a tokenizer's decoded moves must be multiplied by, so that volatility does not waste away.

    A token is decoded to the mean of the bars it stands for, and a mean moves less than they do. Where the unit of the
    next move is a running volatility that feeds on the moves before it (``bar_transform: running``), a path would calm
    down bar by bar. With the gain, true and decoded bars change the logarithm of the weighted variance alike.

    Args:
        tokenizer: in eval mode, on the CPU.
        batches: of windows of more than 32 bars; shorter ones, and the first 32 bars of each, tell nothing.
        fewest: bars that tell something, below which the gain would be noise.

    Returns:
        The ``move_gain``, within .8 to 1.25, to four places; None where too few bars tell anything.
    """
    both: tuple[list[Variances], list[Variances]] = ([], [])  # true bars, decoded ones
    for batch in batches:
        told = (batch.real[:, _SETTLED:] > 0).numpy()
        decoded = tokenizer.decode(tokenizer.encode(batch.features, half=True), half=True)
        for found, features in zip(both, (batch.features, decoded), strict=True):
            found.append(np.asarray(moves_variance(np.sinh(features[:, _SETTLED:, :4].double().numpy())))[told])
    true, shrunk = map(np.concatenate, both)
    if true.size < fewest:
        return None

    def growth(variances: Variances) -> float:
        """Mean change of the logarithm of the weighted variance with a bar."""
        return float(np.log(DECAY + (1.0 - DECAY) * variances).mean())

    low, high = _GAINS
    wanted = growth(true)
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle**2 * shrunk) < wanted else (low, middle)
    return round((low + high) / 2, 4)


Stage = TokenizerStage | ModelStage
STAGES: dict[str, Callable[[RunConfig], Stage]] = {"tokenizer": TokenizerStage, "model": ModelStage}
