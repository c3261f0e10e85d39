from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kronos.errors import ConfigError
from kronos.model import TOKENIZER_PRESETS, KronosTokenizer, TokenizerConfig, tokenizer_loss
from kronos.model.tokenizer import (
    BSQuantizer,
    bits_to_ids,
    build_quantizer,
    ids_to_bits,
    join_ids,
    split_ids,
)

TINY = dataclasses.replace(TOKENIZER_PRESETS["2k"], d_model=16, n_heads=2, ff_dim=32, n_enc_layers=2, n_dec_layers=2)


@given(st.integers(1, 16), st.data())
def test_bits_and_ids_are_inverse(n_bits: int, data: st.DataObject) -> None:
    ids = torch.tensor(data.draw(st.lists(st.integers(0, 2**n_bits - 1), min_size=1, max_size=8)))
    bits = ids_to_bits(ids, n_bits)
    assert bits.shape == (len(ids), n_bits)
    assert torch.equal(bits_to_ids(bits), ids)


def test_ids_are_little_endian() -> None:
    assert bits_to_ids(torch.tensor([[1, 0, 0], [0, 0, 1]])).tolist() == [1, 4]


@given(st.integers(0, 2**5 - 1), st.integers(0, 2**7 - 1))
def test_joined_ids_split_again(s1: int, s2: int) -> None:
    joined = join_ids(torch.tensor([s1]), torch.tensor([s2]), 5)
    assert [int(part) for part in split_ids(joined, 5)] == [s1, s2]


@pytest.mark.parametrize(("s1_bits", "s2_bits", "kind"), [(5, 7, "bsq"), (8, 4, "bsq"), (4, 6, "fsq"), (10, 10, "fsq")])
def test_every_pair_of_ids_survives_the_quantizer(s1_bits: int, s2_bits: int, kind: str) -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=s1_bits, s2_bits=s2_bits, quantizer=kind))
    s1 = torch.randint(2**s1_bits, (200,), generator=torch.Generator().manual_seed(0))
    s2 = torch.randint(2**s2_bits, (200,), generator=torch.Generator().manual_seed(1))
    back = quantizer.to_ids(quantizer.from_ids(s1, s2))
    assert torch.equal(back[0], s1)
    assert torch.equal(back[1], s2)


@pytest.mark.parametrize(("s1_bits", "s2_bits", "kind"), [(5, 7, "bsq"), (8, 4, "fsq")])
def test_a_tokenizer_with_unequal_halves(s1_bits: int, s2_bits: int, kind: str) -> None:
    tokenizer = KronosTokenizer.init(dataclasses.replace(TINY, s1_bits=s1_bits, s2_bits=s2_bits, quantizer=kind)).eval()
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    s1, s2 = tokenizer.encode(x, half=True)
    joined = tokenizer.encode(x)
    assert int(s1.max()) < 2**s1_bits
    assert int(s2.max()) < 2**s2_bits
    torch.testing.assert_close(tokenizer.decode((s1, s2), half=True), tokenizer.decode(joined))
    torch.testing.assert_close(tokenizer.decode(joined), tokenizer(x)[0][1])


def test_code_entropy_tells_bits_that_go_together_from_bits_that_do_not() -> None:
    """Both halves of the bits are 1 half of the time either way, so the published entropy is blind to it."""
    generator = torch.Generator().manual_seed(0)
    free = torch.randint(0, 2, (3000, 8), generator=generator) * 2.0 - 1
    tied = free.clone()
    tied[:, 1:4] = tied[:, :1]  # of the coarse code only two values are left
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=4, s2_bits=4))
    assert isinstance(quantizer, BSQuantizer)
    terms = [quantizer.codes_entropy(z[None]).item() for z in (free, tied)]
    assert terms[0] == pytest.approx(8 * np.log(2), abs=0.05)
    assert 1.5 < terms[0] - terms[1] < 3 * np.log(2)  # softly assigned, so a little less than three bits


def test_code_entropy_of_a_large_batch_counts_the_same_bars_whoever_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BSQuantizer, "_MOST_BARS", 64)
    z = torch.randn(6, 37, 8, generator=torch.Generator().manual_seed(0))
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=4, s2_bits=4))
    assert isinstance(quantizer, BSQuantizer)
    means: list[torch.Tensor] = []
    quantizer.bsq.batch_mean.register_forward_hook(lambda _, args, mean: means.append(mean))
    quantizer.codes_entropy(z)
    monkeypatch.setattr(quantizer.bsq.batch_mean, "processes", 2)
    quantizer.codes_entropy(z[:3])
    quantizer.codes_entropy(z[3:])
    for whole, first, second in zip(means[:2], means[2:4], means[4:], strict=True):
        torch.testing.assert_close((first + second) / 2, whole)
    monkeypatch.setattr(quantizer.bsq.batch_mean, "processes", 1)
    quantizer.codes_entropy(z[:, ::4])  # 60 bars, so all of them
    torch.testing.assert_close(means[6], means[0])


@pytest.mark.parametrize("mode", [True, False], ids=["training", "validation"])
def test_code_entropy_lowers_the_loss_by_its_weight(mode: bool) -> None:
    x = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0))
    plain, weighed = (KronosTokenizer.init(dataclasses.replace(TINY, code_entropy=w)).train(mode) for w in (0.0, 0.5))
    entropy = weighed.tokenizer.codes_entropy(weighed._encode(x)).item()
    lower = tokenizer_loss(plain, x)[0] - tokenizer_loss(weighed, x)[0]
    assert lower.item() == pytest.approx(0.5 * entropy / 2, rel=1e-4)  # the loss is half of its parts, as published
    assert torch.equal(plain.encode(x), weighed.encode(x))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"code_entropy": 0.01, "quantizer": "fsq", "s1_bits": 4, "s2_bits": 4}, "code_entropy is for quantizer 'bsq'"),
        ({"code_entropy": 0.01, "s1_bits": 14}, "code_entropy counts whole codes: at most 12 bits a token, not 14"),
        ({"move_gain": 1.05, "bar_transform": "returns"}, "move_gain is for bar_transform 'running'"),
    ],
)
def test_settings_that_would_do_nothing_or_too_much_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(TINY, **settings)


@pytest.mark.parametrize("kind", ["bsq", "fsq"])
def test_a_tokenizer_learns_with_either_quantizer(kind: str) -> None:
    tokenizer = KronosTokenizer.init(dataclasses.replace(TINY, quantizer=kind))
    x = torch.randn(8, 16, 6, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    errors = []
    for _ in range(40):
        loss, parts = tokenizer_loss(tokenizer, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(parts["mse_full"].item())
    assert errors[-1] < 0.8 * errors[0]
    assert all(p.grad is not None for n, p in tokenizer.named_parameters() if n.startswith("encoder"))


def test_the_loss_of_spherical_quantization_by_hand() -> None:
    """Four bits: u and q on the unit sphere, p = sigmoid(-4 · u / 2), entropies in nats; every factor its own."""
    quantizer = build_quantizer(
        dataclasses.replace(TINY, s1_bits=3, s2_bits=1, beta=0.3, gamma0=1.7, gamma=0.6, zeta=2.5)
    )
    z = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[0, 0] = torch.tensor([0.0, 3.0, -4.0, 0.0])
    quantized, loss = quantizer(z)
    u = (z / z.norm(dim=-1, keepdim=True)).numpy().reshape(15, 4)
    q = np.where(u > 0, 0.5, -0.5)  # 0 counts as -1
    assert quantized.dtype == torch.float32
    np.testing.assert_allclose(quantized.numpy().reshape(15, 4), q, rtol=1e-6)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -p * np.log(p) - (1 - p) * np.log(1 - p)

    p = 1 / (1 + np.exp(2 * u))
    commitment = ((q - u) ** 2).sum(-1).mean()
    wanted = 0.3 * commitment + 2.5 * (1.7 * entropy(p).sum(-1).mean() - 0.6 * entropy(p.mean(0)).sum())
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_undecided_and_decided_bits_have_finite_entropies() -> None:
    """The second bit is even; the first keeps a doubt of 1 / (1 + exp(4 / √2)), however long the vector."""
    quantizer = build_quantizer(
        dataclasses.replace(TINY, s1_bits=1, s2_bits=1, beta=0.0, gamma0=1.0, gamma=0.0, zeta=1.0)
    )
    p = 1 / (1 + np.exp(4 / np.sqrt(2)))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p) + np.log(2)
    assert quantizer(torch.tensor([[1e3, 0.0]]))[1].item() == pytest.approx(entropy, rel=1e-5)


def test_the_gradient_passes_the_sign_unchanged() -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=2, s2_bits=2))
    z = torch.tensor([[0.6, 0.0, -0.8, 0.0]], requires_grad=True)  # on the sphere
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    (quantizer(z)[0] * weights).sum().backward()
    along = (weights * z.detach()).sum() * z.detach()
    torch.testing.assert_close(z.grad, 0.5 * (weights - along))  # the normalisation's own gradient, scaled


def test_buffers_of_the_published_layout() -> None:
    with torch.device("meta"):  # as checkpoints are built, whose parameters get their memory when they are read
        bsq = build_quantizer(dataclasses.replace(TINY, s1_bits=3, s2_bits=2, group_size=4)).bsq
    assert {name: buffer.tolist() for name, buffer in bsq.named_buffers()} == {
        "basis": [16, 8, 4, 2, 1],
        "group_basis": [8, 4, 2, 1],
    }


@pytest.mark.parametrize(
    ("kind", "s1", "s2", "wanted"),
    [
        ("bsq", 1, 2, [0.5, -0.5, -0.5, 0.5]),  # little-endian bits, on the unit sphere
        ("fsq", 2, 1, [0.0, -0.5]),  # a digit of two bits a dimension, from -1 to 0.5
        ("fsq", 0, 3, [-1.0, 0.5]),
    ],
)
def test_vectors_of_known_ids(kind: str, s1: int, s2: int, wanted: list[float]) -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=2, s2_bits=2, quantizer=kind))
    ids = torch.tensor([[s1]]), torch.tensor([[s2]])
    vector = quantizer.from_ids(*ids)
    assert vector.dtype == torch.float32
    assert vector.tolist() == [[wanted]]
    assert [int(part) for part in quantizer.to_ids(vector)] == [s1, s2]
    assert (quantizer.s1_width, quantizer.width) == ((2, 4) if kind == "bsq" else (1, 2))


def test_finite_scalars_round_to_four_levels_and_pass_the_gradient() -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=2, s2_bits=2, quantizer="fsq"))
    z = torch.linspace(-9, 9, 201, dtype=torch.float64).view(1, -1, 1).expand(-1, -1, 2).requires_grad_()
    quantized, loss = quantizer(z)
    assert quantized.unique().tolist() == [-1.0, -0.5, 0.0, 0.5]
    assert (quantized.diff(dim=1) >= 0).all()
    assert quantized[0, 100].tolist() == [0.0, 0.0]  # zero is no border between two levels
    assert (loss.item(), loss.dtype, quantized.dtype) == (0.0, torch.float32, torch.float32)
    quantized.sum().backward()
    half = 1.5015
    slope = 1 - torch.tanh(z.detach() + np.arctanh(0.5 / half)) ** 2
    torch.testing.assert_close(z.grad, half * slope / 2, rtol=1e-4, atol=1e-6)


def test_zero_is_a_zero_bit() -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=2, s2_bits=2))
    assert [int(part) for part in quantizer.to_ids(torch.zeros(1, 4))] == [0, 0]


@pytest.mark.parametrize("kind", ["bsq", "fsq"])
def test_ids_and_vectors_stay_on_their_device(kind: str) -> None:
    quantizer = build_quantizer(dataclasses.replace(TINY, s1_bits=4, s2_bits=6, quantizer=kind))
    ids = torch.zeros(2, 3, dtype=torch.long, device="meta")
    vector = quantizer.from_ids(ids, ids)
    found = (vector, *quantizer.to_ids(vector), *quantizer(vector))
    assert {part.device.type for part in found} == {"meta"}


def test_decode_refuses_what_is_no_pair() -> None:
    tokenizer = KronosTokenizer.init(TINY)
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert torch.equal(tokenizer.decode([ids, ids], half=True), tokenizer.decode((ids, ids), half=True))
    for wrong in (ids, ids.expand(2, 3), (ids,), (ids, ids, ids)):
        with pytest.raises(ConfigError, match="pair"):
            tokenizer.decode(wrong, half=True)
    with pytest.raises(ConfigError, match="differ"):
        tokenizer.decode((ids, ids[:, :2]), half=True)


def test_fsq_needs_even_bits() -> None:
    with pytest.raises(ConfigError, match="even"):
        TokenizerConfig.from_dict({**TINY.to_dict(), "quantizer": "fsq", "s1_bits": 5})
