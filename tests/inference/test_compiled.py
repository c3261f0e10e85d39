"""The compiled steps against the same judge as torch's, and against torch's own draws."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from kronos.errors import ConfigError, MissingExtraError
from kronos.inference import engine as engines
from kronos.inference import kernels, products
from kronos.inference.compiled import make_matrix
from kronos.inference.decode import DecodeBatch
from kronos.inference.engine import DecodeEngine, DecodeRequest
from kronos.inference.fused import FusedModel, Linear
from kronos.inference.kernel_types import Draw, Stack
from kronos.inference.pair import load_pair
from kronos.inference.sampling import sample_token, uniforms
from kronos.inference.settings import DecodeSettings
from kronos.model.checkpoint import HubOptions


@pytest.mark.parametrize("settings", [tiny.GREEDY, tiny.PLAIN, tiny.NUCLEUS], ids=["greedy", "plain", "nucleus"])
@pytest.mark.parametrize("case", tiny.CASES)
@pytest.mark.parametrize("pair", tiny.PAIRS)
def test_same_tokens_as_the_oracle(pair: str, case: str, settings: DecodeSettings) -> None:
    series, context, horizon, paths, max_context, stride = tiny.CASES[case]
    batch = tiny.batch(series, context, horizon, paths)
    window = {"max_context": max_context, "window_stride": stride}
    s1, s2, features = tiny.judge(tiny.PAIRS[pair](), batch, settings, **window)
    ours = tiny.run(tiny.PAIRS[pair](), batch, settings, compiled=True, **window)
    assert torch.equal(ours.s1, s1)
    assert torch.equal(ours.s2, s2)
    torch.testing.assert_close(ours.features, features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", tiny.PAIRS)
@pytest.mark.parametrize("paths", [1, 17])
def test_ragged_equals_alone(pair: str, paths: int) -> None:
    lengths = [9, 33, 40, 1]  # with 17 paths the rows of a series stand in several blocks
    batch = tiny.batch(4, 40, 8, paths, lengths)
    together = tiny.run(tiny.PAIRS[pair](), batch, tiny.PLAIN, compiled=True, max_context=64)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        past = batch.features[one, :length], [length], batch.stamps[one, :length]
        alone = DecodeBatch(*past, batch.future[one], batch.uniforms[one])
        for compiled in (True, False):
            single = tiny.run(tiny.PAIRS[pair](), alone, tiny.PLAIN, compiled=compiled, max_context=64)
            assert torch.equal(together.s1[one], single.s1)
            assert torch.equal(together.s2[one], single.s2)
            torch.testing.assert_close(together.features[one], single.features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [(0, 0, 1), (1, 1, 1), (1, 0, 1), (0.7, 0, 0.9), (1.5, 20, 1), (1, 50, 0.5), (1, 0, 1e-6)]
)
def test_draws_equal_those_of_torch(settings: tuple[float, int, float]) -> None:
    draw = np.random.default_rng(0)
    logits = (3 * draw.normal(size=(200, 1024))).astype(np.float32)
    logits[::3] = np.round(logits[::3])  # many equal ones
    numbers = uniforms(0, [b"draws"], 100, 1).reshape(200)
    theirs = sample_token(torch.from_numpy(logits), torch.from_numpy(numbers), DecodeSettings(*settings))
    greedy = DecodeSettings(*settings).greedy
    ask = Draw(0.0 if greedy else float(settings[0]), settings[1], float(settings[2]))
    ours = [kernels.draw_token(row.copy(), number, ask) for row, number in zip(logits, numbers, strict=True)]
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_exponentials() -> None:
    x = np.linspace(-87, 88, 5000, dtype=np.float32)
    ours = np.array([kernels.exponential(value) for value in x])
    np.testing.assert_allclose(ours, np.exp(x.astype(np.float64)), rtol=2e-7)
    assert 0 <= kernels.exponential(np.float32(-np.inf)) < 1e-37


def request(paths: int, horizon: int = 6) -> DecodeRequest:
    batch = tiny.batch(1, 40, horizon, paths)
    stamps = torch.cat((batch.stamps, batch.future), dim=1)[0].numpy()
    return DecodeRequest(batch.features[0].numpy(), stamps, batch.uniforms[0].numpy())


def test_the_engine_gives_the_same_paths_either_way() -> None:
    asked = [request(1), request(3), request(40)]
    fast, plain = (
        DecodeEngine(*tiny.consistent(), compiled=compiled).run(
            asked, replace(tiny.NUCLEUS, max_context=44, window_stride=4)
        )
        for compiled in (True, False)
    )
    for ours, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)


def test_the_size_of_the_request_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DecodeEngine(*tiny.consistent())
    assert engine.compiles([request(3)]) is False
    monkeypatch.setattr(engines, "WORTH_COMPILING", 1)
    assert engine.compiles([request(3)]) is True
    assert DecodeEngine(*tiny.consistent(), compiled=False).compiles([request(3)]) is False
    rough = DecodeEngine(*tiny.consistent(), dtype="bfloat16", compiled=False)
    assert rough.compiles([request(3)]) is False
    assert rough.weights()[0].dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_rounded_weights_stay_close(dtype: str) -> None:
    asked = [request(40, horizon=1)]
    exact = DecodeEngine(*tiny.consistent()).run(asked, replace(tiny.PLAIN, max_context=64))[0]
    engine = DecodeEngine(*tiny.consistent(), dtype=dtype)
    assert engine.compiles(asked)
    rough = engine.run(asked, replace(tiny.PLAIN, max_context=64))[0]
    same = np.isclose(rough, exact, rtol=1e-4, atol=1e-4).all(axis=(1, 2))
    assert same.mean() >= (0.8 if dtype == "int8" else 0.97)  # the others drew another token


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize(("inputs", "outputs"), [(48, 40), (33, 7), (6, 5), (1, 1), (1500, 1500)])
@pytest.mark.parametrize("dtype", ["float32", "int16", "int8"])
def test_products(dtype: str, inputs: int, outputs: int, rows: int) -> None:
    draw = torch.Generator().manual_seed(inputs)
    weight, bias, x = (torch.randn(shape, generator=draw) for shape in ((outputs, inputs), outputs, (rows, inputs)))
    layers = [Linear(weight * factor, bias, torch.float32) for factor in (1, 2)]
    kept = make_matrix(layers, dtype)
    out = np.full((rows + 1, outputs), 7, np.float32)
    products.linear(out, x.numpy(), kept, 1)
    rounded = 2 * weight
    if dtype != "float32":
        level = rounded.abs().amax(1, keepdim=True) / (127 if dtype == "int8" else 32767)
        rounded = (rounded / level).round() * level
    expected = (x.double() @ rounded.double().T + bias).numpy()
    np.testing.assert_allclose(out[:rows], expected, rtol=1e-4, atol=2e-4)
    assert (out[rows] == 7).all()


def test_sixteen_bits_are_closer_to_the_weights_than_bfloat16() -> None:
    with torch.no_grad():
        net = FusedModel(load_pair("kronos-nano", None, HubOptions())[0], torch.float32)
    off = {"int16": 0.0, "bfloat16": 0.0}
    for linear in (net.head_s1, *(getattr(block, name) for block in net.stack.blocks for name in Stack._fields)):
        kept = make_matrix([linear], "int16")
        halves = kept.weight[0].view(np.int16).reshape(-1, linear.outputs, 2)  # two inputs of every output
        levels = torch.from_numpy(halves.swapaxes(1, 2).reshape(-1, linear.outputs)[: linear.inputs].T * kept.scale.T)
        for name, rounded in (("int16", levels), ("bfloat16", linear.weight.bfloat16().float())):
            off[name] += float((rounded - linear.weight).double().pow(2).sum())
    ratio = (off["bfloat16"] / off["int16"]) ** 0.5
    assert 50 < ratio < 60  # docs/performance.md says 56


def test_kept_machine_code_follows_its_products() -> None:
    digest = hashlib.sha256(Path(products.__file__).read_bytes()).hexdigest()[:16]
    assert digest == kernels.PRODUCTS, f'write PRODUCTS = "{digest}" into kernels.py, so that numba compiles anew'


def test_what_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="int8"):
        DecodeEngine(*tiny.consistent(), dtype="int8", compiled=False)
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install 'numba"):
        DecodeEngine(*tiny.consistent(), compiled=True)
    with pytest.raises(MissingExtraError, match="numba"):
        DecodeEngine(*tiny.consistent(), dtype="int8")
    assert DecodeEngine(*tiny.consistent()).compiled is False
    assert DecodeEngine(*tiny.consistent(), dtype="bfloat16").compiled is False  # torch's
