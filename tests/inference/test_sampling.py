from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kronos.errors import ConfigError
from kronos.inference.sampling import sample_token
from kronos.inference.settings import DecodeSettings
from kronos.spec import ForecastSpec


def obvious(logits: np.ndarray, uniform: float, settings: DecodeSettings) -> int:
    """The definition, token by token, in float64."""
    if settings.greedy:
        return int(np.argmax(logits))
    weights = np.exp((logits - logits.max()) / settings.temperature)
    if 0 < settings.top_k < len(weights):
        weights[weights < np.sort(weights)[-settings.top_k]] = 0
    if settings.top_p < 1:
        share, kept = 0.0, np.zeros(len(weights), dtype=bool)
        for token in np.argsort(-weights, kind="stable"):
            if share > settings.top_p * weights.sum():
                break
            kept[token], share = True, share + weights[token]
        weights[~(weights >= weights[kept].min())] = 0
    reached = 0.0
    for token, weight in enumerate(weights):
        reached += weight
        if reached > uniform * weights.sum():
            return token
    raise AssertionError("unreachable")


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 40),
    st.floats(0.1, 5),
    st.integers(0, 45),
    st.floats(0.01, 1),
    st.integers(0, 2**24 - 1),
)
def test_equals_the_definition(seed: int, size: int, temperature: float, top_k: int, top_p: float, tick: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)
    settings = DecodeSettings(temperature, top_k, top_p)
    uniform = tick / 2**24
    found = int(sample_token(torch.from_numpy(logits)[None], torch.tensor([uniform]), settings))
    wanted = obvious(logits.astype(np.float64), uniform, settings)
    if found != wanted:  # only where rounding decides: the uniform or the nucleus at the very edge of a token
        for nudge in (-1e-5, 1e-5):
            near = DecodeSettings(temperature, top_k, min(1.0, top_p * (1 + nudge)))
            both = {obvious(logits.astype(np.float64), min(max(uniform + n, 0), 1 - 1e-9), near) for n in (-1e-5, 1e-5)}
            if found in both:
                return
        raise AssertionError((found, wanted))


@pytest.mark.parametrize("settings", [DecodeSettings(0), DecodeSettings(0.0, 5, 0.5), DecodeSettings(2, 1)])
def test_greedy_takes_the_most_probable(settings: DecodeSettings) -> None:
    logits = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample_token(logits, torch.full((20,), 0.999), settings), logits.argmax(-1))


def test_both_limits_apply() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(2**12, -1)
    ticks = torch.arange(2**12) / 2**12
    assert sample_token(logits, ticks, DecodeSettings(1, 3, 1.0)).unique().tolist() == [0, 1, 2]
    assert sample_token(logits, ticks, DecodeSettings(1, 0, 0.6)).unique().tolist() == [0, 1]
    # Of the three that top_k keeps, 0.4/0.9 < 0.5 <= 0.7/0.9 hold half.
    assert sample_token(logits, ticks, DecodeSettings(1, 3, 0.5)).unique().tolist() == [0, 1]
    assert sample_token(logits, ticks, DecodeSettings(1, 1, 0.99)).unique().tolist() == [0]


def test_tokens_as_probable_as_the_last_one_kept_are_kept() -> None:
    logits = torch.tensor([0.3, 0.2, 0.2, 0.1, 0.2]).log().expand(2**12, -1)
    ticks = torch.arange(2**12) / 2**12
    for settings in (DecodeSettings(1, 2), DecodeSettings(1, 0, 0.5)):
        assert sample_token(logits, ticks, settings).unique().tolist() == [0, 1, 2, 4]
    assert len(sample_token(logits, ticks, DecodeSettings(1, 5)).unique()) == 5  # as many as there are
    assert len(sample_token(logits, ticks, DecodeSettings(1, 4)).unique()) == 4


def test_leading_axes_are_rows_and_half_precision_is_read_in_single() -> None:
    logits = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniform = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    for settings in (DecodeSettings(0), DecodeSettings(0.7, 20, 0.8)):
        tokens = sample_token(logits, uniform, settings)
        alone = [int(sample_token(row, u, settings)) for row, u in zip(logits.view(12, 50), uniform.view(12))]
        assert (tokens.shape, tokens.dtype) == ((3, 4), torch.int64)
        assert tokens.flatten().tolist() == alone
        assert torch.equal(tokens, sample_token(logits.float(), uniform, settings))


def test_a_row_does_not_feel_the_scale_of_another() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).expand(2, -1) - torch.tensor(
        [[0.0], [300.0]]
    )
    for uniform in (0.1, 0.5, 0.9):
        first, second = sample_token(logits, torch.full((2,), uniform), DecodeSettings(1, 20, 0.8)).tolist()
        assert first == second


def test_the_smallest_nucleus_is_the_most_probable_token() -> None:
    logits = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    tokens = sample_token(logits, torch.full((20,), 0.999), DecodeSettings(1, 0, 1e-9))
    assert torch.equal(tokens, logits.argmax(-1))


def test_another_device_needs_no_numpy() -> None:
    logits, uniform = torch.empty(3, 4, 50, device="meta"), torch.empty(3, 4, device="meta")
    tokens = sample_token(logits, uniform, DecodeSettings(0.7, 20, 0.8))
    assert (tokens.device.type, tokens.shape, tokens.dtype) == ("meta", (3, 4), torch.int64)


def test_the_temperature_flattens() -> None:
    logits, ticks = torch.tensor([0.8, 0.2]).log().expand(2**12, -1), torch.arange(2**12) / 2**12
    for temperature, share in ((1, 0.2), (2, 1 / 3), (0.5, 1 / 17)):
        assert sample_token(logits, ticks, DecodeSettings(temperature)).double().mean() == pytest.approx(
            share, abs=1e-3
        )


def test_settings_at_the_ends_of_their_ranges() -> None:
    assert DecodeSettings() == DecodeSettings(1.0, 0, 1.0)
    for settings in (DecodeSettings(100, 1, 1), DecodeSettings(np.float32(0), np.int64(3), np.float32(0.5))):
        assert settings.greedy
    assert not DecodeSettings(100, 2, 1e-9).greedy


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_unit_interval(uniform: float) -> None:
    logits = torch.full((1000, 37), -30.0)
    logits[:, 5:9] = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    tokens = sample_token(logits, torch.full((1000,), uniform), DecodeSettings(1.0, 4))
    assert tokens.unique().tolist() == [5 if uniform == 0 else 8]


def test_the_same_distribution_as_the_published_sampler() -> None:
    settings = DecodeSettings(0.8, 0, 0.9)
    logits = torch.randn(16, generator=torch.Generator().manual_seed(1)).expand(40_000, -1)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(2))
    ours = sample_token(logits, (uniform * 2**24).floor() / 2**24, settings).bincount(minlength=16).double()
    torch.manual_seed(3)
    theirs = sample_token(logits, uniform, replace(settings, follows_torch=True)).bincount(minlength=16).double()
    assert torch.equal(ours > 0, theirs > 0)
    seen = theirs > 0
    chi2 = ((ours - theirs)[seen] ** 2 / (ours + theirs)[seen]).sum()
    assert chi2 < 2.5 * int(seen.sum()) + 10


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-0.1,), "temperature"),
        ((float("nan"),), "temperature"),
        ((float("inf"),), "temperature"),
        (("warm",), "temperature"),
        ((1.0, -1), "top_k"),
        ((1.0, 2.5), "top_k"),
        ((1.0, 0, 0), "top_p"),
        ((1.0, 0, 2), "top_p"),
        ((1.0, 0, float("nan")), "top_p"),
        ((True,), "temperature"),
        ((100.5,), "temperature"),
        ((1.0, True), "top_k"),
        ((1.0, 0, True), "top_p"),
        ((1.0, 0, 1.01), "top_p"),
        ((1.0, 0, "most"), "top_p"),
    ],
)
def test_settings_out_of_range(arguments: tuple[object, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ForecastSpec(**dict(zip(("temperature", "top_k", "top_p"), arguments, strict=False)))
