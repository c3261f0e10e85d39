"""The engine against its judge, the loop that recomputes everything."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import tiny
import torch

from kronos.errors import Cancelled, CapacityError, ConfigError
from kronos.inference import engine as engines
from kronos.inference import threads
from kronos.inference.attention import Visible, attend, attend_plainly, shared_attention
from kronos.inference.decode import DecodeBatch, TorchSteps, continue_batch, prefill
from kronos.inference.engine import DecodeEngine, DecodeRequest
from kronos.inference.fused import FusedModel, FusedTokenizer
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import Monitor, Pace, run_tasks, thread_count
from kronos.model import Kronos

GREEDY, PLAIN, NUCLEUS = tiny.GREEDY, tiny.PLAIN, tiny.NUCLEUS
PAIRS, CASES, run, judge = tiny.PAIRS, tiny.CASES, tiny.run, tiny.judge


@pytest.mark.parametrize("settings", [GREEDY, PLAIN, NUCLEUS], ids=["greedy", "plain", "nucleus"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", PAIRS)
def test_same_tokens_as_the_oracle(pair: str, case: str, settings: DecodeSettings) -> None:
    series, context, horizon, paths, max_context, stride = CASES[case]
    batch = tiny.batch(series, context, horizon, paths)
    window = {"max_context": max_context, "window_stride": stride}
    s1, s2, features = judge(PAIRS[pair](), batch, settings, **window)
    ours = run(PAIRS[pair](), batch, settings, **window)
    assert torch.equal(ours.s1, s1)
    assert torch.equal(ours.s2, s2)
    torch.testing.assert_close(ours.features, features, rtol=1e-5, atol=1e-5)
    if settings is GREEDY:
        assert torch.equal(s1[:, :1].expand_as(s1), s1)  # chance plays no part


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("paths", [1, 3])
def test_ragged_equals_alone(pair: str, paths: int) -> None:
    lengths = [9, 33, 40, 1]
    batch = tiny.batch(4, 40, 8, paths, lengths)
    together = run(PAIRS[pair](), batch, PLAIN, max_context=64)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = DecodeBatch(
            batch.features[one, :length],
            [length],
            batch.stamps[one, :length],
            batch.future[one],
            batch.uniforms[one],
        )
        single = run(PAIRS[pair](), alone, PLAIN, max_context=64)
        assert torch.equal(together.s1[one], single.s1)
        assert torch.equal(together.s2[one], single.s2)
        torch.testing.assert_close(together.features[one], single.features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
@torch.inference_mode()
def test_logits_equal_those_of_the_whole_window(pair: str) -> None:
    model, _ = PAIRS[pair]()
    net = FusedModel(model, torch.float32)
    ids = torch.Generator().manual_seed(0)
    s1, s2 = (torch.randint(2**bits, (6, 30), generator=ids) for bits in (model.config.s1_bits, model.config.s2_bits))
    stamps = tiny.batch(6, 30, 1, 1).stamps
    x = net.embed(s1, s2, net.embed_time(stamps))
    # Two series of three paths that share their first 20 bars: the paths of a series start alike.
    common = x.view(2, 3, 30, -1)[:, 0, :20]
    own = x.view(2, 3, 30, -1)[:, :, 20:]
    s1, s2, stamps = (t.view(2, 3, *t.shape[1:]).clone() for t in (s1, s2, stamps))
    for t in (s1, s2, stamps):
        t[:, :, :20] = t[:, :1, :20]
    steps = TorchSteps(net, 2, 3, 20, 10)
    steps.reset(torch.tensor([20]), 20)
    hidden = prefill(steps, common).expand(2, 3, -1)
    for known in range(20, 30):
        if known > 20:
            hidden = steps.step(own[:, :, known - 21 : known - 20])
        whole = (t[:, :, :known].flatten(0, 1) for t in (s1, s2, stamps))
        coarse, states = model.decode_s1(*whole)
        asked = s1[:, :, known]
        fine = model.decode_s2(states, asked.reshape(6, 1))[:, -1]
        ours = net.head_s1(hidden)
        torch.testing.assert_close(ours.flatten(0, 1), coarse[:, -1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(steps.fine_logits(hidden, asked).flatten(0, 1), fine, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_close() -> None:
    model, tokenizer = tiny.consistent()
    batch = tiny.batch(2, 40, 1, 2)
    exact = run((model, tokenizer), batch, GREEDY, max_context=64)
    with torch.no_grad():
        fused = FusedModel(model, torch.bfloat16), FusedTokenizer(tokenizer, torch.bfloat16)
    rough = continue_batch(*fused, batch, GREEDY)
    assert rough.features.dtype == torch.float32
    assert torch.isfinite(rough.features).all()
    same = (rough.s1 == exact.s1) & (rough.s2 == exact.s2)
    assert same.float().mean() >= 0.5
    torch.testing.assert_close(rough.features[same], exact.features[same], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("common_keys", [0, 7])
@pytest.mark.parametrize(("queries", "own_keys"), [(1, 0), (1, 5), (6, 6)])
def test_merged_parts_equal_one_attention(common_keys: int, queries: int, own_keys: int) -> None:
    if common_keys == own_keys == 0:
        return
    draw = torch.Generator().manual_seed(0)
    b, s, n, d = 2, 3, 2, 8
    q = torch.randn(b, s, queries, n, d, generator=draw)
    common = torch.randn(2, b, n, common_keys, d, generator=draw)
    own = torch.randn(2, b * s, n, own_keys, d, generator=draw)
    hidden = torch.zeros(b, 1, 1, common_keys)
    if common_keys:
        hidden[1, ..., 4:] = float("-inf")
    visible = Visible(common if common_keys else None, own if own_keys else None, hidden if common_keys else None)
    merged = shared_attention(q, visible)
    mine = torch.zeros(queries, own_keys).masked_fill(
        torch.ones(queries, own_keys).triu(1 + own_keys - queries) > 0, -1e9
    )
    for i in range(b):
        for j in range(s):
            keys = torch.cat((common[:, i], own[:, i * s + j]), dim=2)
            mask = torch.cat((hidden[i, 0].expand(queries, -1), mine), dim=1)
            scores = torch.einsum("lnd,ntd->nlt", q[i, j], keys[0]) + mask
            expected = torch.einsum("nlt,ntd->lnd", scores.softmax(-1), keys[1]).flatten(1)
            torch.testing.assert_close(merged[i, j], expected, rtol=1e-5, atol=1e-5)


def test_the_kernel_equals_plain_products() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 9, 8, generator=draw) for _ in range(3))
    mask = torch.zeros(2, 1, 1, 9).masked_fill(torch.arange(9) > 5, float("-inf"))
    for options in ({}, {"causal": True}, {"mask": mask}):
        for ours, plain in zip(attend(q, k, v, **options), attend_plainly(q, k, v, **options), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def requests(lengths: list[int], horizon: int = 5, paths: int = 3) -> list[DecodeRequest]:
    out = []
    for i, length in enumerate(lengths):
        batch = tiny.batch(1, length, horizon, paths)
        stamps = torch.cat((batch.stamps, batch.future), dim=1)[0].numpy()
        draws = uniforms(1, [bytes([i])], paths, horizon)[0]
        out.append(DecodeRequest(batch.features[0].numpy(), stamps, draws))
    return out


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DecodeEngine(*tiny.consistent())
    asked = requests([30, 12, 64, 29, 70, 30, 61, 31])
    plenty = engine.run(asked, replace(PLAIN, max_context=64, window_stride=8))
    groups = list(engine.batches(asked, 64))
    assert sorted(i for group in groups for i in group) == list(range(8))
    assert max(len(group) for group in groups) > 1
    monkeypatch.setattr(engines, "BATCH_BYTES", 1)
    monkeypatch.setattr(engines, "PATHS_BYTES", 1)
    assert all(len(group) == 1 for group in engine.batches(asked, 64))
    scarce = engine.run(asked, replace(PLAIN, max_context=64, window_stride=8))
    for ours, other in zip(plenty, scarce, strict=True):
        assert ours.shape == (3, 5, 6)
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)


def test_a_request_larger_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_memory_limit", lambda: 100_000)
    with pytest.raises(CapacityError, match=r"3 paths x 5 bars .* fewer"):
        DecodeEngine(*tiny.consistent()).run(requests([30]), replace(PLAIN, max_context=64))


def test_new_weights_are_noticed() -> None:
    model = Kronos.init(tiny.consistent()[0].config, seed=5)
    engine = DecodeEngine(model, tiny.consistent()[1])
    first = engine.weights()
    assert engine.weights()[0] is first[0]
    with torch.no_grad():
        model.head.proj_s1.weight.mul_(2)
    assert torch.equal(engine.weights()[0].head_s1.weight, model.head.proj_s1.weight)


def test_an_unknown_dtype() -> None:
    with pytest.raises(ConfigError, match="float32, bfloat16, int8"):
        DecodeEngine(*tiny.consistent(), dtype="float8")


def test_progress_and_cancel() -> None:
    heard: list[tuple[int, int]] = []
    monitor = Monitor(lambda done, total: heard.append((done, total)), lambda: len(heard) >= 3, 15)
    with pytest.raises(Cancelled):
        DecodeEngine(*tiny.consistent()).run(requests([30]), replace(PLAIN, max_context=64), monitor=monitor)
    assert len(heard) == 3
    assert sorted(heard) == heard
    assert 0 < heard[-1][0] < 15


def test_the_pace_counts_windows_and_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now)
    pace = Pace(positions=2, bars=4, decoding=8.0, spent=2.0)
    shares = []
    for opened, seconds in ((True, 6.0), (False, 1.0), (False, 1.0), (True, 6.0), (False, 1.0), (False, 1.0)):
        now += seconds
        shares.append(pace.share(read=int(opened)))
    # of 2 + 6 + 1 + 1 + 6 + 1 + 1 + 8 = 26 seconds; nothing is said before both kinds were seen
    assert shares == [0.0, *(pytest.approx(done / 26) for done in (9, 10, 16, 17, 18))]
    now += 100.0
    pace = Pace(positions=1, bars=3, decoding=0.0, spent=0.0)
    shares = []
    for seconds in (1.0, 1.0, 9.0, 1.0):  # one bar stumbles: what was told is not taken back
        now += seconds
        shares.append(pace.share(read=int(not shares)))
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_workers_share_the_paths_and_change_nothing() -> None:
    engine = DecodeEngine(*tiny.consistent())
    asked = requests([30], horizon=5, paths=40)
    with thread_count(1):
        alone = engine.run(asked, replace(PLAIN, max_context=64))
    heard: list[tuple[int, int]] = []
    with thread_count(2):
        assert len(engine.tasks(asked, 64)) == 2
        monitor = Monitor(lambda done, total: heard.append((done, total)), None, 200)
        together = engine.run(asked, replace(PLAIN, max_context=64), monitor=monitor)
        assert torch.get_num_threads() == 2
        with pytest.raises(Cancelled):
            engine.run(asked, replace(PLAIN, max_context=64), monitor=Monitor(cancel=lambda: True))
        assert torch.get_num_threads() == 2
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-5, atol=1e-5)
    assert sorted(heard) == heard
    assert heard[-1] == (200, 200)


def test_a_failing_task_stops_the_others() -> None:
    stop, begun = Event(), Event()

    def work(task: int) -> bool:
        if task == 0:
            begun.wait(10)
            raise ZeroDivisionError
        begun.set()
        return stop.wait(10)

    with pytest.raises(ZeroDivisionError):
        run_tasks(work, [0, 1], 2, stop)
    assert stop.is_set()


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before

    def fail() -> None:
        with thread_count(before + 2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before
