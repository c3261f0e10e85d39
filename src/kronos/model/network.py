"""The network: a causal transformer over pairs of tokens, coarse first, then fine given coarse.

Notable:
- a bar enters as the fusion of its two token embeddings plus the embedding of its time;
- one hidden state predicts the next bar's coarse token; a dependency-aware layer, whose query is the embedding of
  that coarse token, predicts the fine one, so p(s1, s2) = p(s1) p(s2 | s1);
- every path is causal in train and in eval mode alike.

*Consistent* checkpoints decode the function that they were trained on; *published* ones leave the dependency layer's
keys and query unrotated while decoding, as the published code does, though their training rotated them.

Attribute names are the checkpoint's keys. Shapes: B series, T bars, C width, V1 and V2 vocabulary sizes.
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
from kronos.model.config import DEPENDENCY_HEADS, TIME_FEATURES, KronosConfig
from kronos.model.layers import Attention, RMSNorm, TransformerBlock, init_weights, weighted_mean

# Rows of each table, in the order of the stamp's last dimension. Days and months count from 1, so row 0 is unused.
TIME_TABLES = dict(zip(TIME_FEATURES, (60, 24, 7, 32, 13)))


class HierarchicalEmbedding(nn.Module):
    """Embeds both tokens of a bar and fuses them, coarse first."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.emb_s1 = nn.Embedding(2**s1_bits, d_model)
        self.emb_s2 = nn.Embedding(2**s2_bits, d_model)
        self.fusion_proj = nn.Linear(2 * d_model, d_model)

    def forward(self, s1_ids: Tensor | Sequence[Tensor], s2_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids, apart or as one pair -> (B, T, C)."""
        if s2_ids is None:
            if isinstance(s1_ids, Tensor):
                raise ConfigError(
                    "the embedding takes s1 and s2 ids; split joint ids with kronos.model.tokenizer.split_ids"
                )
            s1_ids, s2_ids = s1_ids
        pair = torch.cat((self.emb_s1(s1_ids), self.emb_s2(s2_ids)), dim=-1) * self.scale
        return self.fusion_proj(pair)  # type: ignore[no-any-return]


class FixedEmbedding(nn.Module):
    """Sinusoids that neither training nor initialisation changes."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        position = torch.arange(rows, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float32) * (-math.log(10_000.0) / d_model))
        self.emb = nn.Embedding(rows, d_model)
        table = torch.stack(((position * rate).sin(), (position * rate).cos()), dim=-1).flatten(1)
        self.emb.weight = nn.Parameter(table, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.emb(ids)  # type: ignore[no-any-return]


class TemporalEmbedding(nn.Module):
    """Sum of the embeddings of minute, hour, weekday, day and month; those that do not count have a table of zeros."""

    def __init__(self, d_model: int, learn: bool, used: tuple[str, ...] = TIME_FEATURES) -> None:
        super().__init__()
        for name, rows in TIME_TABLES.items():
            table = nn.Embedding(rows, d_model) if learn else FixedEmbedding(rows, d_model)
            if name not in used:
                for weight in table.parameters():
                    nn.init.zeros_(weight.requires_grad_(False))
            self.add_module(f"{name}_embed", table)

    def forward(self, stamp: Tensor) -> Tensor:
        """(B, T, 5) integer stamps -> (B, T, C)."""
        columns = zip(TIME_TABLES, stamp.long().unbind(-1))
        return torch.stack([self.get_submodule(f"{name}_embed")(column) for name, column in columns]).sum(0)


class DependencyAwareLayer(nn.Module):
    """The embedding of the coarse token asks the hidden states what the fine token is (paper, section 3.2)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.cross_attn = Attention(d_model, DEPENDENCY_HEADS)
        self.norm = RMSNorm(d_model)

    def forward(
        self, hidden: Tensor, s1_embedding: Tensor, padding_mask: Tensor | None = None, *, rotate_positions: bool = True
    ) -> Tensor:
        """(B, T, C) hidden, (B, Q, C) embeddings of the coarse tokens after the last Q of them -> (B, Q, C).

        The answer to a single one is added to every state, (B, T, C), of which the last counts: so it is published.
        """
        n_asked = s1_embedding.shape[1]
        answer = self.cross_attn(s1_embedding, hidden, padding_mask, rotate_positions=rotate_positions)
        return self.norm((hidden if n_asked == 1 else hidden[:, -n_asked:]) + answer)  # type: ignore[no-any-return]


class DualHead(nn.Module):
    """One projection for each token."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.proj_s1 = nn.Linear(d_model, 2**s1_bits)
        self.proj_s2 = nn.Linear(d_model, 2**s2_bits)

    def forward(self, hidden: Tensor) -> Tensor:
        """s1 logits, as published; :meth:`cond_forward` gives those of s2."""
        return self.proj_s1(hidden)  # type: ignore[no-any-return]

    def cond_forward(self, hidden: Tensor) -> Tensor:
        return self.proj_s2(hidden)  # type: ignore[no-any-return]

    def compute_loss(
        self,
        s1_logits: Tensor,
        s2_logits: Tensor,
        s1_targets: Tensor,
        s2_targets: Tensor,
        padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The published loss, the mean of both cross-entropies, and each of them; 0 in the mask (B, T) is a real bar.

        Ours trains by :func:`token_loss`.
        """
        weights = None if padding_mask is None else (padding_mask == 0).float()
        loss, parts = token_loss(s1_logits, s2_logits, s1_targets, s2_targets, weights)
        return loss, parts["s1"], parts["s2"]


class Kronos(PretrainedModule):
    """Autoregressive model of candlesticks (paper, section 3.2)."""

    config_class = KronosConfig
    kind = "model"

    def __init__(self, *config: Any, **shape: Any) -> None:
        """From a :class:`KronosConfig`, or as published from its fields, by position or by name.

        From fields it is initialised too, from torch's global state; see :meth:`init` for a seed of its own.
        """
        c = KronosConfig.of(*config, **shape)
        super().__init__(c)
        self.s1_vocab_size = 2**c.s1_bits
        self.embedding = HierarchicalEmbedding(c.s1_bits, c.s2_bits, c.d_model)
        self.time_emb = TemporalEmbedding(c.d_model, c.learn_te, c.time_features)
        self.token_drop = nn.Dropout(c.token_dropout_p)
        self.transformer = nn.ModuleList(TransformerBlock(c) for _ in range(c.n_layers))
        self.norm = RMSNorm(c.d_model)
        self.dep_layer = DependencyAwareLayer(c.d_model)
        self.head = DualHead(c.s1_bits, c.s2_bits, c.d_model)
        if c is not next(iter(config), None):
            init_weights(self)

    def forward(
        self,
        s1_ids: Tensor,
        s2_ids: Tensor,
        stamp: Tensor | None = None,
        padding_mask: Tensor | None = None,
        use_teacher_forcing: bool = False,
        s1_targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the next bar at every position.

        Args:
            s1_ids, s2_ids: (B, T) tokens.
            stamp: (B, T, 5) minute, hour, weekday, day, month of each bar.
            padding_mask: (B, T) bool, True where a bar is padding.
            use_teacher_forcing: condition s2 on ``s1_targets``; otherwise on an s1 sampled from the model.
            s1_targets: (B, T) true coarse tokens of the *next* bar.
            generator: random stream of the sampled s1.

        Returns:
            s1 logits (B, T, V1) and s2 logits (B, T, V2).
        """
        s1_logits, hidden = self.decode_s1(s1_ids, s2_ids, stamp, padding_mask)
        if not use_teacher_forcing:
            probabilities = s1_logits.detach().float().softmax(-1).flatten(0, 1)
            s1_targets = torch.multinomial(probabilities, 1, generator=generator).view_as(s1_ids)
        elif s1_targets is None:
            raise ConfigError("use_teacher_forcing=True needs s1_targets, the true s1 of each next bar")
        # Rotated for published checkpoints too: this is the function that their training computed.
        fine = self.dep_layer(hidden, self.embedding.emb_s1(s1_targets), padding_mask)
        return s1_logits, self.head.proj_s2(fine)

    def decode_s1(
        self, s1_ids: Tensor, s2_ids: Tensor, stamp: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """s1 logits (B, T, V1) and hidden states (B, T, C)."""
        x = self.embedding(s1_ids, s2_ids)
        if stamp is not None:
            x = x + self.time_emb(stamp)
        x = self.token_drop(x)
        for block in self.transformer:
            x = block(x, padding_mask)
        hidden = self.norm(x)
        return self.head.proj_s1(hidden), hidden

    def decode_s2(self, context: Tensor, s1_ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """s2 logits given the coarse tokens that follow hidden states.

        Args:
            context: (B, T, C) hidden states of :meth:`decode_s1`.
            s1_ids: (B, Q) the tokens that follow the last Q of them.

        Returns:
            (B, Q, V2). For a single token (B, T, V2) as published, of which the last row is the one asked for.
        """
        query = self.embedding.emb_s1(s1_ids)
        # A token for every bar is what training computes, and that was rotated for published checkpoints too.
        rotated = self.config.consistent or s1_ids.shape[1] == context.shape[1]
        return self.head.proj_s2(self.dep_layer(context, query, padding_mask, rotate_positions=rotated))  # type: ignore[no-any-return]


def token_loss(
    s1_logits: Tensor,
    s2_logits: Tensor,
    s1_targets: Tensor,
    s2_targets: Tensor,
    weights: Tensor | None = None,
    s1_weight: float = 1.0,
    total: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """``(s1_weight * CE(s1) + CE(s2)) / 2``, in nats.

    Args:
        s1_logits, s2_logits: (B, T, V1) and (B, T, V2).
        s1_targets, s2_targets: (B, T) tokens of the next bar.
        weights: (B, T), how much each position counts (0: context or padding); None counts all alike.
        total: what the weighted sums are divided by; by default these weights' own sum. Processes that share a batch
            give a process's share of the sum over all of them, so that the mean of their losses is the batch's.
    """

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        reduction = "mean" if weights is None else "none"
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)
        return losses if weights is None else weighted_mean(losses, weights.flatten(), total)

    parts = {"s1": cross_entropy(s1_logits, s1_targets), "s2": cross_entropy(s2_logits, s2_targets)}
    return (s1_weight * parts["s1"] + parts["s2"]) / 2, parts
