"""Equal to the published implementation: every array that it computed for the tiny checkpoint."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from kronos.model import Kronos, KronosTokenizer, token_loss, tokenizer_loss

TENSOR = {"rtol": 1e-5, "atol": 1e-5}

Arrays = dict[str, np.ndarray]


def as_tensor(reference: Arrays, name: str) -> torch.Tensor:
    return torch.from_numpy(reference[name])


def assert_equal(actual: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual.detach().numpy().reshape(expected.shape), expected, **TENSOR)


def assert_gradients(module: nn.Module, names: np.ndarray, norms: np.ndarray) -> None:
    parameters = dict(module.named_parameters())
    assert {str(name) for name in names} <= parameters.keys()
    for name, norm in zip(names, norms, strict=True):
        gradient = parameters[str(name)].grad
        found = 0.0 if gradient is None else float(gradient.norm())
        assert abs(found - norm) <= 1e-4 * norm + 1e-9, name


def test_the_reference_is_whole(reference: Arrays) -> None:
    assert set(reference) == {
        *("x", "stamp", "s1", "s2", "full_ids", "decode", "decode_full", "recon_pre", "recon", "bsq_loss_eval"),
        *("quantized", "s1_logits", "context", "next_s1", "s2_logits_decode", "s1_logits_nostamp", "tf_s2_logits"),
        *("tf_loss", "grad_norms_names", "grad_norms", "tok_loss", "tok_grad_names", "tok_grad_norms"),
    }


def test_encode(reference: Arrays, tiny_tokenizer: KronosTokenizer) -> None:
    x = as_tensor(reference, "x")
    s1, s2 = tiny_tokenizer.encode(x, half=True)
    assert np.array_equal(s1.numpy(), reference["s1"])
    assert np.array_equal(s2.numpy(), reference["s2"])
    assert np.array_equal(tiny_tokenizer.encode(x).numpy(), reference["full_ids"])


def test_decode(reference: Arrays, tiny_tokenizer: KronosTokenizer) -> None:
    pair = (as_tensor(reference, "s1"), as_tensor(reference, "s2"))
    assert_equal(tiny_tokenizer.decode(pair, half=True), reference["decode"])
    assert_equal(tiny_tokenizer.decode(as_tensor(reference, "full_ids")), reference["decode_full"])


def test_reconstruct(reference: Arrays, tiny_tokenizer: KronosTokenizer) -> None:
    (coarse, full), loss, quantized, ids = tiny_tokenizer(as_tensor(reference, "x"))
    assert_equal(coarse, reference["recon_pre"])
    assert_equal(full, reference["recon"])
    assert_equal(loss, reference["bsq_loss_eval"])
    assert_equal(quantized, reference["quantized"])
    assert np.array_equal(ids.numpy(), reference["full_ids"])


def test_network(reference: Arrays, tiny_model: Kronos) -> None:
    s1, s2, stamp = (as_tensor(reference, name) for name in ("s1", "s2", "stamp"))
    logits, hidden = tiny_model.decode_s1(s1, s2, stamp)
    assert_equal(logits, reference["s1_logits"])
    assert_equal(hidden, reference["context"])
    next_s1 = as_tensor(reference, "next_s1").view(-1, 1)
    assert np.array_equal(logits[:, -1].argmax(-1).numpy(), reference["next_s1"].ravel())
    assert_equal(tiny_model.decode_s2(hidden, next_s1)[:, -1], reference["s2_logits_decode"])
    assert_equal(tiny_model.decode_s1(s1, s2)[0], reference["s1_logits_nostamp"])


def test_teacher_forced_loss_and_gradients(reference: Arrays, tiny_model: Kronos) -> None:
    s1, s2, stamp = (as_tensor(reference, name) for name in ("s1", "s2", "stamp"))
    s1_logits, s2_logits = tiny_model(
        s1[:, :-1], s2[:, :-1], stamp[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:]
    )
    assert_equal(s2_logits, reference["tf_s2_logits"])
    loss, parts = token_loss(s1_logits, s2_logits, s1[:, 1:], s2[:, 1:])
    np.testing.assert_allclose(
        [loss.item(), parts["s1"].item(), parts["s2"].item()], reference["tf_loss"], rtol=1e-5, atol=1e-5
    )
    loss.backward()
    assert_gradients(tiny_model, reference["grad_norms_names"], reference["grad_norms"])


def test_tokenizer_loss_and_gradients(reference: Arrays, tiny_tokenizer: KronosTokenizer) -> None:
    loss, parts = tokenizer_loss(tiny_tokenizer, as_tensor(reference, "x"))
    np.testing.assert_allclose([loss.item(), parts["quantizer"].item()], reference["tok_loss"], rtol=1e-5, atol=1e-5)
    loss.backward()
    assert_gradients(tiny_tokenizer, reference["tok_grad_names"], reference["tok_grad_norms"])
