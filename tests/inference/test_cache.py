"""The cache against plain lists of what was written, and its attention against the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kronos.inference.attention import (
    KeyValueCache,
    Visible,
    attend,
    attend_plainly,
    cache_bytes,
    causal_attention,
    shared_attention,
)

LAYERS, N, D, B, P = 2, 2, 4, 2, 5


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def empty(paths: int, suffix: int) -> KeyValueCache:
    return KeyValueCache(LAYERS, N, D, B, paths, P + 1, suffix, torch.float64, torch.device("cpu"))


def as_kept(kv: Tensor) -> Tensor:
    """(rows, positions, 2, N, D) -> (2, rows, N, positions, D)."""
    return torch.stack([kv[:, :, part].transpose(1, 2) for part in (0, 1)])


@pytest.mark.parametrize("paths", [1, 3])
def test_each_path_sees_the_common_past_and_its_own_positions(paths: int) -> None:
    cache = empty(paths, suffix=4)
    for prefix in (P + 1, P):  # the second past is shorter: nothing of the first is left
        past = [made(B, prefix, 2, N, D, seed=layer) for layer in range(LAYERS)]
        new = [made(B, paths, 4, 2, N, D, seed=9 + layer) for layer in range(LAYERS)]
        cache.reset(prefix)
        for layer in range(LAYERS):
            cache.write_prefix(layer, past[layer])
        for known in range(4):
            for layer in range(LAYERS):
                found = cache.append(layer, new[layer][:, :, known : known + 1])
                common, own = as_kept(past[layer]), as_kept(new[layer][:, :, : known + 1].flatten(0, 1))
                assert found.mask is None
                if paths == 1:  # one piece
                    assert found.own is None
                    assert torch.equal(found.common, torch.cat((common, own), dim=3))
                else:
                    assert torch.equal(found.common, common)
                    assert torch.equal(found.own, own)
            cache.length += 1


@pytest.mark.parametrize("paths", [1, 3])
def test_several_positions_at_once_are_kept_apart(paths: int) -> None:
    cache = empty(paths, suffix=4)
    past, new = made(B, P, 2, N, D), made(B, paths, 3, 2, N, D, seed=1)
    cache.reset(P, torch.tensor([P, 2]))
    cache.write_prefix(0, past)
    found = cache.append(0, new)
    assert torch.equal(found.common, as_kept(past))
    assert torch.equal(found.own, as_kept(new.flatten(0, 1)))
    assert found.mask.shape == (B, 1, 1, P)
    cache.length = 3
    assert torch.equal(cache.visible(0, 2, split=True).own, as_kept(new[:, :, :2].flatten(0, 1)))
    after = cache.append(0, made(B, paths, 1, 2, N, D, seed=2))
    everything = after.common[:, :, :, P:] if paths == 1 else after.own
    assert torch.equal(everything[:, :, :, :3], as_kept(new.flatten(0, 1)))


def test_without_room_own_positions_are_looked_at_and_forgotten() -> None:
    for paths in (1, 3):
        cache = empty(paths, suffix=0)
        past = made(B, P, 2, N, D)
        cache.reset(P)
        cache.write_prefix(1, past)
        for seed in (1, 2):
            new = made(B, paths, 2, 2, N, D, seed=seed)
            found = cache.append(1, new)
            assert torch.equal(found.common, as_kept(past))
            assert torch.equal(found.own, as_kept(new.flatten(0, 1)))


def test_what_a_shorter_series_does_not_have_is_hidden() -> None:
    hidden = float("-inf")
    for paths in (1, 3):
        cache = empty(paths, suffix=3)
        cache.reset(P, torch.tensor([P, 2]))
        common = cache.visible(0, 0).mask
        assert common.dtype == torch.float64
        assert common.tolist() == [[[[0.0] * P]], [[[0.0, 0.0] + [hidden] * 3]]]
        ahead = cache.visible(0, 2).mask
        own = 2 if paths == 1 else 0  # own positions are never hidden; apart from the past they need no mask
        assert ahead.tolist() == [[[[0.0] * (P + own)]], [[[0.0, 0.0] + [hidden] * 3 + [0.0] * own]]]
        cache.reset(P)
        assert cache.visible(0, 1).mask is None


def test_everything_lies_on_the_device_that_is_asked_for() -> None:
    meta = torch.device("meta")
    for paths in (1, 3):
        cache = KeyValueCache(LAYERS, N, D, B, paths, P, 4, torch.float16, meta)
        cache.reset(P, torch.tensor([P, 2], device=meta))
        found = cache.append(0, torch.empty(B, paths, 2, 2, N, D, device=meta))
        assert {part.device for part in found} == {meta}
        assert {part.dtype for part in found} == {torch.float16}


def test_nothing_is_visible_at_first() -> None:
    cache = empty(paths=3, suffix=3)
    assert (cache.prefix, cache.length) == (0, 0)
    assert cache.visible(0, 0) == (None, None, None)
    cache.length = 2
    cache.reset(0)
    assert (cache.prefix, cache.length) == (0, 0)
    assert cache.visible(0, cache.length) == (None, None, None)
    assert not cache.joined
    assert empty(paths=1, suffix=1).joined
    assert not empty(paths=1, suffix=0).joined


def test_memory_is_taken_once_and_as_foretold() -> None:
    cache = empty(paths=3, suffix=4)
    cache.reset(P)
    places = set()
    for known in range(4):
        found = cache.append(0, made(B, 3, 1, 2, N, D))
        places.add((found.common.data_ptr(), found.own.data_ptr()))
        cache.length = known + 1
    assert len(places) == 1
    taken = LAYERS * sum(part.untyped_storage().nbytes() for part in (found.common, found.own))
    assert taken == B * cache_bytes(LAYERS, N * D, 3, P + 1, 4, 8)
    single = empty(paths=1, suffix=4).visible(0, 0).common
    assert LAYERS * single.untyped_storage().nbytes() == B * cache_bytes(LAYERS, N * D, 1, P + 1, 4, 8)
    assert found.common.dtype == torch.float64


def by_definition(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    scores = (q @ k.transpose(-1, -2)).masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1) @ v, scores.exp().sum(-1).log()


@pytest.mark.parametrize("attention", [attend, attend_plainly])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_log_sum_exp(attention: object, dtype: torch.dtype) -> None:
    q, k, v = (made(2, 3, 6, 8, seed=seed).to(dtype) for seed in range(3))
    everyone, earlier = torch.ones(6, 6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool).tril()
    mask = torch.zeros(2, 1, 1, 6, dtype=dtype)
    mask[1, ..., 4:] = float("-inf")
    for options, allowed in (({}, everyone), ({"causal": True}, earlier), ({"mask": mask}, mask == 0)):
        out, lse = attention(q, k, v, **options)  # type: ignore[operator]
        wanted, wanted_lse = by_definition(q.double(), k.double(), v.double(), allowed)
        near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
        assert (out.dtype, lse.dtype) == (dtype, torch.float32)
        torch.testing.assert_close(out.double(), wanted, **near)
        torch.testing.assert_close(lse.double(), wanted_lse, **near)


def test_attention_of_another_device_is_in_plain_products() -> None:
    q, k, v = (torch.empty(2, 3, rows, 8, device="meta", dtype=torch.bfloat16) for rows in (4, 6, 6))
    out, lse = attend(q, k, v)
    assert (out.shape, out.dtype, lse.shape, lse.dtype) == ((2, 3, 4, 8), torch.bfloat16, (2, 3, 4), torch.float32)


def test_causal_attention_looks_back_only() -> None:
    q, k, v = (made(2, 3, 6, 8, seed=seed) for seed in range(3))
    wanted = by_definition(q, k, v, torch.ones(6, 6, dtype=torch.bool).tril())[0]
    torch.testing.assert_close(causal_attention(q, k, v), wanted.transpose(1, 2).reshape(2, 6, 24))


def test_two_new_positions_look_back_only() -> None:
    q, own = made(2, 3, 2, 2, 8), made(2, 6, 2, 2, 8, seed=1)
    found = shared_attention(q, Visible(None, own, None))
    wanted = by_definition(q.flatten(0, 1).transpose(1, 2), *own, torch.ones(2, 2, dtype=torch.bool).tril())[0]
    torch.testing.assert_close(found.flatten(0, 1), wanted.transpose(1, 2).flatten(2))


def test_attention_of_one_half_precision_part_keeps_its_type() -> None:
    q, common, own = made(2, 3, 1, 2, 8), made(2, 2, 2, 5, 8, seed=1), made(2, 6, 2, 4, 8, seed=2)
    exact = shared_attention(q.float(), Visible(common.float(), own.float(), None))
    half = shared_attention(q.bfloat16(), Visible(common.bfloat16(), own.bfloat16(), None))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.05)
