"""The tiny reference: tensors of the published implementation, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kronos.model import Kronos, KronosTokenizer

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    return REFERENCE


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "tensors.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def tiny_tokenizer() -> KronosTokenizer:
    return KronosTokenizer.from_pretrained(REFERENCE)


@pytest.fixture
def tiny_model() -> Kronos:
    return Kronos.from_pretrained(REFERENCE)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
