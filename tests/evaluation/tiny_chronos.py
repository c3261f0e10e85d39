"""Chronos checkpoints of the real classes with random weights, a few kilobytes each."""

from __future__ import annotations

from pathlib import Path

T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
}
DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def save_bolt(folder: Path) -> None:
    """Chronos-Bolt: nine deciles per step, blocks of 16."""
    import torch
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    chronos = {"context_length": 64, "prediction_length": 16, "input_patch_size": 8, "input_patch_stride": 8}
    config = T5Config(**T5, num_decoder_layers=1, dense_act_fn="relu", is_gated_act=False, feed_forward_proj="relu")
    config.chronos_config = {**chronos, "quantiles": DECILES, "use_reg_token": True}
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.architectures = ["ChronosBoltModelForForecasting"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ChronosBoltModelForForecasting(config).save_pretrained(folder)


def save_t5(folder: Path) -> None:
    """The first Chronos: tokens of scaled values, sampled."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(**{**T5, "vocab_size": 64}, num_decoder_layers=1)
    config.chronos_config = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": 0.5, "high_limit": 1.5},
        "n_tokens": 64,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "context_length": 64,
        "prediction_length": 16,
        "num_samples": 5,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    config.architectures = ["T5ForConditionalGeneration"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5ForConditionalGeneration(config).save_pretrained(folder)


def save_second(folder: Path) -> None:
    """Chronos-2: an encoder alone, one answer per series."""
    import torch
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    chronos = {"context_length": 64, "output_patch_size": 16, "input_patch_size": 16, "input_patch_stride": 16}
    levels = [0.01, 0.05, *DECILES, 0.95, 0.99]
    config = Chronos2CoreConfig(
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        chronos_config={**chronos, "quantiles": levels, "use_reg_token": True, "max_output_patches": 4},
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Chronos2Model(config).save_pretrained(folder)
