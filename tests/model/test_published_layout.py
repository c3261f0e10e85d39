"""What the published constructors can take, and what they must not be able to swallow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.model.checkpoint import EMBEDDED

# Arguments that the published constructors require; their loader takes them from the top level of config.json.
MODEL = (
    "s1_bits", "s2_bits", "n_layers", "d_model", "n_heads", "ff_dim", "ffn_dropout_p", "attn_dropout_p",
    "resid_dropout_p", "token_dropout_p", "learn_te",
)  # fmt: skip
TOKENIZER = (
    "d_in", "d_model", "n_heads", "ff_dim", "n_enc_layers", "n_dec_layers", "ffn_dropout_p", "attn_dropout_p",
    "resid_dropout_p", "s1_bits", "s2_bits", "beta", "gamma0", "gamma", "zeta", "group_size",
)  # fmt: skip


def taken(folder: Path, required: tuple[str, ...]) -> bool:
    """Whether a published constructor would be called with all that it needs."""
    return required_of(json.loads((folder / "config.json").read_text()), required)


def required_of(config: dict[str, Any], required: tuple[str, ...]) -> bool:
    return all(name in config for name in required)


def test_published_pairs_keep_the_published_layout(
    tmp_path: Path, tiny_model: Kronos, tiny_tokenizer: KronosTokenizer
) -> None:
    assert set(json.loads((tiny_model.save_pretrained(tmp_path / "m") / "config.json").read_text())) == set(MODEL)
    saved = tiny_tokenizer.save_pretrained(tmp_path / "t") / "config.json"
    assert set(json.loads(saved.read_text())) == set(TOKENIZER)


def test_consistent_models_are_not_taken(tmp_path: Path, tiny_model: Kronos) -> None:
    ours = Kronos(dataclasses.replace(tiny_model.config, consistent=True))
    folder = ours.save_pretrained(tmp_path)
    assert Kronos.from_pretrained(folder).config == ours.config
    assert not taken(folder, MODEL)


@pytest.mark.parametrize(
    "change",
    [{"bar_transform": "returns"}, {"bar_transform": "running"}, {"quantizer": "fsq"}, {"s1_bits": 4, "s2_bits": 8}],
)
def test_tokenizers_that_it_cannot_compute_are_not_taken(
    tmp_path: Path, tiny_tokenizer: KronosTokenizer, change: dict[str, Any]
) -> None:
    ours = KronosTokenizer(dataclasses.replace(tiny_tokenizer.config, **change))
    folder = ours.save_pretrained(tmp_path)
    assert KronosTokenizer.from_pretrained(folder).config == ours.config
    assert not taken(folder, TOKENIZER)


@pytest.mark.parametrize(("kind", "required"), [("model", MODEL), ("tokenizer", TOKENIZER)])
def test_the_packaged_checkpoint_is_not_taken(kind: str, required: tuple[str, ...]) -> None:
    assert not taken(EMBEDDED / "kronos-nano" / kind, required)


def test_old_layouts_of_ours_are_read(tmp_path: Path, tiny_model: Kronos) -> None:
    folder = tiny_model.save_pretrained(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "consistent": True, "max_context": 64}))
    assert Kronos.from_pretrained(folder).config == dataclasses.replace(
        tiny_model.config, consistent=True, max_context=64
    )


# -- constructors, attributes, calls ----------------------------------------------------------------------------------


def test_keyword_constructors(tiny_model: Kronos, tiny_tokenizer: KronosTokenizer) -> None:
    model = Kronos(**{name: getattr(tiny_model.config, name) for name in MODEL})
    tokenizer = KronosTokenizer(**{name: getattr(tiny_tokenizer.config, name) for name in TOKENIZER})
    assert (model.config, tokenizer.config) == (tiny_model.config, tiny_tokenizer.config)
    model.load_state_dict(tiny_model.state_dict())
    with pytest.raises(TypeError, match="depth"):
        Kronos(**{name: getattr(tiny_model.config, name) for name in MODEL}, depth=3)


def test_a_network_from_its_fields_has_weights(tiny_model: Kronos) -> None:
    torch.manual_seed(5)
    first = Kronos(*tiny_model.config.shape().values())
    torch.manual_seed(5)
    again = Kronos(**tiny_model.config.shape())
    assert first.config == again.config == tiny_model.config
    assert torch.equal(first.head.proj_s1.weight, again.head.proj_s1.weight)
    assert not first.head.proj_s1.bias.any()  # as published: drawn by Xavier, biases 0
    assert float(first.embedding.emb_s1.weight.detach().std()) == pytest.approx(
        tiny_model.config.d_model**-0.5, rel=0.1
    )


def test_the_embedding_takes_a_pair(tiny_model: Kronos) -> None:
    s1, s2 = torch.tensor([[3, 5]]), torch.tensor([[1, 0]])
    assert torch.equal(tiny_model.embedding([s1, s2]), tiny_model.embedding(s1, s2))
    with pytest.raises(ValueError, match="split joint ids"):
        tiny_model.embedding(s1)


def test_fields_stand_in_the_published_order() -> None:
    """So that arguments may be given by position."""
    assert tuple(field.name for field in dataclasses.fields(KronosConfig))[: len(MODEL)] == MODEL
    assert tuple(field.name for field in dataclasses.fields(TokenizerConfig))[: len(TOKENIZER)] == TOKENIZER


def test_shapes_are_attributes(tiny_model: Any, tiny_tokenizer: Any) -> None:
    for module, names in ((tiny_model, MODEL), (tiny_tokenizer, set(TOKENIZER) - {"n_enc_layers", "n_dec_layers"})):
        for name in set(names) - {"beta", "gamma0", "gamma", "zeta", "group_size"}:
            assert getattr(module, name) == getattr(module.config, name), name
    assert tiny_model.s1_vocab_size == 2**6
    assert (tiny_tokenizer.codebook_dim, tiny_tokenizer.enc_layers, tiny_tokenizer.dec_layers) == (12, 3, 3)


def test_indices_to_bits(tiny_tokenizer: Any) -> None:
    s1, s2 = torch.tensor([[0, 5]]), torch.tensor([[63, 1]])
    found = tiny_tokenizer.indices_to_bits([s1, s2], half=True) * 12**0.5
    assert found[0, 1].tolist() == pytest.approx([1, -1, 1, -1, -1, -1, 1, -1, -1, -1, -1, -1])
    assert torch.equal(tiny_tokenizer.indices_to_bits(s1 + (s2 << 6)) * 12**0.5, found)


def test_compute_loss(tiny_model: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 5, 64, generator=draw) for _ in range(2)]
    targets = [torch.randint(64, (2, 5), generator=draw) for _ in range(2)]
    loss, s1, s2 = tiny_model.head.compute_loss(*logits, *targets)
    nats = [-one.log_softmax(-1).gather(-1, true[..., None]).squeeze(-1) for one, true in zip(logits, targets)]
    torch.testing.assert_close((loss, s1, s2), ((nats[0] + nats[1]).mean() / 2, nats[0].mean(), nats[1].mean()))
    padding = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    _, s1, _ = tiny_model.head.compute_loss(*logits, *targets, padding_mask=padding)
    torch.testing.assert_close(s1, nats[0][padding == 0].mean())
    hidden = torch.randn(1, 3, 48, generator=draw)
    assert torch.equal(tiny_model.head(hidden), tiny_model.head.proj_s1(hidden))
    assert torch.equal(tiny_model.head.cond_forward(hidden), tiny_model.head.proj_s2(hidden))


@torch.no_grad()
def test_decode_s2(tiny_model: Any) -> None:
    s1, s2 = torch.randint(64, (2, 2, 9), generator=torch.Generator().manual_seed(1))
    _, hidden = tiny_model.decode_s1(s1, s2)
    one = tiny_model.decode_s2(context=hidden, s1_ids=s1[:, -1:])
    assert one.shape == (2, 9, 64)  # each hidden state plus the one answer; the last row is the next bar's
    fine = tiny_model.decode_s2(context=hidden, s1_ids=s1)
    _, trained = tiny_model(s1, s2, use_teacher_forcing=True, s1_targets=s1)
    torch.testing.assert_close(fine, trained)  # a token for every bar: rotated, as in training


# -- the hub's words --------------------------------------------------------------------------------------------------


def test_hub_arguments(tmp_path: Path, tiny_model: Any) -> None:
    tiny_model.save_pretrained(save_directory=tmp_path)
    words = {"force_download": False, "token": None, "local_files_only": True, "cache_dir": tmp_path / "cache"}
    Kronos.from_pretrained(pretrained_model_name_or_path=tmp_path, **words)


@pytest.mark.parametrize("word", ["proxies", "resume_download", "strict", "map_location", "dropout"])
def test_other_words_of_the_hub_are_refused(tmp_path: Path, tiny_model: Any, word: str) -> None:
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=word):
        Kronos.from_pretrained(tmp_path, **{word: None})


def copied(module: Kronos | KronosTokenizer, folder: Path) -> Path:
    return module.save_pretrained(folder)


@pytest.mark.parametrize(
    ("model", "tokenizer", "named"),
    [
        ("Kronos-small", "Kronos-Tokenizer-base", "Kronos-small"),
        ("run/basemodel/best_model", "run/tokenizer/best_model", "run"),
        ("run/basemodel/best_model", "run/tokenizer/best_model", "run/basemodel/best_model"),
        ("finetune_predictor_demo/checkpoints/best_model", "finetune_tokenizer_demo/checkpoints/best_model", "."),
    ],
)
def test_folders_as_people_have_them(
    tmp_path: Path, tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, model: str, tokenizer: str, named: str
) -> None:
    from kronos import KronosPredictor

    copied(tiny_model, tmp_path / model)
    copied(tiny_tokenizer, tmp_path / tokenizer)
    assert KronosPredictor.from_pretrained(tmp_path / named, "cpu").model.config == tiny_model.config


def test_a_wrong_half_is_called_by_its_name(tmp_path: Path, tiny_tokenizer: KronosTokenizer) -> None:
    with pytest.raises(OSError, match="holds a tokenizer"):
        Kronos.from_pretrained(copied(tiny_tokenizer, tmp_path))


def test_what_a_wrong_folder_holds_is_said(tmp_path: Path, tiny_model: Kronos) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OSError, match=r"It holds notes\.txt; name a folder with"):
        Kronos.from_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"holds a model, and no tokenizer.*--tokenizer"):
        KronosTokenizer.from_pretrained(copied(tiny_model, tmp_path / "alone"))


def test_newer_and_mixed_layouts_are_refused(tmp_path: Path) -> None:
    for values, words in (
        ({"format": "kronos-kline/9", "model": {}}, "update kronos-kline"),
        ({"format": "kronos-kline/2", "model": {}, "d_model": 8}, "needs one section"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(OSError, match=words):
            Kronos.from_pretrained(tmp_path)


def test_a_pair_in_one_repository(
    tmp_path: Path, tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the hub's cache, without a network, by the first digits of a commit."""
    from kronos import KronosPredictor

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "901c26c1" * 5
    words: dict[str, Any] = {"cache_dir": tmp_path, "local_files_only": True}
    repository = tmp_path / "models--someone--mine"
    KronosPredictor(tiny_model, tiny_tokenizer, "cpu").save_pretrained(repository / "snapshots" / commit)
    for revision in (commit, commit[:7]):
        assert Kronos.from_pretrained("someone/mine", revision=revision, **words).config == tiny_model.config
        found = KronosTokenizer.from_pretrained("someone/mine", revision=revision, **words)
        assert found.config == tiny_tokenizer.config


def test_both_halves_of_a_pair_are_asked_for_alike(
    tmp_path: Path, tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kronos import KronosPredictor

    KronosPredictor(tiny_model, tiny_tokenizer, "cpu").save_pretrained(tmp_path)
    asked: list[dict[str, Any]] = []

    def download(repo_id: str, filename: str, **words: Any) -> str:
        asked.append(words)
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    words = {"cache_dir": tmp_path / "cache", "token": "secret", "local_files_only": True, "force_download": True}
    found = KronosPredictor.from_pretrained("someone/mine", "cpu", "trial", **words)  # type: ignore[arg-type]
    assert found.model.config == tiny_model.config
    assert asked == [{"revision": "trial", **words}] * 4  # config and weights of either half
    asked.clear()
    KronosPredictor.from_pretrained("someone/mine", "cpu", "trial", tokenizer="someone/theirs", **words)  # type: ignore[arg-type]
    assert asked == [{"revision": revision, **words} for revision in ("trial", "trial", None, None)]


@pytest.mark.parametrize("pair", [False, True])
def test_push_to_hub(
    tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, pair: bool
) -> None:
    from types import SimpleNamespace

    from kronos import KronosPredictor

    asked: dict[str, Any] = {}

    class Hub:
        """What is asked of the hub; a name alone belongs to whom the token belongs to."""

        def __init__(self, token: str | None) -> None:
            asked["token"] = token

        def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            asked.update(private=private, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, *, folder_path: str, **words: Any) -> str:
            asked.update(words, files=sorted(file.parent.name for file in Path(folder_path).rglob("config.json")))
            return f"https://hub/{words['repo_id']}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    whole = KronosPredictor(tiny_model, tiny_tokenizer, "cpu") if pair else tiny_model
    done = whole.push_to_hub("mine", token="secret", branch="trial", commit_message="a try", create_pr=True)
    assert done == "https://hub/me/mine"
    assert asked.pop("files") == ["model", "tokenizer"] if pair else len(asked.pop("files")) == 1
    assert asked == {
        **{"token": "secret", "private": None, "exist_ok": True, "repo_id": "me/mine"},
        **{"revision": "trial", "commit_message": "a try", "create_pr": True},
    }
