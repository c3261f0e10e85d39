"""Models over HTTP: which there are, loading and unloading them, and the memory they share."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Live, eventually

from kronos.errors import ConfigError
from kronos.model.checkpoint import EMBEDDED
from kronos.serve.child import Channel
from kronos.serve.settings import ServerSettings
from kronos.serve.worker import Worker, elements


def state(live: Live, id: str) -> str:
    return str(live.get(f"/api/models/{id}")["state"])


def load(live: Live, id: str, **body: Any) -> None:
    answer = live.client.post(f"/api/models/{id}/load", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] in ("loading", "loaded")
    eventually(lambda: state(live, id) != "loading")


def test_the_list_names_kinds_devices_and_memory(live: Live) -> None:
    found = live.get("/api/models")
    kinds = {item["id"]: item["kind"] for item in found["items"]}
    assert kinds["kronos-nano"] == "embedded"
    assert kinds["kronos-base"] == "family"
    assert kinds["local-tiny"] == "local"
    assert found["devices"][0] == "cpu"
    assert found["memory_budget_bytes"] > 0
    assert str(live.data) not in str(found)


def test_a_card_and_its_facts(live: Live) -> None:
    found = live.get("/api/models/kronos-nano")
    assert found["card"].lstrip("-\n").strip()
    assert found["training_cutoff"].startswith("2024-07-01")
    assert found["parameters"] > 1e6
    assert found["context"] == 512
    shown = live.get("/api/models/kronos-nano/card")["elements"]
    assert shown[0][0] == "h1"
    assert {"h2", "p", "table"} <= {part[0] for part in shown}


def test_a_card_is_taken_apart_and_no_tag_in_it_becomes_one() -> None:
    text = "---\nlicense: mit\n---\n# A *b*\n\n- [c](https://x.y)\n\n<b>d</b> ![e](http://x/y.png)\n\n```\nf\n```\n"
    assert elements(text) == [
        ["h1", None, "A ", ["em", None, "b"]],
        ["ul", None, ["li", None, ["a", "https://x.y", "c"]]],
        ["p", None, "<b>d</b> ", "e"],
        ["pre", None, ["code", None, "f\n"]],
    ]
    assert elements("[go](javascript:alert(3))") == [["p", None, "[go](javascript:alert(3))"]]


def test_loading_and_unloading(live: Live) -> None:
    load(live, "local-tiny", device="cpu")
    item = live.get("/api/models/local-tiny")
    assert (item["state"], item["device"], item["context"]) == ("loaded", "cpu", 64)
    assert live.get("/api/models")["memory_used_bytes"] >= item["bytes"] > 0
    answer = live.client.post("/api/models/local-tiny/unload")
    assert answer.json()["state"] == "unloaded"
    assert live.get("/api/models")["memory_used_bytes"] == 0
    assert live.result()["metadata"]["model"] == "local-tiny"  # loaded again by itself


def test_unknown_models_and_devices(live: Live) -> None:
    assert live.client.get("/api/models/nope").status_code == 404
    assert live.client.post("/api/models/nope/load").status_code == 404
    answer = live.client.post("/api/models/local-tiny/load", json={"device": "cuda:99"})
    assert answer.status_code == 422
    assert "cpu" in answer.json()["error"]["message"]


def test_a_damaged_checkpoint_says_so_without_a_path(live: Live, tiny: Path) -> None:
    broken = live.data / "models" / "broken"
    shutil.copytree(tiny, broken)
    weights = broken / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "local-broken" in {item["id"] for item in live.get("/api/models")["items"]}
    load(live, "local-broken")
    item = live.get("/api/models/local-broken")
    assert item["state"] == "failed"
    assert "model.safetensors" in item["error"]
    assert str(live.data) not in item["error"]
    assert "model.safetensors" in live.refused(422, model="local-broken")
    shutil.rmtree(broken)
    assert "local-broken" not in {item["id"] for item in live.get("/api/models")["items"]}


def test_a_refused_model_is_named_as_callers_know_it(tmp_path: Path) -> None:
    source = tmp_path / "my models" / "one"
    source.mkdir(parents=True)
    said = io.BytesIO()
    Worker(Channel(said)).handle(
        {"call": 1, "op": "load", "model": "local-one", "source": str(source), "device": "cpu"}
    )
    eventually(said.getvalue)
    message = json.loads(said.getvalue())["error"]["message"]
    assert "local-one" in message
    assert "models" not in message.replace("list_models", "")


def test_advice_about_a_loaded_model_holds_no_path_of_the_server(tmp_path: Path) -> None:
    source = tmp_path / "copy"
    shutil.copytree(EMBEDDED / "kronos-nano", source)
    worker = Worker(Channel(io.BytesIO()))
    worker.load("local-copy", str(source), "cpu")
    assert worker.models["local-copy"].loaded_by == "--model copy"


def test_a_link_out_of_the_folder_is_no_model(live: Live, tiny: Path) -> None:
    link = live.data / "models" / "elsewhere"
    link.symlink_to(tiny)
    assert "local-elsewhere" not in {item["id"] for item in live.get("/api/models")["items"]}
    link.unlink()


def test_models_share_a_budget_of_memory(own_server: Callable[..., Live], new_data: Callable[[], Path]) -> None:
    data = new_data()
    shutil.copytree(EMBEDDED / "kronos-nano", data / "models" / "copy")
    live = own_server("--model-memory", "90", data=data)
    load(live, "kronos-nano")
    load(live, "local-tiny")
    assert {state(live, id) for id in ("kronos-nano", "local-tiny")} == {"loaded"}
    load(live, "local-copy")  # too much: what was used least lately goes
    assert state(live, "local-copy") == "loaded"
    assert state(live, "kronos-nano") == "unloaded"
    assert state(live, "local-tiny") == "loaded"
    assert live.get("/api/models")["memory_used_bytes"] <= 90e6
    answer = live.client.post("/api/models/kronos-base/load")
    assert answer.status_code == 413
    assert "90 MB" in answer.json()["error"]["message"]
    assert "90 MB" in live.refused(422, model="kronos-base")  # a forecast cannot have it either


def test_a_model_from_elsewhere_with_its_tokenizer(own_server: Callable[..., Live], tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "model", tmp_path / "mine")
    shutil.copytree(tiny / "tokenizer", tmp_path / "theirs")
    live = own_server("--model", str(tmp_path / "mine"), "--tokenizer", str(tmp_path / "theirs"))
    kinds = {item["id"]: item["kind"] for item in live.get("/api/models")["items"]}
    assert (kinds["local-mine"], kinds["local-tiny"]) == ("local", "local")
    load(live, "local-mine")
    item = live.get("/api/models/local-mine")
    assert (item["state"], item["error"], item["context"]) == ("loaded", None, 64)
    assert live.result(model="local-mine")["metadata"]["model"] == "local-mine"
    shutil.rmtree(tmp_path / "theirs")
    live.client.post("/api/models/local-mine/unload")
    load(live, "local-mine")
    error = live.get("/api/models/local-mine")["error"]
    assert "its tokenizer" in error
    assert str(tmp_path) not in error


def test_a_model_that_is_not_here_yet_is_listed_unread(own_server: Callable[..., Live]) -> None:
    live = own_server("--model", "someone/mine")
    found = {item["id"]: item for item in live.get("/api/models")["items"]}["local-mine"]
    assert (found["downloaded"], found["parameters"], found["error"]) == (False, None, None)


def test_a_tokenizer_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name it with --model"):
        ServerSettings(data_dir=tmp_path, tokenizer="theirs")
