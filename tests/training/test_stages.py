"""What is trained: only bars behind the boundary count, s2 sees the true s1, and bad pairs are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import MODEL, TOKENIZER

from kronos.bars.windows import Windows
from kronos.errors import ConfigError
from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.training.config import OptimSettings, RunConfig
from kronos.training.data import open_arrays, samplers
from kronos.training.run import build_optimizer, learning_rate
from kronos.training.stages import ModelStage, TokenizerStage, TrainingBatch, _build, make_batch


@pytest.fixture
def stage(make_config, tmp_path) -> ModelStage:
    KronosTokenizer.init(TokenizerConfig.from_dict(TOKENIZER)).save_pretrained(tmp_path / "run" / "tokenizer")
    made = ModelStage(make_config())
    made.module.eval()
    return made


@pytest.fixture
def batch(make_config, stage) -> TrainingBatch:
    config = make_config()
    return stage.batch(samplers(config, open_arrays(config), 4)[0](0))


def test_masks_follow_boundary_and_padding(make_config) -> None:
    config = make_config()
    windows = samplers(config, open_arrays(config), 4)[0](0)
    windows = dataclasses.replace(windows, valid=np.array([40, 30, 25, 40]), boundary=np.array([8, 9, 16, 12]))
    batch = make_batch(windows, "returns", 8)
    assert batch.features.shape == (4, 39, 6)
    assert batch.real.sum(1).tolist() == [39, 29, 24, 39]  # the first bar is the anchor
    assert batch.asked.sum(1).tolist() == [32, 21, 9, 28]
    for row, first in zip(batch.asked, windows.boundary):
        assert row[first - 2] == 0
        assert row[first - 1] == 1  # the first bar behind the boundary is asked for


def test_where_no_feature_knows_a_later_bar_all_behind_the_shortest_context_are_asked_about(make_config) -> None:
    config = make_config()
    windows = samplers(config, open_arrays(config), 4)[0](0)
    windows = dataclasses.replace(windows, valid=np.array([40, 30, 25, 40]), boundary=np.array([8, 9, 16, 12]))
    batch = make_batch(windows, "running", 8)
    assert batch.asked.sum(1).tolist() == [32, 22, 17, 32]
    assert (batch.asked[:, :7] == 0).all()
    assert (batch.asked[:, 7:] == batch.real[:, 7:]).all()
    other = dataclasses.replace(windows, boundary=np.array([20, 20, 20, 20]))
    torch.testing.assert_close(make_batch(other, "running", 8).features, batch.features, rtol=0, atol=0)


def loss_of(stage: ModelStage, batch: TrainingBatch, s1: torch.Tensor, s2: torch.Tensor, targets: Any) -> float:
    """The loss where the network reads ``s1, s2`` and is asked for ``targets``."""
    from kronos.model import token_loss

    with torch.no_grad():
        logits = stage.model(
            s1[:, :-1], s2[:, :-1], batch.stamps[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:]
        )
        return float(token_loss(*logits, *targets, batch.asked[:, 1:].contiguous())[0])


def test_targets_in_the_context_do_not_count(stage: ModelStage, batch: TrainingBatch) -> None:
    s1, s2 = stage.tokenizer.encode(batch.features, half=True)
    before = batch.asked[:, 1:] == 0
    other = [torch.where(before, (ids[:, 1:] + 3) % 16, ids[:, 1:]) for ids in (s1, s2)]
    true = [s1[:, 1:], s2[:, 1:]]
    expected = stage.loss(batch, 0)[0].item()
    assert loss_of(stage, batch, s1, s2, true) == pytest.approx(expected, rel=1e-6)
    assert loss_of(stage, batch, s1, s2, other) == pytest.approx(expected, rel=1e-6)
    asked = [torch.where(before, ids, (ids + 3) % 16) for ids in true]
    assert loss_of(stage, batch, s1, s2, asked) != pytest.approx(expected, rel=1e-3)


def test_padding_does_not_count(make_config, stage: ModelStage, batch: TrainingBatch) -> None:
    cut = dataclasses.replace(batch, real=batch.real.clone(), asked=batch.asked.clone())
    cut.real[:, 30:] = cut.asked[:, 30:] = 0
    wild = dataclasses.replace(cut, features=cut.features.clone())
    wild.features[:, 30:] = 4.0
    torch.testing.assert_close(stage.loss(wild, 0)[0], stage.loss(cut, 0)[0])


@pytest.mark.parametrize(("share", "forced"), [(1.0, 100), (0.0, 0), (0.3, 30), (0.5, 50)])
def test_share_of_teacher_forcing(
    make_config, stage: ModelStage, batch: TrainingBatch, share: float, forced: int
) -> None:
    stage.config = make_config(loss={"teacher_forcing": share})
    asked: list[bool] = []

    def spy(s1: Any, s2: Any, stamps: Any, weights: Any, force: bool, total: Any) -> Any:
        asked.append(force)
        return torch.zeros(()), {}

    stage._run = spy
    for step in range(100):
        stage.loss(batch, step)
    assert sum(asked) == forced


def test_teacher_forcing_conditions_s2_on_the_true_s1(stage: ModelStage, batch: TrainingBatch) -> None:
    s1, s2 = stage.tokenizer.encode(batch.features, half=True)
    logits = stage.model(s1[:, :-1], s2[:, :-1], batch.stamps[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:])
    other = stage.model(
        s1[:, :-1], s2[:, :-1], batch.stamps[:, :-1], use_teacher_forcing=True, s1_targets=(s1[:, 1:] + 1) % 16
    )
    torch.testing.assert_close(logits[0], other[0])
    assert not torch.allclose(logits[1], other[1])


def test_loss_weights(make_config, stage: ModelStage, batch: TrainingBatch) -> None:
    loss, parts = stage.loss(batch, 0)
    torch.testing.assert_close(loss, (parts["s1"] + parts["s2"]) / 2)
    stage.config = make_config(loss={"s1": 3.0})
    torch.testing.assert_close(stage.loss(batch, 0)[0], (3 * parts["s1"] + parts["s2"]) / 2)


def test_the_tokenizers_loss(make_config, batch: TrainingBatch) -> None:
    stage = TokenizerStage(make_config(loss={"coarse": 0.5}))
    loss, parts = stage.loss(batch, 0)
    torch.testing.assert_close(loss, (0.5 * parts["mse_coarse"] + parts["mse_full"] + parts["quantizer"]) / 2)


def test_the_tokenizer_is_frozen_in_stage_two(stage: ModelStage, batch: TrainingBatch) -> None:
    stage.loss(batch, 0)[0].backward()
    assert all(p.grad is None for p in stage.tokenizer.parameters())
    assert all(p.grad is not None for p in stage.model.head.parameters())
    assert not stage.tokenizer.training


def test_stage_two_needs_stage_one(make_config) -> None:
    with pytest.raises(ConfigError, match="train tokenizer"):
        ModelStage(make_config())


def test_vocabularies_must_agree(make_config, stage: ModelStage) -> None:
    with pytest.raises(ConfigError, match="must agree"):
        ModelStage(make_config(model={"s1_bits": 6}))


def test_only_matrices_decay() -> None:
    model = Kronos.init(KronosConfig.from_dict(MODEL))
    decay, keep = build_optimizer(model, OptimSettings(weight_decay=0.1), torch.device("cpu")).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.1, 0.0)
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in (decay, keep))
    assert decayed | kept == set(names.values())
    assert "transformer.0.self_attn.q_proj.weight" in decayed
    assert {"embedding.emb_s1.weight", "norm.weight", "head.proj_s1.bias", "time_emb.hour_embed.weight"} <= kept


def test_learning_rate_rises_and_falls() -> None:
    settings = OptimSettings(steps=1000, lr=2e-3, warmup=0.1, final_lr=0.05)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[99] == max(rates) == pytest.approx(2e-3)
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[549] == pytest.approx(2e-3 * (0.05 + 0.95 / 2), rel=1e-2)  # half-way down
    assert rates[-1] == pytest.approx(1e-4, rel=1e-2)
    assert learning_rate(0, OptimSettings(steps=1, warmup=0.0)) == pytest.approx(1.5e-3)


def test_other_schedules() -> None:
    constant = [
        learning_rate(step, OptimSettings(steps=50, lr=1e-3, warmup=5, schedule="constant")) for step in range(50)
    ]
    assert constant[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert set(constant[4:]) == {1e-3}
    tenth = OptimSettings(steps=100, lr=1.0, warmup=20, initial_lr=0.1)
    assert learning_rate(0, tenth) == pytest.approx(0.1 + 0.9 / 20)
    assert learning_rate(19, tenth) == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [40, 333])
def test_one_cycle_is_the_published_one(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-5, total_steps=steps, pct_start=0.1, div_factor=10
    )
    settings = OptimSettings(steps=steps, lr=4e-5, warmup=0.1, schedule="one_cycle")
    for step in range(steps):
        # torch puts the peak at a fraction of a step, we at the nearest whole one
        assert learning_rate(step, settings) == pytest.approx(optimizer.param_groups[0]["lr"], abs=2e-6)
        optimizer.step()
        theirs.step()
    assert learning_rate(steps - 1, settings) == pytest.approx(4e-10, rel=1e-3)


def test_a_network_reads_fewer_time_features(make_config, stage: ModelStage, tmp_path) -> None:
    """Hour stays, the rest is replaced by its mean: with one hour left over, outputs still depend on the hour alone."""
    stage.model.save_pretrained(tmp_path / "named")
    named = str(tmp_path / "named")
    fewer = ModelStage(make_config(model=named, time_features=["hour"]))
    assert fewer.model.config.time_features == ("hour",)
    stamps = torch.tensor([[[5, 3, 2, 1, 1]], [[9, 3, 6, 30, 12]], [[5, 4, 2, 1, 1]]])
    ids = torch.zeros((3, 1), dtype=torch.long)
    one, same_hour, other_hour = fewer.model.eval()(ids, ids, stamps)[0]
    torch.testing.assert_close(one, same_hour)
    assert not torch.allclose(one, other_hour)
    emb = stage.model.time_emb
    dropped = [emb.get_submodule(f"{n}_embed").weight[i:].mean(0) for n, i in WITHOUT_HOUR]
    mean = emb.hour_embed.weight[3] + torch.stack(dropped).sum(0)
    torch.testing.assert_close(fewer.model.time_emb(stamps)[0, 0], mean)
    learnt = {n for n, p in fewer.model.time_emb.named_parameters() if p.requires_grad}
    assert learnt == {"hour_embed.weight"}


WITHOUT_HOUR = (("minute", 0), ("weekday", 0), ("day", 1), ("month", 1))


def test_time_features_that_are_not_read(make_config, stage: ModelStage, tmp_path) -> None:
    with pytest.raises(ConfigError, match="time_features"):
        ModelStage(make_config(time_features=["second"]))


def test_settings_of_one_stage(make_config) -> None:
    config = make_config(stages={"tokenizer": {"steps": 3, "lr": 1e-4}})
    assert (config.optim_of("tokenizer").steps, config.optim_of("model").steps) == (3, 6)
    assert config.optim_of("tokenizer").lr == 1e-4
    for wrong in ({"model": {"lr": -1}}, {"model": {"rate": 1}}):
        with pytest.raises(ConfigError, match="settings do not hold"):
            make_config(stages=wrong)


def test_published_checkpoints_can_be_trained_on_and_become_consistent(tmp_path: Path) -> None:
    reference = str(Path(__file__).parent.parent / "data" / "reference_tiny")
    settings = {"out": tmp_path, "data": {"arrays": tmp_path, "window": 40, "boundary": (8, 24)}}
    rng = np.random.default_rng(0)
    close = np.exp(rng.normal(0, 0.01, (2, 40)).cumsum(1))
    values = np.stack([close, close * 1.01, close * 0.99, close, close, close], -1).astype(np.float32)
    stamps = np.ones((2, 40, 5), dtype=np.uint8)
    windows = Windows(values, stamps, valid=np.array([40, 40]), boundary=np.array([10, 20]))
    for stage_class in (TokenizerStage, ModelStage):
        stage = stage_class(RunConfig.from_dict({**settings, "tokenizer": reference, "model": reference}))
        batch = stage.batch(windows)
        assert batch.features.dtype == torch.float32
        loss, _ = stage.loss(batch, 0)
        loss.backward()
        assert torch.isfinite(loss)
    assert stage.module.config.consistent


@pytest.mark.parametrize("bar_transform", ["returns", "running"])
def test_validation_asks_behind_the_boundary_alone(make_config, tmp_path: Path, bar_transform: str) -> None:
    """Bars before it may have been trained on, whichever the stage and though no feature knows a later bar."""
    shape = {**TOKENIZER, "bar_transform": bar_transform}
    KronosTokenizer.init(TokenizerConfig.from_dict(shape)).save_pretrained(tmp_path / "run" / "tokenizer")
    config = make_config(tokenizer=shape)
    windows = samplers(config, open_arrays(config), 4)[1](0)
    assert windows.boundary.tolist() == [16] * 4
    for stage in (TokenizerStage(config), ModelStage(config)):
        batch = stage.batch(windows, later=True)
        counted = stage.counted(batch)
        assert (counted > 0).sum(1).tolist() == (windows.valid - 16).tolist()  # not one of the context's bars
        more = stage.counted(stage.batch(windows))
        assert (more.sum(1) > counted.sum(1)).all() == (stage.name == "tokenizer" or bar_transform == "running")


def test_what_was_found_of_a_checkpoint_does_not_hold_for_what_goes_on_from_it() -> None:
    for start in ("kronos-nano", {"start": "kronos-nano"}):
        assert _build(Kronos, KronosConfig, start, 0).config.judged is None
