"""Tiny checkpoints and inputs shared by the tests of the engine and the predictor."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import torch

from kronos.inference.engine import Batch
from kronos.inference.predictor import KronosPredictor
from kronos.inference.rng import uniforms
from kronos.model import MODEL_PRESETS, TOKENIZER_PRESETS, Kronos, KronosTokenizer

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"


@cache
def published() -> tuple[Kronos, KronosTokenizer]:
    """The tiny reference checkpoint. Shared: tests that change weights or flags make their own."""
    return Kronos.from_pretrained(REFERENCE), KronosTokenizer.from_pretrained(REFERENCE)


@cache
def consistent() -> tuple[Kronos, KronosTokenizer]:
    """The same weights as a checkpoint of ours that reads returns."""
    model, tokenizer = published()
    ours = Kronos(dataclasses.replace(model.config, consistent=True, max_context=64)).eval()
    ours.load_state_dict(model.state_dict())
    reads_returns = KronosTokenizer(dataclasses.replace(tokenizer.config, bar_transform="returns")).eval()
    reads_returns.load_state_dict(tokenizer.state_dict())
    return ours, reads_returns


def odd_pair() -> tuple[Kronos, KronosTokenizer]:
    """Unequal bits, FSQ, head widths of trunk and dependency layer that differ, fixed time embeddings."""
    model = dataclasses.replace(
        MODEL_PRESETS["mini"], s1_bits=4, s2_bits=6, n_layers=2, d_model=48, n_heads=6, ff_dim=40, learn_te=False,
        consistent=True,
    )  # fmt: skip
    tokenizer = dataclasses.replace(
        TOKENIZER_PRESETS["2k"], s1_bits=4, s2_bits=6, d_model=24, n_heads=3, ff_dim=32, n_enc_layers=2, n_dec_layers=2,
        quantizer="fsq",
    )  # fmt: skip
    return Kronos.init(model, 1).eval(), KronosTokenizer.init(tokenizer, 2).eval()


def predictor(pair: tuple[Kronos, KronosTokenizer], max_context: int = 64, **options: object) -> KronosPredictor:
    return KronosPredictor(*pair, device="cpu", max_context=max_context, **options)  # type: ignore[arg-type]


def batch(series: int, context: int, horizon: int, paths: int, lengths: list[int] | None = None) -> Batch:
    """Random walks with random stamps."""
    draw = torch.Generator().manual_seed(context)
    features = (torch.randn(series, context, 6, generator=draw).cumsum(1) * 0.3).clamp(-5, 5)
    rows = (60, 24, 7, 32, 13)
    stamps = torch.stack([torch.randint(n, (series, context + horizon), generator=draw) for n in rows], -1)
    draws = torch.from_numpy(uniforms(3, [bytes([i]) for i in range(series)], paths, horizon))
    real = lengths or [context] * series
    return Batch(features, real, stamps[:, :context], stamps[:, context:], draws)
