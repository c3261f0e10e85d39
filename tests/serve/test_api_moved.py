"""Addresses of the published web app."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from kronos.serve.moved import MOVED, moved

POSTED = ("load-data", "predict", "load-model")


@pytest.mark.parametrize("name", MOVED)
def test_they_name_ours(name: str) -> None:
    app = FastAPI()
    app.include_router(moved)
    answer = TestClient(app).request("POST" if name in POSTED else "GET", f"/api/{name}")
    assert answer.status_code == 410
    assert MOVED[name] in answer.text
