"""Loading is strict: what is damaged is refused with a reason, and before memory is taken."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kronos.errors import CheckpointError
from kronos.model import Kronos, KronosTokenizer
from kronos.model.network import FixedEmbedding

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(reference_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "checkpoint"
    shutil.copytree(reference_folder / "model", copy)
    return copy


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_saved_loads_as_it_was(tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, tmp_path: Path) -> None:
    for module, cls, kind in ((tiny_model, Kronos, "model"), (tiny_tokenizer, KronosTokenizer, "tokenizer")):
        module.train().save_pretrained(tmp_path / kind)
        back = cls.from_pretrained(tmp_path)
        assert not back.training
        assert back.config == module.config
        assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), module.state_dict().values()))


def test_our_files_hold_every_published_key(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, reference_folder: Path, tmp_path: Path
) -> None:
    for module, kind in ((tiny_model, "model"), (tiny_tokenizer, "tokenizer")):
        module.save_pretrained(tmp_path / kind)
        published, ours = (load_file(base / kind / WEIGHTS) for base in (reference_folder, tmp_path))
        assert {k: (v.shape, v.dtype) for k, v in published.items()} == {k: (v.shape, v.dtype) for k, v in ours.items()}
        published_config = json.loads((reference_folder / kind / "config.json").read_text())
        assert published_config.keys() <= json.loads((tmp_path / kind / "config.json").read_text()).keys()


def test_half_precision_files_become_float32(tiny_model: Kronos, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path, dtype=torch.float16)
    back = Kronos.from_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for p in back.parameters())
    torch.testing.assert_close(back.head.proj_s1.weight, tiny_model.head.proj_s1.weight, rtol=1e-3, atol=1e-3)


def test_a_missing_tensor(folder: Path) -> None:
    edit_weights(folder, lambda state: state.pop("norm.weight"))
    with pytest.raises(CheckpointError, match=r"lacks 'norm\.weight'"):
        Kronos.from_pretrained(folder)


def test_an_extra_tensor(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update(surprise=torch.zeros(3)))
    with pytest.raises(CheckpointError, match="unexpected 'surprise'"):
        Kronos.from_pretrained(folder)


def test_a_misshaped_tensor(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({"norm.weight": torch.ones(47)}))
    with pytest.raises(CheckpointError, match=r"shape \[47\], the config asks for \[48\]"):
        Kronos.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    edit_weights(folder, lambda state: state["norm.weight"].fill_(value))
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        Kronos.from_pretrained(folder)


def test_a_truncated_file(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        Kronos.from_pretrained(folder)


def test_an_oversized_file(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        Kronos.from_pretrained(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"nope"],
)
def test_a_file_that_is_no_safetensors(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError):
        Kronos.from_pretrained(folder)


def test_a_header_that_overlaps_its_tensors(folder: Path) -> None:
    header = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        }
    ).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        Kronos.from_pretrained(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"d_model": 10**8},
        {"n_layers": -1},
        {"s1_bits": 63},
        {"n_heads": 0},
        {"d_model": None},
        {"time_features": None},
        {"time_features": 5},
        {"calibration": [1]},
        {"calibration": {"width": {"horizon": [2, 1], "factor": [1, 1]}}},
        {"training_cutoff": 5},
    ],
)
def test_an_absurd_config(folder: Path, values: dict[str, object]) -> None:
    edit_config(folder, **values)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Kronos.from_pretrained(folder)


@pytest.mark.parametrize("cutoff", ["2025-06-30", {"crypto": "2025-06-30T12:00:00", "fx": "2024-01-01"}])
def test_the_cutoff_of_training_travels(tiny_model: Kronos, tmp_path: Path, cutoff: object) -> None:
    import dataclasses

    model = Kronos(dataclasses.replace(tiny_model.config, training_cutoff=cutoff))
    assert Kronos.from_pretrained(model.save_pretrained(tmp_path)).config.training_cutoff == cutoff


def test_a_large_config_takes_no_memory(folder: Path) -> None:
    # 256 layers of width 16,384 would be terabytes; the header is compared with the config first.
    edit_config(folder, d_model=16_384, n_layers=256, ff_dim=131_072)
    with pytest.raises(CheckpointError, match="lacks"):
        Kronos.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_config_that_is_no_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Kronos.from_pretrained(folder)


def test_names_that_lead_nowhere(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Kronos.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        Kronos.from_pretrained(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="unknown model 'gigantic'"):
        Kronos.from_pretrained("gigantic")
    with pytest.raises(CheckpointError, match=r"unknown model 'kronos-nanno'.*Did you mean 'kronos-nano'\?"):
        Kronos.from_pretrained("kronos-nanno")
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        Kronos.from_pretrained(folder)


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"hub cannot be reached.*kronos-nano"):
        Kronos.from_pretrained("NeoQuasar/Kronos-small", cache_dir=tmp_path)


def test_fixed_time_embeddings_stay_fixed(tiny_model: Kronos, tmp_path: Path) -> None:
    import dataclasses

    config = dataclasses.replace(tiny_model.config, learn_te=False)
    model = Kronos.init(config, seed=1)
    table = model.time_emb.minute_embed.emb.weight
    assert torch.equal(table, FixedEmbedding(60, config.d_model).emb.weight)
    model.save_pretrained(tmp_path)
    back = Kronos.from_pretrained(tmp_path)
    assert not back.time_emb.minute_embed.emb.weight.requires_grad
    assert back.head.proj_s1.weight.requires_grad


def test_without_a_network_the_hub_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its client alone would retry for half a minute."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")  # a name that never resolves
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "https://hub.invalid/{repo_id}")
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"hub cannot be reached.*kronos-nano"):
        Kronos.from_pretrained("NeoQuasar/Kronos-small", cache_dir=tmp_path)
    assert time.monotonic() - started < 5
