"""Tiny checkpoints and inputs shared by the tests of the engine and the predictor."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from kronos.inference.compiled import CompiledModel
from kronos.inference.decode import Continuation, DecodeBatch, continue_batch
from kronos.inference.fused import FusedModel, FusedTokenizer
from kronos.inference.oracle import recompute_everything
from kronos.inference.predictor import KronosPredictor
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings
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


def batch(series: int, context: int, horizon: int, paths: int, lengths: list[int] | None = None) -> DecodeBatch:
    """Random walks with random stamps."""
    draw = torch.Generator().manual_seed(context)
    features = (torch.randn(series, context, 6, generator=draw).cumsum(1) * 0.3).clamp(-5, 5)
    rows = (60, 24, 7, 32, 13)
    stamps = torch.stack([torch.randint(n, (series, context + horizon), generator=draw) for n in rows], -1)
    draws = torch.from_numpy(uniforms(3, [bytes([i]) for i in range(series)], paths, horizon))
    real = lengths or [context] * series
    return DecodeBatch(features, real, stamps[:, :context], stamps[:, context:], draws)


PAIRS = {"published": published, "consistent": consistent, "odd": odd_pair}
GREEDY, PLAIN, NUCLEUS = DecodeSettings(0), DecodeSettings(), DecodeSettings(0.8, 20, 0.9)
# series, context, horizon, paths, max_context, stride
CASES = {
    "one path": (1, 40, 12, 1, 128, 1),
    "shared prefix": (2, 40, 12, 3, 128, 1),
    "slides by one": (2, 40, 20, 3, 48, 1),
    "slides by eight": (2, 40, 20, 3, 48, 8),
    "context beyond the window": (2, 60, 20, 2, 48, 8),
    "horizon beyond the window": (2, 20, 70, 2, 24, 5),
    "one path, past the context": (1, 20, 70, 1, 24, 1),
    "one bar of context": (1, 1, 9, 2, 24, 5),
}


def run(
    pair: tuple[Kronos, KronosTokenizer],
    batch: DecodeBatch,
    settings: DecodeSettings,
    *,
    compiled: bool = False,
    **window: int,
) -> Continuation:
    model, tokenizer = pair
    with torch.no_grad():
        net, tok = FusedModel(model, torch.float32), FusedTokenizer(tokenizer, torch.float32)
        machine_code = CompiledModel(net) if compiled else None
    return continue_batch(net, tok, batch, dataclasses.replace(settings, **window), compiled=machine_code)


def judge(
    pair: tuple[Kronos, KronosTokenizer], batch: DecodeBatch, settings: DecodeSettings, **window: int
) -> tuple[Tensor, Tensor, Tensor]:
    stamps = torch.cat((batch.stamps, batch.future), dim=1)
    return recompute_everything(*pair, batch.features, stamps, batch.uniforms, dataclasses.replace(settings, **window))
