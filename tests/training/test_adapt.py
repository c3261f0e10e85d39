"""What a run changes about a network first: dropout, presets, low-rank adapters that leave a published checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import TOKENIZER, train_model

from kronos.errors import ConfigError
from kronos.model import Kronos, KronosTokenizer, TokenizerConfig
from kronos.model.checkpoint import PUBLISHED_CUTOFF, read_config
from kronos.training.stages import ModelStage, TokenizerStage
from kronos.training.state import whole_state

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"
NAMED = {"tokenizer": str(REFERENCE), "model": str(REFERENCE)}


@pytest.fixture
def with_tokenizer(tmp_path: Path) -> None:
    KronosTokenizer.init(TokenizerConfig.from_dict(TOKENIZER)).save_pretrained(tmp_path / "run" / "tokenizer")


def test_dropout_is_overridden_and_the_weights_stay(make_config) -> None:
    before = Kronos.from_pretrained(REFERENCE)
    model = ModelStage(make_config(**NAMED, dropout={"ffn": 0.25, "token": 0.5})).model
    assert (model.config.ffn_dropout_p, model.config.token_dropout_p) == (0.25, 0.5)
    assert (model.config.resid_dropout_p, model.config.attn_dropout_p) == (
        before.config.resid_dropout_p,
        before.config.attn_dropout_p,
    )
    assert (model.transformer[0].ffn.ffn_dropout.p, model.token_drop.p) == (0.25, 0.5)
    assert model.training
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.usefixtures("with_tokenizer")
def test_lora_trains_adapters_alone(make_config) -> None:
    stage = ModelStage(make_config(lora={"rank": 2}))
    learnt = {name for name, p in stage.module.named_parameters() if p.requires_grad}
    assert learnt
    assert all("lora_" in name for name in learnt)
    assert {name.split(".")[-4] for name in learnt} == {"q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3"}
    again = ModelStage(make_config(lora={"rank": 2}))  # seeded, whatever the global stream stands at
    assert all(
        torch.equal(a, b) for a, b in zip(stage.module.state_dict().values(), again.module.state_dict().values())
    )


@pytest.mark.usefixtures("with_tokenizer")
def test_merged_adapters_compute_the_same(make_config) -> None:
    stage = ModelStage(make_config(lora={"rank": 2, "alpha": 3}))
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in stage.module.named_parameters():
            if "lora_B" in name:  # begins at zero
                parameter.copy_(torch.randn(parameter.shape, generator=stream) * 0.1)
    ids = torch.randint(0, 16, (2, 9), generator=stream)
    stage.module.eval()
    before = stage.model(ids, ids)[0]
    merged = stage.checkpoint(whole_state(stage.module))
    torch.testing.assert_close(merged(ids, ids)[0], before, atol=1e-5, rtol=1e-5)
    assert merged.state_dict().keys() == Kronos.init(merged.config).state_dict().keys()
    torch.testing.assert_close(stage.model(ids, ids)[0], before)  # the one in training is as it was


def test_a_published_checkpoint_is_adapted_and_stays_published(make_config, tmp_path: Path) -> None:
    """LoRA on the published layout: resumed to the bit, and the checkpoint has the published keys and config."""
    common = {**NAMED, "lora": {"rank": 2}, "save_every": 2, "validate_every": 3}
    whole = make_config(**common, out=tmp_path / "whole")
    train_model(whole)
    parts = make_config(**common, out=tmp_path / "parts")

    def stop(record: dict[str, float]) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(parts, progress=stop)
    train_model(parts, resume=True)
    ours, theirs = (load_file(run.out / "model" / "model.safetensors") for run in (whole, parts))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    published = load_file(REFERENCE / "model" / "model.safetensors")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}
    changed = {key.split(".")[-2] for key in ours if not torch.equal(ours[key], published[key])}
    assert changed == {"q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3"}
    config, known = (read_config(f / "config.json") for f in (whole.out / "model", REFERENCE / "model"))
    assert config.pop("training_cutoff")["start"] == PUBLISHED_CUTOFF  # beside the ends of this run
    assert config == {**known, "consistent": True}


def test_presets_are_shapes(make_config) -> None:
    small = {"preset": "base", "d_model": 16, "ff_dim": 32, "s1_bits": 4}
    stage = TokenizerStage(make_config().model_copy(update={"tokenizer": small}))
    assert (stage.tokenizer.config.d_model, stage.tokenizer.config.n_enc_layers) == (16, 4)
    assert (stage.tokenizer.config.s1_bits, stage.tokenizer.config.s2_bits) == (4, 10)
    assert stage.tokenizer.config.bar_transform == "returns"
    with pytest.raises(ConfigError, match="no preset 'huge'"):
        TokenizerStage(make_config(tokenizer={"preset": "huge"}))
