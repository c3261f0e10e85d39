from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kronos.errors import ConfigError
from kronos.model import TOKENIZER_PRESETS, KronosTokenizer, TokenizerConfig, tokenizer_loss
from kronos.model.quantizer import bits_to_ids, build_quantizer, ids_to_bits, join_ids, split_ids

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


def test_decode_refuses_what_is_no_pair() -> None:
    tokenizer = KronosTokenizer.init(TINY)
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ConfigError, match="pair"):
        tokenizer.decode(ids, half=True)
    with pytest.raises(ConfigError, match="differ"):
        tokenizer.decode((ids, ids[:, :2]), half=True)


def test_fsq_needs_even_bits() -> None:
    with pytest.raises(ConfigError, match="even"):
        TokenizerConfig.from_dict({**TINY.to_dict(), "quantizer": "fsq", "s1_bits": 5})
