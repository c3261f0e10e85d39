"""``move_gain``: measured from a tokenizer's own decoded bars, and stated in its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import TOKENIZER, train_tokenizer

from kronos.bars.transform.running import DECAY, moves_variance
from kronos.model import KronosTokenizer, TokenizerConfig
from kronos.model.checkpoint import read_config
from kronos.training.stages import TrainingBatch, measured_gain

RUNNING = {**TOKENIZER, "bar_transform": "running"}


class Shrinking(KronosTokenizer):
    """Decodes every move to a share of itself."""

    share = 0.9

    def encode(self, x, half=False):
        return x

    def decode(self, x, half=False):
        return torch.cat((torch.asinh(self.share * torch.sinh(x[..., :4])), x[..., 4:]), dim=-1)


class Cutting(Shrinking):
    """Decodes moves with the largest cut off."""

    def decode(self, x, half=False):
        return x.clamp(-0.8, 0.8)


def bars(seed: int = 0, windows: int = 8, length: int = 100) -> TrainingBatch:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(windows, length, 6, generator=generator) * 0.5
    features[..., 1:3] = features[..., 1:3].abs()  # shadows
    return TrainingBatch(
        features, torch.zeros(windows, length, 5), torch.ones(windows, length), torch.ones(windows, length)
    )


@pytest.mark.parametrize("share", [0.9, 1.0, 1.1])
def test_the_gain_undoes_what_decoding_shrinks(share: float) -> None:
    tokenizer = Shrinking(TokenizerConfig.from_dict(RUNNING))
    tokenizer.share = share
    assert measured_gain(tokenizer, [bars(0), bars(1)]) == pytest.approx(1 / share, abs=2e-4)


def test_the_gain_levels_the_growth_of_the_weighted_variance() -> None:
    """Where decoding is no mere factor."""
    batch = bars(2)
    gain = measured_gain(Cutting(TokenizerConfig.from_dict(RUNNING)), [batch])
    moves = np.sinh(batch.features[:, 32:, :4].double().numpy())
    cut = np.sinh(batch.features[:, 32:, :4].clamp(-0.8, 0.8).double().numpy())
    true, decoded = (np.log(DECAY + (1 - DECAY) * moves_variance(m)).mean() for m in (moves, gain * cut))
    assert gain > 1.01
    assert decoded == pytest.approx(true, abs=1e-4)


def test_padding_and_unsettled_bars_tell_nothing() -> None:
    tokenizer = Cutting(TokenizerConfig.from_dict(RUNNING))
    batch = bars(3)
    batch.real[:, 60:] = 0.0
    told = measured_gain(tokenizer, [batch])
    batch.features[:, :32, :4] *= 2.0
    batch.features[:, 60:, :4] *= 2.0
    assert measured_gain(tokenizer, [batch]) == told
    batch.features[:, 32:60, :4] *= 2.0
    assert measured_gain(tokenizer, [batch]) != told
    batch.real[:] = 0.0
    assert measured_gain(tokenizer, [batch]) is None


def test_too_few_bars_tell_nothing() -> None:
    tokenizer = Shrinking(TokenizerConfig.from_dict(RUNNING))
    assert measured_gain(tokenizer, [bars()], fewest=8 * 68) is not None
    assert measured_gain(tokenizer, [bars()], fewest=8 * 68 + 1) is None


def test_on_few_bars_a_tokenizer_keeps_the_gain_it_had(make_config) -> None:
    result = train_tokenizer(make_config(tokenizer={**RUNNING, "move_gain": 1.036}))
    assert KronosTokenizer.from_pretrained(result.folder).config.move_gain == 1.036


def test_a_trained_tokenizer_states_its_gain(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kronos.training.run._GAIN_BARS", 100)
    result = train_tokenizer(make_config(tokenizer=RUNNING))
    config = read_config(result.folder / "config.json")
    assert config["move_gain"] != 1.0
    assert KronosTokenizer.from_pretrained(result.folder).config.move_gain == config["move_gain"]


def test_one_that_reads_bars_otherwise_has_none(make_config) -> None:
    result = train_tokenizer(make_config())
    assert "move_gain" not in read_config(result.folder / "config.json")
