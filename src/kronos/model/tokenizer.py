"""The tokenizer: a bar becomes a coarse and a fine token, and back.

Notable:
- encoder and decoder are causal, so a token depends on the bars before it and never on those after;
- the decoder is trained twice at once, from the coarse bits alone and from all bits: the coarse token is a bar in
  itself, the fine token its correction;
- between them sits a quantizer without parameters, one of two kinds that the config names. Both keep the coarse half
  (s1) in the first dimensions, so that the decoder can be run on it alone, and have the same members:

``width``, ``s1_width``
    dimensions of the vector that is quantized, and how many of them, counted from the first, are the coarse token's;
``quantizer(z)``
    (…, width) -> quantized (…, width) with a straight-through gradient, and a scalar loss;
``to_ids(quantized)``, ``from_ids(s1, s2)``
    (…, width) -> s1 and s2 ids, each (…) int64, and back to (…, width) float32.

Attribute names are the checkpoint's keys. Shapes: B series, T bars, F features, C width, K quantized dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.errors import ConfigError
from kronos.model.checkpoint import PretrainedModule
from kronos.model.config import TokenizerConfig
from kronos.model.layers import TransformerBlock, weighted_mean


def bits_to_ids(bits: Tensor) -> Tensor:
    """(…, n) of 0 and 1 -> (…) int64; little-endian: dimension i weighs 2^i."""
    weights = 1 << torch.arange(bits.shape[-1], device=bits.device)
    return (bits.long() * weights).sum(-1)


def ids_to_bits(ids: Tensor, n_bits: int) -> Tensor:
    """(…) int64 -> (…, n_bits) of 0 and 1, little-endian."""
    return (ids.unsqueeze(-1) >> torch.arange(n_bits, device=ids.device)) & 1


class BatchMean(nn.Module):
    """The mean over a batch, from that over this process's part; training on several puts a module here that averages
    over them, since the entropy of a batch is not the mean of the entropies of its parts.
    """

    processes = 1  # that share the batch

    def forward(self, mean: Tensor) -> Tensor:
        return mean


class BinarySphericalQuantizer(nn.Module):
    """Sign of a point on the unit sphere (Zhao et al., arXiv 2406.07548), scaled back onto the sphere.

    Loss, with u the normalised vector and q the scaled sign: ``beta * mean(sum((q - u)^2))`` pulls u towards its code;
    ``zeta * (gamma0 * E[H(p)] - gamma * H(E[p]))`` wants each bar decided and all codes used. The second
    entropy is subtracted, so the whole loss may well be negative.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, self.n_bits = config, config.s1_bits + config.s2_bits
        self.batch_mean: BatchMean = BatchMean()
        # Unused here, stored because the published layout has them.
        for name, bits in (("basis", self.n_bits), ("group_basis", config.group_size)):
            self.register_buffer(name, 1 << torch.arange(bits - 1, -1, -1, device="cpu"))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = F.normalize(z.float(), dim=-1)  # float32: entropies of nearly decided bits vanish in half precision
        scale = 1.0 / math.sqrt(self.n_bits)
        sign = torch.where(u > 0, 1.0, -1.0)  # 0 counts as -1
        q = scale * sign
        commitment = (q - u).pow(2).sum(-1).mean()
        p = torch.sigmoid(-4.0 * scale * u)
        per_bar = _binary_entropy(p).sum(-1).mean()
        codebook = _binary_entropy(self.batch_mean(p.flatten(0, -2).mean(0))).sum()
        c = self.config
        loss = c.beta * commitment + c.zeta * (c.gamma0 * per_bar - c.gamma * codebook)
        return scale * (u + (sign - u).detach()), loss  # straight through to the unscaled sign, as published


def _binary_entropy(p: Tensor) -> Tensor:
    """Entropy in nats of a bit that is 1 with probability p."""
    return -(p * torch.log(p + 1e-8) + (1 - p) * torch.log(1 - p + 1e-8))


class BSQuantizer(nn.Module):
    """Binary spherical quantization with its bits split into a coarse and a fine id."""

    _SHARPNESS = 4.0  # of the soft assignment: a bit where u, ±1 at a code, stands at it is 98 % decided
    _MOST_BARS = 4096  # of a batch that are counted, evenly taken

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.s1_width, self.width = config.s1_bits, config.s1_bits + config.s2_bits
        self.bsq = BinarySphericalQuantizer(config)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.bsq(z)  # type: ignore[no-any-return]

    def codes_entropy(self, z: Tensor) -> Tensor:
        """Entropies of a batch's coarse and fine codes, softly assigned, added, in nats: (B, T, width) -> scalar.

        The published loss lacks it: its bits may each be 1 half of the time and yet go together, so that most codes
        never occur.
        """
        bars = z.shape[0] * z.shape[1] * self.bsq.batch_mean.processes
        some = z[:, :: math.ceil(bars / self._MOST_BARS)]  # the same of each window, however many processes share them
        u = F.normalize(some.float().flatten(0, 1), dim=-1) * math.sqrt(self.width) * self._SHARPNESS
        entropy = u.new_zeros(())
        for half in (u[:, : self.s1_width], u[:, self.s1_width :]):
            n_bits = half.shape[1]
            codes = ids_to_bits(torch.arange(1 << n_bits, device=u.device), n_bits).float()  # (2^n, n)
            p = (F.logsigmoid(half) @ codes.T + F.logsigmoid(-half) @ (1 - codes).T).exp()
            mean = self.bsq.batch_mean(p.mean(0))
            entropy = entropy - (mean * torch.log(mean + 1e-12)).sum()
        return entropy

    def to_ids(self, quantized: Tensor) -> tuple[Tensor, Tensor]:
        bits = quantized > 0
        return bits_to_ids(bits[..., : self.s1_width]), bits_to_ids(bits[..., self.s1_width :])

    def from_ids(self, s1: Tensor, s2: Tensor) -> Tensor:
        bits = torch.cat((ids_to_bits(s1, self.s1_width), ids_to_bits(s2, self.width - self.s1_width)), dim=-1)
        return (bits.float() * 2 - 1) / math.sqrt(self.width)


class FSQuantizer(nn.Module):
    """Finite scalar quantization (Mentzer et al., arXiv 2309.15505) with four levels, two bits, a dimension.

    It needs no auxiliary loss: rounding a bounded value cannot leave codes far out of reach.
    """

    LEVELS = 4

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.s1_width, self.width = config.s1_bits // 2, (config.s1_bits + config.s2_bits) // 2

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        half = (self.LEVELS - 1) * (1 + 1e-3) / 2  # a little wider, so that the outer levels can be reached
        bounded = torch.tanh(z.float() + math.atanh(0.5 / half)) * half - 0.5  # in (-2, 1): rounds to -2 … 1
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.LEVELS // 2), z.new_zeros((), dtype=torch.float32)

    def to_ids(self, quantized: Tensor) -> tuple[Tensor, Tensor]:
        digits = (quantized * (self.LEVELS // 2)).round().long() + self.LEVELS // 2
        bits = ids_to_bits(digits, 2).flatten(-2)
        return bits_to_ids(bits[..., : 2 * self.s1_width]), bits_to_ids(bits[..., 2 * self.s1_width :])

    def from_ids(self, s1: Tensor, s2: Tensor) -> Tensor:
        s1_bits, s2_bits = 2 * self.s1_width, 2 * (self.width - self.s1_width)
        bits = torch.cat((ids_to_bits(s1, s1_bits), ids_to_bits(s2, s2_bits)), dim=-1)
        digits = bits_to_ids(bits.view(*s1.shape, self.width, 2))
        return (digits - self.LEVELS // 2).float() / (self.LEVELS // 2)


def build_quantizer(config: TokenizerConfig) -> BSQuantizer | FSQuantizer:
    """The quantizer that the config names."""
    return FSQuantizer(config) if config.quantizer == "fsq" else BSQuantizer(config)


def join_ids(s1: Tensor, s2: Tensor, s1_bits: int) -> Tensor:
    """One id over all bits; the coarse bits are the low ones."""
    return s1 + (s2 << s1_bits)


def split_ids(ids: Tensor, s1_bits: int) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`join_ids`."""
    return ids & ((1 << s1_bits) - 1), ids >> s1_bits


class KronosTokenizer(PretrainedModule):
    """Transformer auto-encoder with a quantized middle (paper, section 3.1)."""

    config_class = TokenizerConfig
    kind = "tokenizer"

    def __init__(self, *config: Any, **shape: Any) -> None:
        """From a :class:`TokenizerConfig`, or as published from its fields, by position or by name."""
        c = TokenizerConfig.of(*config, **shape)
        super().__init__(c)
        self.enc_layers, self.dec_layers, self.codebook_dim = c.n_enc_layers, c.n_dec_layers, c.s1_bits + c.s2_bits
        self.tokenizer = build_quantizer(c)
        self.embed = nn.Linear(c.d_in, c.d_model)
        # The published counts of layers are one more than the blocks there are.
        self.encoder = nn.ModuleList(TransformerBlock(c) for _ in range(c.n_enc_layers - 1))
        self.quant_embed = nn.Linear(c.d_model, self.tokenizer.width)
        self.post_quant_embed_pre = nn.Linear(self.tokenizer.s1_width, c.d_model)
        self.post_quant_embed = nn.Linear(self.tokenizer.width, c.d_model)
        self.decoder = nn.ModuleList(TransformerBlock(c) for _ in range(c.n_dec_layers - 1))
        self.head = nn.Linear(c.d_model, c.d_in)

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
        """(B, T, F) features -> ((x_coarse, x_full), quantizer loss, quantized (B, T, K), joint ids (B, T))."""
        z = self._encode(x)
        quantized, loss = self.tokenizer(z)
        if self.config.code_entropy:
            assert isinstance(self.tokenizer, BSQuantizer)  # the config refuses it with another
            loss = loss - self.config.code_entropy * self.tokenizer.codes_entropy(z)
        coarse = self._decode(self.post_quant_embed_pre(quantized[..., : self.tokenizer.s1_width]))
        full = self._decode(self.post_quant_embed(quantized))
        ids = join_ids(*self.tokenizer.to_ids(quantized), self.config.s1_bits)
        return (coarse, full), loss, quantized, ids

    def encode(self, x: Tensor, half: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, T, F) features -> ids: (s1, s2), each (B, T), if ``half``; else one joint id (B, T)."""
        quantized, _ = self.tokenizer(self._encode(x))
        s1, s2 = self.tokenizer.to_ids(quantized)
        return (s1, s2) if half else join_ids(s1, s2, self.config.s1_bits)

    def decode(self, x: Tensor | Sequence[Tensor], half: bool = False) -> Tensor:
        """Ids, as :meth:`encode` gives them -> (B, T, F) features."""
        return self._decode(self.embed_ids(*self._halves(x, half)))

    def indices_to_bits(self, x: Tensor | Sequence[Tensor], half: bool = False) -> Tensor:
        """Ids, as :meth:`encode` gives them -> (B, T, K) what they were quantized to: ±1/√K for the published kind."""
        return self.tokenizer.from_ids(*self._halves(x, half))

    def embed_ids(self, s1: Tensor, s2: Tensor) -> Tensor:
        """The decoder's input (B, T, C) for a pair of ids."""
        weight = self.post_quant_embed.weight
        return self.post_quant_embed(self.tokenizer.from_ids(s1, s2).to(weight.dtype))  # type: ignore[no-any-return]

    def _halves(self, ids: Tensor | Sequence[Tensor], half: bool) -> tuple[Tensor, Tensor]:
        """s1 and s2 ids of a pair, if ``half``, or of joint ids."""
        if not half:
            assert isinstance(ids, Tensor)
            return split_ids(ids, self.config.s1_bits)
        if isinstance(ids, Tensor) or len(ids) != 2:
            raise ConfigError("half=True takes a pair of id tensors (s1, s2); for one id a bar use half=False")
        s1, s2 = ids
        if s1.shape != s2.shape:
            raise ConfigError(f"s1 ids of shape {tuple(s1.shape)} and s2 ids of shape {tuple(s2.shape)} differ")
        return s1, s2

    def _encode(self, x: Tensor) -> Tensor:
        z = self.embed(x)
        for block in self.encoder:
            z = block(z)
        return self.quant_embed(z)  # type: ignore[no-any-return]

    def _decode(self, z: Tensor) -> Tensor:
        for block in self.decoder:
            z = block(z)
        return self.head(z)  # type: ignore[no-any-return]


def tokenizer_loss(
    tokenizer: KronosTokenizer,
    x: Tensor,
    weights: Tensor | None = None,
    coarse_weight: float = 1.0,
    total: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """``(coarse_weight * mse(x_coarse) + mse(x_full) + quantizer loss) / 2`` (the published halving kept).

    It may be negative: the quantizer's loss subtracts the entropy of the codebook. Features x are (B, T, F);
    ``weights`` (B, T) and ``total`` as in :func:`~kronos.model.network.token_loss`.
    """
    (coarse, full), quantizer, _, _ = tokenizer(x)

    def mse(y: Tensor) -> Tensor:
        if weights is None:
            return F.mse_loss(y.float(), x.float())
        return weighted_mean((y.float() - x.float()).pow(2).mean(-1), weights, total)

    parts = {"mse_coarse": mse(coarse), "mse_full": mse(full), "quantizer": quantizer}
    return (coarse_weight * parts["mse_coarse"] + parts["mse_full"] + quantizer) / 2, parts
