"""Nothing at or before bar t may move when a later bar changes, in eval and in train mode, padded or not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from kronos.model import Kronos, KronosTokenizer

CUT = 20


@pytest.fixture(params=[False, True], ids=["published", "consistent"])
def model(request: pytest.FixtureRequest, tiny_model: Kronos) -> Kronos:
    other = Kronos(dataclasses.replace(tiny_model.config, consistent=request.param))
    other.load_state_dict(tiny_model.state_dict())
    return other.eval()


def tokens(seed: int, length: int = 40, n_ids: int = 64) -> torch.Tensor:
    return torch.randint(n_ids, (2, length), generator=torch.Generator().manual_seed(seed))


def forced(model: Kronos, s1: torch.Tensor, s2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)  # dropout falls on the same places
    return model(s1[:, :-1], s2[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:])


@pytest.mark.parametrize("train", [False, True])
def test_the_network_is_causal(model: Kronos, train: bool) -> None:
    model.train(train)
    s1, s2 = tokens(1), tokens(2)
    later = s1.clone(), s2.clone()
    for ids, seed in zip(later, (3, 4), strict=True):
        ids[:, CUT + 1 :] = tokens(seed)[:, CUT + 1 :]
    before, after = forced(model, s1, s2), forced(model, *later)
    # The fine logits at t are asked by the true coarse token of t + 1, so they may depend on that one.
    assert torch.equal(before[0][:, : CUT + 1], after[0][:, : CUT + 1])
    assert torch.equal(before[1][:, :CUT], after[1][:, :CUT])
    assert not torch.equal(before[1][:, CUT + 2 :], after[1][:, CUT + 2 :])


def test_the_tokenizer_is_causal(tiny_tokenizer: KronosTokenizer) -> None:
    x = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[:, CUT + 1 :] += 1
    for train in (False, True):
        tiny_tokenizer.train(train)
        (_, full), _, _, ids = tiny_tokenizer(x)
        (_, other), _, _, other_ids = tiny_tokenizer(y)
        assert torch.equal(ids[:, : CUT + 1], other_ids[:, : CUT + 1])
        assert torch.equal(full[:, : CUT + 1], other[:, : CUT + 1])
        assert not torch.equal(full[:, CUT + 1 :], other[:, CUT + 1 :])


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_never_seen(model: Kronos, side: str) -> None:
    s1, s2 = tokens(1), tokens(2)
    mask = torch.zeros(2, 40, dtype=torch.bool)
    padded = slice(30, 40) if side == "right" else slice(0, 10)
    mask[:, padded] = True
    noisy = s1.clone(), s2.clone()
    for ids, seed in zip(noisy, (5, 6), strict=True):
        ids[:, padded] = tokens(seed)[:, padded]
    first, hidden = model.decode_s1(s1, s2, padding_mask=mask)
    second, other = model.decode_s1(*noisy, padding_mask=mask)
    assert torch.equal(first[~mask], second[~mask])
    asked = tokens(7)
    fine = model.decode_s2(hidden, asked, padding_mask=mask)
    assert torch.equal(fine[~mask], model.decode_s2(other, asked, padding_mask=mask)[~mask])
    assert torch.isfinite(first).all()


def test_right_padding_changes_nothing(model: Kronos) -> None:
    s1, s2 = tokens(1), tokens(2)
    mask = torch.arange(40).expand(2, -1) >= 30
    padded, _ = model.decode_s1(s1, s2, padding_mask=mask)
    alone, _ = model.decode_s1(s1[:, :30], s2[:, :30])
    torch.testing.assert_close(padded[:, :30], alone, rtol=1e-5, atol=1e-5)


def test_consistent_decoding_is_the_function_that_was_trained(model: Kronos) -> None:
    s1, s2 = tokens(1), tokens(2)
    trained = forced(model, s1, s2)[1][:, -1]
    _, hidden = model.decode_s1(s1[:, :-1], s2[:, :-1])
    decoded = model.decode_s2(hidden, s1[:, -1:])[:, -1]
    same = torch.allclose(trained, decoded, rtol=1e-5, atol=1e-5)
    assert same == model.config.consistent
