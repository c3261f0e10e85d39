"""Bars with static shapes against the judge; on a GPU as CUDA graphs, on the CPU the same code uncaptured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from kronos.errors import Cancelled, ConfigError
from kronos.inference import captured as captures
from kronos.inference.attention import KeyValueCache, shared_attention
from kronos.inference.captured import CapturedModel, attend_masked, bucket
from kronos.inference.decode import Continuation, DecodeBatch, continue_batch
from kronos.inference.engine import DecodeEngine, DecodeRequest
from kronos.inference.fused import FusedModel, FusedTokenizer
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import Monitor
from kronos.model import Kronos, KronosTokenizer

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]
Pair = tuple[Kronos, KronosTokenizer]


def on(device: str, batch: DecodeBatch) -> DecodeBatch:
    tensors = {name: getattr(batch, name).to(device) for name in ("features", "stamps", "future", "uniforms")}
    return replace(batch, **tensors)


class Captured:
    """A pair on a device, with its graphs."""

    def __init__(self, pair: Pair, device: str = "cpu") -> None:
        model, tokenizer = Kronos(pair[0].config).eval(), KronosTokenizer(pair[1].config).eval()
        model.load_state_dict(pair[0].state_dict())
        tokenizer.load_state_dict(pair[1].state_dict())
        with torch.no_grad():
            self.net = FusedModel(model.to(device), torch.float32)
            self.tok = FusedTokenizer(tokenizer.to(device), torch.float32)
        self.device, self.model = device, CapturedModel(self.net)

    def run(
        self, batch: DecodeBatch, settings: DecodeSettings, monitor: Monitor | None = None, **window: int
    ) -> Continuation:
        settings = replace(settings, **window)
        found = continue_batch(
            self.net, self.tok, on(self.device, batch), settings, captured=self.model, monitor=monitor
        )
        return Continuation(found.s1.cpu(), found.s2.cpu(), found.features.cpu())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", [tiny.GREEDY, tiny.PLAIN, tiny.NUCLEUS], ids=["greedy", "plain", "nucleus"])
@pytest.mark.parametrize("case", tiny.CASES)
@pytest.mark.parametrize("pair", tiny.PAIRS)
def test_same_tokens_as_the_oracle(pair: str, case: str, settings: DecodeSettings, device: str) -> None:
    series, context, horizon, paths, max_context, stride = tiny.CASES[case]
    batch = tiny.batch(series, context, horizon, paths)
    window = {"max_context": max_context, "window_stride": stride}
    s1, s2, features = tiny.judge(tiny.PAIRS[pair](), batch, settings, **window)
    captured = Captured(tiny.PAIRS[pair](), device)
    for _ in range(2):  # the second time over kept buffers, which are full of the first
        ours = captured.run(batch, settings, **window)
        assert torch.equal(ours.s1, s1)
        assert torch.equal(ours.s2, s2)
        torch.testing.assert_close(ours.features, features, rtol=1e-5, atol=1e-5 if device == "cpu" else 1e-4)
    assert captured.model.how == ("plain" if device == "cpu" else "graph")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("transform", ["returns", "running"])
def test_a_horizon_of_several_graphs(transform: str, device: str) -> None:
    model, tokenizer = tiny.consistent()
    other = KronosTokenizer(replace(tokenizer.config, bar_transform=transform)).eval()
    other.load_state_dict(tokenizer.state_dict())
    batch = tiny.batch(2, 20, 70, 3)
    s1, s2, _ = tiny.judge((model, other), batch, tiny.NUCLEUS, max_context=128)
    ours = Captured((model, other), device).run(batch, tiny.NUCLEUS, max_context=128)
    assert torch.equal(ours.s1, s1)
    assert torch.equal(ours.s2, s2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pair", tiny.PAIRS)
@pytest.mark.parametrize("paths", [1, 9])
def test_ragged_equals_alone(pair: str, paths: int, device: str) -> None:
    lengths = [9, 33, 40, 1, 17, 25, 31, 12, 7]  # with paths and series that their buckets exceed
    batch = tiny.batch(9, 40, 5, paths, lengths)
    captured = Captured(tiny.PAIRS[pair](), device)
    together = captured.run(batch, tiny.PLAIN, max_context=64)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        past = batch.features[one, :length], [length], batch.stamps[one, :length]
        alone = DecodeBatch(*past, batch.future[one], batch.uniforms[one])
        single = tiny.run(tiny.PAIRS[pair](), alone, tiny.PLAIN, max_context=64)
        assert torch.equal(together.s1[one], single.s1)
        assert torch.equal(together.s2[one], single.s2)
        torch.testing.assert_close(together.features[one], single.features, rtol=1e-4, atol=1e-4)


def test_buckets_are_reused_and_the_oldest_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(tiny.consistent())
    for horizon in (12, 11, 12):
        captured.run(tiny.batch(2, 40, horizon, 3), tiny.PLAIN, max_context=64)
    assert [key[:5] for key in captured.model.kept] == [(2, 3, 40, 12, 12)]
    monkeypatch.setattr(captures, "_KEPT_ON_CPU", 0)
    captured.run(tiny.batch(1, 20, 6, 1), tiny.PLAIN, max_context=64)
    assert [key[:5] for key in captured.model.kept] == [(1, 1, 20, 6, 6)]


def test_buckets() -> None:
    sizes = [bucket(n) for n in range(1, 2000)]
    assert sizes == sorted(sizes)
    assert all(n <= size <= 1.25 * n for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 50


def test_masked_attention_equals_the_merged_parts() -> None:
    draw = torch.Generator().manual_seed(0)
    cache = KeyValueCache(1, 2, 8, 2, 3, 7, 6, torch.float32, torch.device("cpu"), joined=False)
    for kept in (*cache.common, *cache.own):
        kept.copy_(torch.randn(kept.shape, generator=draw))
    q = torch.randn(2, 3, 2, 8, generator=draw)
    lengths = torch.tensor([4, 5])
    cache.reset(5, lengths)
    expected = shared_attention(q[:, :, None], cache.visible(0, 2))
    hidden = torch.cat((torch.arange(7) >= lengths[:, None], (torch.arange(4) > 1).expand(2, -1)), 1)[:, None, None]
    torch.testing.assert_close(attend_masked(q, cache, 0, hidden, 4), expected, rtol=1e-5, atol=1e-5)


def test_contexts_in_another_precision() -> None:
    captured = Captured(tiny.consistent())
    with torch.no_grad():
        reader = FusedModel(tiny.consistent()[0], torch.bfloat16)
    rough = CapturedModel(captured.net, reader, tf32=True)
    batch = tiny.batch(2, 40, 1, 9)
    exact = captured.run(batch, tiny.PLAIN, max_context=64)
    found = continue_batch(captured.net, captured.tok, batch, replace(tiny.PLAIN, max_context=64), captured=rough)
    assert (found.s1 == exact.s1).float().mean() >= 0.8
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_progress_and_cancel() -> None:
    heard: list[tuple[int, int]] = []
    monitor = Monitor(lambda done, total: heard.append((done, total)), lambda: len(heard) >= 2, 60)
    captured = Captured(tiny.consistent())
    with pytest.raises(Cancelled):
        captured.run(tiny.batch(1, 20, 20, 3), tiny.PLAIN, monitor, max_context=64)
    assert len(heard) == 2  # the window's opening and eight bars, not each
    heard.clear()
    captured.run(
        tiny.batch(1, 20, 20, 3), tiny.PLAIN, Monitor(lambda *now: heard.append(now), None, 60), max_context=64
    )
    assert heard[-1] == (60, 60)


def test_sampling_goes_on_where_no_graph_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(tiny.consistent())
    expected = captured.run(tiny.batch(1, 20, 6, 3), tiny.PLAIN, max_context=64)
    captured.model.how = "graph"

    def fail(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captures.CapturedSteps, "_capture", fail)
    with pytest.warns(UserWarning, match="goes on without"):
        found = captured.run(tiny.batch(1, 20, 6, 3), tiny.PLAIN, max_context=64)
    assert torch.equal(found.s1, expected.s1)


def test_the_cpu_is_not_asked_for_graphs() -> None:
    engine = DecodeEngine(*tiny.consistent())
    assert engine.captured_model() is None
    with pytest.raises(ConfigError, match="tf32"):
        DecodeEngine(*tiny.consistent(), prefill="tf32")


def request(paths: int, horizon: int = 40) -> DecodeRequest:
    batch = tiny.batch(1, 40, horizon, paths)
    stamps = torch.cat((batch.stamps, batch.future), dim=1)[0].numpy()
    return DecodeRequest(batch.features[0].numpy(), stamps, batch.uniforms[0].numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_engine_on_a_gpu() -> None:
    pair = tiny.odd_pair()
    asked = [request(3), request(5), request(3)]
    settings = replace(tiny.NUCLEUS, max_context=128)
    expected = DecodeEngine(*pair, compiled=False).run(asked, settings)
    pair = pair[0].cuda(), pair[1].cuda()
    engines = [DecodeEngine(*pair), DecodeEngine(*pair, compiled=False), DecodeEngine(*pair, prefill="tf32")]
    assert [engine.captured for engine in engines] == [True, False, True]
    for engine in engines[:2]:
        found = zip(engine.run(asked, settings), expected, strict=True)
        same = [np.isclose(ours, other, rtol=1e-3, atol=1e-3).all(axis=(1, 2)) for ours, other in found]
        assert np.concatenate(same).mean() >= 0.8  # a token may stand on the edge
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        engines[0].run(asked, settings)
    assert torch.cuda.memory_allocated() == before  # nothing grows
    engines[2].run(asked, settings)
    del engine, engines
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < before
