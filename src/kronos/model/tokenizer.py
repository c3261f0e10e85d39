"""The tokenizer: a bar becomes a coarse and a fine token, and back.

Notable:
- encoder and decoder are causal, so a token depends on the bars before it and never on those after;
- the decoder is trained twice at once, from the coarse bits alone and from all bits: the coarse token is a bar in
  itself, the fine token its correction;
- the quantizer sits between them as a seam (see :mod:`kronos.model.quantizer`).

Attribute names are the checkpoint's keys. Shapes: B series, T bars, F features, C width, K quantized dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.model.checkpoint import PretrainedMixin
from kronos.model.config import TokenizerConfig
from kronos.model.layers import TransformerBlock, init_weights, weighted_mean
from kronos.model.quantizer import BSQuantizer, build_quantizer, check_pair, join_ids, split_ids


class KronosTokenizer(PretrainedMixin, nn.Module):
    """Transformer auto-encoder with a quantized middle (paper, section 3.1)."""

    config_class = TokenizerConfig
    kind = "tokenizer"

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        dropout = (c.ffn_dropout_p, c.attn_dropout_p, c.resid_dropout_p)

        def blocks(count: int) -> nn.ModuleList:  # the published count is one more than the blocks it builds
            return nn.ModuleList(TransformerBlock(c.d_model, c.n_heads, c.ff_dim, *dropout) for _ in range(count - 1))

        self.tokenizer = build_quantizer(c)
        self.embed = nn.Linear(c.d_in, c.d_model)
        self.encoder = blocks(c.n_enc_layers)
        self.quant_embed = nn.Linear(c.d_model, self.tokenizer.width)
        self.post_quant_embed_pre = nn.Linear(self.tokenizer.s1_width, c.d_model)
        self.post_quant_embed = nn.Linear(self.tokenizer.width, c.d_model)
        self.decoder = blocks(c.n_dec_layers)
        self.head = nn.Linear(c.d_model, c.d_in)

    @classmethod
    def init(cls, config: TokenizerConfig, seed: int = 0) -> KronosTokenizer:
        """A freshly initialised tokenizer, from its own random stream."""
        tokenizer = cls(config)
        init_weights(tokenizer, torch.Generator().manual_seed(seed))
        return tokenizer

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
        """Reconstructs bars from coarse and from all bits.

        Args:
            x: (B, T, F) normalised features.

        Returns:
            ((x_coarse, x_full), quantizer loss, quantized (B, T, K), joint ids (B, T)).
        """
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

    def decode(self, ids: Tensor | Sequence[Tensor], half: bool = False) -> Tensor:
        """Ids, as :meth:`encode` gives them -> (B, T, F) features."""
        if half:
            s1, s2 = check_pair(ids)
        else:
            assert isinstance(ids, Tensor)
            s1, s2 = split_ids(ids, self.config.s1_bits)
        return self._decode(self.embed_ids(s1, s2))

    def embed_ids(self, s1: Tensor, s2: Tensor) -> Tensor:
        """The decoder's input (B, T, C) for a pair of ids."""
        weight = self.post_quant_embed.weight
        return self.post_quant_embed(self.tokenizer.from_ids(s1, s2).to(weight.dtype))  # type: ignore[no-any-return]

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

    It may be negative: the quantizer's loss subtracts the entropy of the codebook.

    Args:
        x: (B, T, F) features.
        weights: (B, T), how much each bar counts; None counts all alike.
        total: what the weighted sums are divided by, as in :func:`~kronos.model.network.token_loss`.

    Returns:
        The loss and its parts (``mse_coarse``, ``mse_full``, ``quantizer``), all scalars, float32.
    """
    (coarse, full), quantizer, _, _ = tokenizer(x)

    def mse(y: Tensor) -> Tensor:
        if weights is None:
            return F.mse_loss(y.float(), x.float())
        return weighted_mean((y.float() - x.float()).pow(2).mean(-1), weights, total)

    parts: dict[str, Any] = {"mse_coarse": mse(coarse), "mse_full": mse(full), "quantizer": quantizer}
    return (coarse_weight * parts["mse_coarse"] + parts["mse_full"] + quantizer) / 2, parts
